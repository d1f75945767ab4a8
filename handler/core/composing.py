"""Staged parts on their way to a copy: held against S3's checksums, and composed, 32 at a time."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace

from handler.core.checksums import merge
from handler.core.errors import Corrupt, Moved, NotFound, Unavailable
from handler.core.model import ABSENT, Generation, Replica, Span, Stamp
from handler.core.partials import OWN, Layout, encoded, expected, merged, of_object
from handler.core.plan import StagedPart, layout_of, layout_of_whole
from handler.core.staging import BARE, CRC32C, SUMS, VERIFIED, Staging, sweep
from handler.core.task import CopyTask

FAN = 32
"""Objects that one compose takes. https://cloud.google.com/storage/docs/composite-objects."""


def join_span(staging: Staging, task: CopyTask, parts: Sequence[StagedPart]) -> StagedPart:
    """Compose the parts of a whole span into one object, a block.

    Raises:
        Moved: another is composing them.
        Corrupt: an S3 part is not what S3 says it is. Its fragments are gone.
        Unavailable: time ran out. What was joined remains.
    """
    name = staging.plan.block(task.span)
    if [part.name for part in parts] == [name]:
        return parts[0]
    parts = verified_parts(staging, layout_of(task), parts)
    while len(parts) > FAN:
        parts = [_union(staging, staging.plan.union(_run(g), of_blocks=False), g) for g in _groups(parts)]
    return _union(staging, name, parts)


def verified_parts(staging: Staging, layout: Layout, parts: Sequence[StagedPart]) -> list[StagedPart]:
    """Return the parts with their CRC32C, after each S3 part that they cover was held against its checksum.

    Raises:
        Corrupt: an S3 part is not what S3 says it is. Its fragments are gone.
    """
    known = _with_crc32c(staging, parts)
    for (lies, s3_part), group in itertools.groupby(known, key=lambda part: layout.at(part.start)):
        fragments = list(group)
        if not s3_part.checksum or _run(fragments) != lies or not all(part.checksums for part in fragments):
            continue
        (found,) = merged(staging.check, [each for part in fragments for each in part.checksums])
        if found.value not in {"", s3_part.checksum}:
            sweep(staging.destination, {part.name: staging.destination.head(part.name) for part in fragments})
            raise Corrupt(
                f"{staging.original.key!r}: the S3 part at byte {lies.start} arrived with {staging.check} "
                f"{found.value}, S3 holds {s3_part.checksum}"
            )
    return known


def compose(
    staging: Staging, parts: Sequence[StagedPart], stamp: Callable[[str], Stamp], expect: Generation
) -> tuple[Replica, str]:
    """Verify parts that cover the whole, and join them to the copy.

    Args:
        staging: the copy.
        parts: follow each other from the first byte to the last.
        stamp: what the copy carries, by the name of the check that it passed.
        expect: the destination's generation.

    Returns:
        The replica, and the check that it passed: "none" where not all checksums are known.

    Raises:
        Moved: the destination is at another generation, or another is just composing.
        Corrupt: the parts are not what S3 holds.
        Unavailable: time ran out. What was joined remains.
    """
    parts = _with_crc32c(staging, parts)
    check = _verified_whole(staging, parts)
    while len(parts) > FAN:
        mark = f"{check}: {_crc32c_of(parts)}"
        parts = [_union(staging, staging.plan.union(_run(g), of_blocks=True), g, mark) for g in _groups(parts)]
    return _join(staging, staging.plan.copy.name, parts, stamp(check), expect), check


def _groups(parts: Sequence[StagedPart]) -> list[Sequence[StagedPart]]:
    return [parts[at : at + FAN] for at in range(0, len(parts), FAN)]


def _union(staging: Staging, name: str, parts: Sequence[StagedPart], verified: str = "") -> StagedPart:
    """Compose up to 32 parts into one that carries their checksums, or says how the whole was verified."""
    if len(parts) == 1 and name != staging.plan.block(parts[0].span):
        return parts[0]
    if not staging.has_time():
        raise Unavailable(f"no time is left to join the parts of {staging.plan.copy.name!r}", code="OutOfTime")
    checksums = () if verified else tuple(merged(staging.check, [each for part in parts for each in part.checksums]))
    metadata = {CRC32C: crc32c} if (crc32c := _crc32c_of(parts)) else {}
    metadata |= {SUMS: encoded(checksums)} if checksums and staging.check != BARE else {}
    metadata |= {VERIFIED: verified} if verified else {}
    made = _join(staging, name, parts, replace(staging.plan.stored, metadata=metadata), ABSENT)
    return StagedPart(parts[0].start, made.size, name, checksums, made.crc32c or crc32c, verified)


def _verified_whole(staging: Staging, parts: Sequence[StagedPart]) -> str:
    """Hold all parts together against S3's checksum of the object; return the name of the check."""
    name, check = staging.plan.copy.name, staging.check
    if marks := {part.verified for part in parts if part.verified}:
        passed, _, crc32c = marks.pop().partition(": ")
        if marks or crc32c != _crc32c_of(parts):
            raise Corrupt(f"{name!r}: its parts are not those that were verified before")
        return passed
    found = of_object(check, [each for part in parts for each in part.checksums]) if check else None
    if found is None:
        return "none"
    if found != (wanted := expected(staging.original, check)):
        raise Corrupt(f"{name!r}: its parts' {check} add up to {found}, S3 holds {wanted}")
    return check


def _with_crc32c(staging: Staging, parts: Sequence[StagedPart]) -> list[StagedPart]:
    """Return the parts with their CRC32C; get those of which the listing did not say it."""

    def looked_up(part: StagedPart) -> StagedPart:
        if part.crc32c:
            return part
        replica = staging.destination.head(part.name)
        if replica.size != part.size:
            raise Moved(f"{part.name!r}: the part is gone, another is composing it")
        return part._replace(crc32c=replica.crc32c)

    def resolved(part: StagedPart) -> StagedPart:
        """Put its own CRC32C among its checksums, where they are to have it."""
        checksums = part.checksums
        if staging.check == BARE and not (checksums or part.verified):
            checksums = (layout_of_whole(staging.plan.copy).checksum(part.span, OWN),)
        own = part.crc32c or ""
        return part._replace(
            checksums=tuple(each._replace(value=own) if each.value == OWN else each for each in checksums)
        )

    return [resolved(part) for part in staging.side_by_side(looked_up, parts)]


def _join(staging: Staging, name: str, parts: Sequence[StagedPart], stamp: Stamp, expect: Generation) -> Replica:
    wanted = _crc32c_of(parts)
    stamp = stamp.recording(wanted) if wanted else replace(stamp, crc32c_name="")
    try:
        joined = staging.destination.compose(name, [part.name for part in parts], stamp, expect=expect)
    except NotFound as error:
        raise Moved(f"{name!r}: parts are gone, another is composing them") from error
    if joined.crc32c and wanted and joined.crc32c != wanted:
        staging.destination.delete(name, expect=joined.generation)
        raise Corrupt(f"{name!r}: composed to crc32c {joined.crc32c}, while its parts' add up to {wanted}")
    return joined


def _crc32c_of(parts: Sequence[StagedPart]) -> str:
    """Return the CRC32C of parts that follow each other, "" where one of theirs is not known."""
    known = [(part.crc32c, part.size) for part in parts if part.crc32c]
    return merge("CRC32C", known) if len(known) == len(parts) else ""


def _run(parts: Sequence[StagedPart]) -> Span:
    return Span(parts[0].start, parts[-1].span.stop)
