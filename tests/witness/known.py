"""What other vendors' servers do differently from the real service, one by one: each is expected to fail, and must.

A test that passes all the same, and an entry that no test has, fail the run: the list is never longer than the truth.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest

GCS: Mapping[str, Mapping[str, str]] = {"storage-testbench": {}, "fake-gcs-server": {}}
"""By the server's name: the test, below `tests/`, and why it fails there."""

S3: Mapping[str, Mapping[str, str]] = {"seaweedfs": {}, "ceph": {}}
"""The same of S3's."""


def expect(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the tests that the named servers are known to fail.

    Raises:
        pytest.UsageError: the list names a test that is not there.
    """
    known = dict(GCS.get(config.getoption("--gcs-server") or "", {}))
    known |= S3.get(config.getoption("--s3-server") or "", {})
    for item in items:
        if reason := known.pop(item.nodeid.removeprefix("tests/"), None):
            item.add_marker(pytest.mark.xfail(strict=True, reason=reason))
    files = {item.nodeid.partition("::")[0].removeprefix("tests/") for item in items}
    if not any("::" in argument for argument in config.args):
        stale = [name for name in known if name.partition("::")[0] in files]
        if stale:
            raise pytest.UsageError("tests/witness/known.py names tests that are not there: " + ", ".join(stale))
