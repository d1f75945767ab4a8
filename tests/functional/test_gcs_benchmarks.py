"""The short form of `make huge`, held to the same measures."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.benchmarks.huge import KEY, Body, bytes_of, fake_s3
from tests.benchmarks.shim import MIB, ROOT
from tests.conftest import s3_client


def program(name: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", f"tests.benchmarks.{name}", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()[-1]


def test_192_mib_pass_in_the_memory_that_5_gib_may_take() -> None:
    """So many that a handler or a shim which keeps the whole of a body does not pass."""
    assert program("huge", "--size", "192MiB") == "huge: passed"


@pytest.mark.parametrize(("text", "size"), [("5GiB", 5 << 30), ("64MiB", 64 << 20), ("17", 17)])
def test_a_size_is_read(text: str, size: int) -> None:
    assert bytes_of(text) == size


def test_the_made_up_object_is_one_object_however_it_is_read() -> None:
    """What the large measurement stands on: ranges, conditions and the whole are the same bytes."""
    body = Body(3 * MIB + 17)
    whole = b"".join(body.pieces(0, body.size))
    with fake_s3(body) as url:
        client = s3_client(url)
        spans = [(0, 10), (MIB - 3, 2 * MIB + 3), (3 * MIB, body.size)]
        for start, stop in spans:
            answer = client.get_object(Bucket="b", Key=KEY, Range=f"bytes={start}-{stop - 1}", IfMatch=f'"{body.etag}"')
            assert answer["Body"].read() == whole[start:stop]
        assert client.get_object(Bucket="b", Key=KEY)["Body"].read() == whole
        head = client.head_object(Bucket="b", Key=KEY)
        assert (head["ContentLength"], head["ServerSideEncryption"]) == (body.size, "aws:kms")
        with pytest.raises(client.exceptions.ClientError):
            client.get_object(Bucket="b", Key=KEY, IfMatch='"another"')
        client.close()
    assert len({whole[n * MIB : n * MIB + 8] for n in range(4)}) == 4
