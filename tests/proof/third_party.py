"""What somebody else does to the replicator's copies: people, other tools, the bucket's own lifecycle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from handler.core.model import Generation, Stamp
from tests.proof.history import History
from tests.proof.invariants import UNKNOWN
from tests.proof.world import FOREIGN, PROVENANCE, Copy

_NEW = ("key", "rule", "crc32c")
"""Notes on a copy that earlier releases did not make."""


def _restamped(change: Callable[[Stamp], Stamp]) -> Callable[[History, Copy, int], Copy]:
    def deed(history: History, copy: Copy, generation: int) -> Copy:
        del generation  # the bytes stay
        now = copy.generation._replace(metageneration=copy.generation.metageneration + 1)
        return copy._replace(carried=history.carried(change(history.stamp(copy.carried))), generation=now)

    return deed


def _with_headers(stamp: Stamp) -> Stamp:
    return replace(stamp, headers=stamp.headers._replace(content_type="text/other", cache_control=None))


def _with_metadata(stamp: Stamp) -> Stamp:
    return replace(stamp, metadata={**stamp.metadata, "m": "other"})


def _with_more(stamp: Stamp) -> Stamp:
    return replace(stamp, metadata={**stamp.metadata, "stray": "more"})


def _without_new(stamp: Stamp) -> Stamp:
    gone = {PROVENANCE + name for name in _NEW}
    return replace(stamp, metadata={name: value for name, value in stamp.metadata.items() if name not in gone})


def _aged(history: History, copy: Copy, generation: int) -> Copy:
    return _restamped(_without_new)(history, copy, generation)._replace(rule=UNKNOWN)


def _stripped(history: History, copy: Copy, generation: int) -> Copy:
    bare = _restamped(lambda stamp: replace(stamp, metadata={}))(history, copy, generation)
    return bare._replace(key="", rule="", state=FOREIGN)


def _with_bytes(history: History, copy: Copy, generation: int) -> Copy:
    del history
    return copy._replace(content="!" * len(copy.content), generation=Generation(generation, 1))


def _gone(history: History, copy: Copy, generation: int) -> None:
    del history, copy, generation


Deed = Callable[[History, Copy, int], Copy | None]
DEEDS: dict[str, Deed] = {
    "headers": _restamped(_with_headers),
    "metadata": _restamped(_with_metadata),
    "more": _restamped(_with_more),
    "strip": _stripped,
    "bytes": _with_bytes,
    "removal": _gone,
    "class": _restamped(lambda stamp: replace(stamp, storage_class="COLDLINE")),
    "age": _aged,
}
"""Each: the history, the copy and a new generation to what is there then. "bytes" keeps their number and the metadata;
"strip" leaves no metadata; "class" is what a lifecycle rule does; "age" makes it a copy of an earlier release."""
