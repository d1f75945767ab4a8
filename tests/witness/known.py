"""What other vendors' servers do differently from the real service, one by one: each is expected to fail, and must.

A test that passes all the same, and an entry that no test has, fail the run: the list is never longer than the truth.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pytest

ADDED = ("x_emulator_", "x_testbench_")
"""Custom metadata that storage-testbench adds to every object. The contract suite overlooks them; the handler does not,
and takes them away by a patch."""


def _of(names: Iterable[str], reason: str) -> dict[str, str]:
    return dict.fromkeys(names, reason)


_LOOP = "witness/test_loop.py::test_a_key_is_the_name_of_its_copy"
_SOURCE = "contract/test_source.py::test_keys_are_taken_as_they_are"
_DESTINATION = "contract/test_destination.py"

GCS: Mapping[str, Mapping[str, str]] = {
    "storage-testbench": {
        **_of(
            [f"{_LOOP}[{kind}-{key}]" for kind in ("plain", "versioned") for key in ("//", "/lead")],
            "its web framework takes %2F for a slash and merges slashes, so it does not find names that begin with one",
        ),
        **_of(
            [f"{_DESTINATION}::test_awkward_names_survive_and_stay_apart[gcs-url]"],
            "the same: one of the names is `//`",
        ),
        **_of(
            [f"{_DESTINATION}::test_composed_parts_are_one_object_in_their_order[gcs-url-{n}]" for n in (1, 2, 32)],
            "it gives a composed object an MD5, which GCS does not have, and does not know deleteSourceObjects",
        ),
        **_of(
            [f"{_DESTINATION}::test_a_put_on_a_generation_where_nothing_is_is_moved[gcs-url]"],
            "it answers 500, by an AttributeError, where ifMetagenerationMatch meets no object; GCS answers 412",
        ),
    },
}
"""By the server's name: the test, below `tests/`, and why it fails there."""

_KINDS = [f"{client}-url{versioned}" for client in ("s3", "boto3") for versioned in ("", " versioned")]
S3: Mapping[str, Mapping[str, str]] = {
    "seaweedfs": {
        **_of(
            [f"{_SOURCE}[{kind}-{key}]" for kind in _KINDS for key in ("a/../b", "a/./b")]
            + [f"{_LOOP}[{kind}-{key}]" for kind in ("plain", "versioned") for key in ("a/../b", "a/./b")],
            "it refuses keys with the segments `.` and `..`, as keys are paths of its file system",
        ),
        **_of(
            [f"{_SOURCE}[{kind}-{key}]" for kind in _KINDS for key in ("dir/", "a//b/")]
            + [f"{_LOOP}[{kind}-dir/]" for kind in ("plain", "versioned")],
            "a key that ends with a slash is a folder: its bytes are lost; the handler refuses to store what it gets",
        ),
        **_of(
            [f"{_SOURCE}[{kind}-//]" for kind in ("s3-url", "boto3-url")] + [f"{_LOOP}[plain-//]"],
            "it does not find the key `//` again, and lists it as the empty one",
        ),
        **_of(
            [f"{_SOURCE}[{kind}-key8]" for kind in ("s3-url", "boto3-url")] + [f"{_LOOP}[plain-1024 letters]"],
            "a segment of a key has 255 bytes at most, as a file's name",
        ),
    },
    "ceph": {},
}
"""The same of S3's."""

BY_CHANCE: Mapping[str, Mapping[str, str]] = {
    "ceph": _of(
        [f"contract/test_source.py::test_new_tags_are_seen_and_are_no_new_state[{kind}]" for kind in _KINDS],
        "new tags change an object's Last-Modified, which shows where a second ends in between",
    ),
}
"""What fails at times, by the server's name."""


def expect(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the tests that the named servers are known to fail.

    Raises:
        pytest.UsageError: the list names a test that is not there.
    """
    servers = [name for option in ("--gcs-server", "--s3-server") if (name := config.getoption(option))]
    known: dict[str, tuple[str, bool]] = {}
    for server in servers:
        known |= {test: (reason, True) for test, reason in {**GCS, **S3}[server].items()}
        known |= {test: (reason, False) for test, reason in BY_CHANCE.get(server, {}).items()}
    for item in items:
        if found := known.pop(item.nodeid.removeprefix("tests/"), None):
            reason, strict = found
            item.add_marker(pytest.mark.xfail(strict=strict, reason=reason))
    files = {item.nodeid.partition("::")[0].removeprefix("tests/") for item in items}
    stale = [name for name in known if name.partition("::")[0] in files]
    if stale and not any("::" in argument for argument in config.args):
        raise pytest.UsageError("tests/witness/known.py names tests that are not there: " + ", ".join(stale))
