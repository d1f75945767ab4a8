"""The fan-out of huge objects, with instances that are killed, and with several that orchestrate one object at once."""

from __future__ import annotations

import base64
import itertools
import json
import random
import sys
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anycrc
import pytest

from handler.adapters.gcs.destination import GcsDestination
from handler.app import Service
from handler.core.composing import FAN
from handler.core.model import KIB, MIB
from handler.core.parts import Parts
from local_emulator import moto_fixes
from local_emulator.gcs import GcsServer
from local_emulator.poller import failed_ids, sqs_event
from tests.fakes import EvenRate, crc32c
from tests.functional.fidelity import of_parts
from tests.functional.rig import BODY, Clock, Rig, record, rig_on
from tests.functional.s3_override import S3Override
from tests.proof.storm_fanout import Plan, run

if TYPE_CHECKING:
    from mypy_boto3_sqs.type_defs import MessageTypeDef

KEY = "huge.bin"
SPAN = 32 * KIB
DATA = (BODY + random.Random(9).randbytes(MIB))[: 7 * SPAN - 5]  # noqa: S311 - bytes, not a secret
PIECES = (5 * KIB + 1, 6 * KIB, 7 * KIB)
"""How long the parts are that an instance cuts; in all there are more of them than one compose takes."""
HELD = 0.05
"""Seconds that a change waits for another one at most."""
ENOUGH = 500
"""Messages after which a queue does not drain any more; some 50 are enough."""
CRC64NVME = base64.b64encode(anycrc.Model("CRC64-NVME").calc(DATA).to_bytes(8, "big")).decode()
CHECKSUMS = {"CRC32C": crc32c(DATA), "CRC64NVME": CRC64NVME}
CUT = "CRC32 of parts", "SHA256 of parts", "ETAG of parts"
KEYED = "CRC32C", "CRC32 of parts"
"""With these a customer-managed key is tried too: the others differ only in how a checksum is worked out."""
CASES = [
    pytest.param(seed, algorithm, under_a_key, marks=() if is_quick else pytest.mark.slow)
    for seed in range(12)
    for algorithm in (*CHECKSUMS, *CUT)
    for under_a_key in (False, True)
    for is_quick in (seed == 0 and (algorithm in KEYED or not under_a_key),)
]


@pytest.mark.slow
def test_killed_instances_leave_an_equal_copy_and_only_their_spans_are_read_again(tmp_path: Path) -> None:
    """`make fanout-kills` does this first: the servers alone take seconds to start."""
    report = run(Plan(size=128 * MIB, kills=3, workers=4, rate=16 * MIB, seed=2), tmp_path)
    sys.stdout.write(f"{report}\n")
    assert report.wrong == []
    assert sum(death.span is not None for death in report.deaths) >= 2


@pytest.fixture
def rig(s3_url: str, gcs_server: GcsServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    monkeypatch.setattr("handler.core.reconcile.SMALL", 0)  # the objects here stand for huge ones
    with rig_on(s3_url, gcs_server.url) as rig, moto_fixes.applied():
        yield rig


@pytest.fixture
def changed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, Any]]:
    """What the adapters changed at GCS: how, of which name, and what came of it.

    What is based on a look often has to let another change pass first: so races are common.
    """
    done: list[tuple[str, str, Any]] = []
    one_more, chance = threading.Condition(), random.Random(1)  # noqa: S311 - any will do

    def noting(method: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: GcsDestination, key: str, *arguments: Any, **options: Any) -> Any:
            with one_more:
                if method == "compose" or (method == "patch" and chance.random() < 0.3):
                    one_more.wait(HELD)
            result = real(self, key, *arguments, **options)
            with one_more:
                done.append((method, key, result))
                one_more.notify_all()
            return result

        return call

    for method in ("put", "patch", "delete", "compose"):
        monkeypatch.setattr(GcsDestination, method, noting(method, getattr(GcsDestination, method)))
    return done


class Fleet:
    """Instances that take a queue's messages side by side, those of one span at once.

    What fails comes again in the midst of the others' work, or after it.
    """

    def __init__(self, rig: Rig, url: str, chance: random.Random) -> None:
        self._rig, self._url, self._chance = rig, url, chance
        self._order = chance.getrandbits(32)
        self._waiting: list[MessageTypeDef] = []
        self._failed: list[str] = []
        self._working = self._taken = 0
        self._turn = threading.Condition()

    def work(self, services: Sequence[Service]) -> None:
        """Drain the queue."""
        with ThreadPoolExecutor(len(services)) as threads:
            list(threads.map(self._be, services))

    def _be(self, service: Service) -> None:
        service.deadline.begin(Clock())
        while message := self._next():
            failed = True
            try:
                answer = service.handle(sqs_event([message], "arn:aws:sqs:us-east-1:1:parts"))
                failed = bool(failed_ids(answer, [message["MessageId"]]))
            finally:
                self._settle(message["ReceiptHandle"], failed=failed)

    def _next(self) -> MessageTypeDef | None:
        """Return a message, None when there is none and will be none."""
        with self._turn:
            while not self._receive():
                if not self._working:
                    return None
                self._turn.wait()
            self._taken += 1
            assert self._taken < ENOUGH, "the queue does not drain"
            self._working += 1
            return self._waiting.pop()

    def _receive(self) -> bool:
        """Take all messages that there are; whether there are any."""
        if self._failed and (self._chance.random() < 0.03 or not (self._working or self._waiting)):
            self._rig.sqs.change_message_visibility(
                QueueUrl=self._url, ReceiptHandle=self._failed.pop(), VisibilityTimeout=0
            )
        while got := self._rig.sqs.receive_message(
            QueueUrl=self._url, AttributeNames=["All"], MaxNumberOfMessages=10
        ).get("Messages"):
            self._waiting += got
        self._waiting.sort(key=lambda message: zlib.crc32(message["Body"].encode(), self._order))
        return bool(self._waiting)

    def _settle(self, handle: str, *, failed: bool) -> None:
        with self._turn:
            if failed:
                self._failed.append(handle)
            else:
                self._rig.sqs.delete_message(QueueUrl=self._url, ReceiptHandle=handle)
            self._working -= 1
            self._turn.notify_all()


def put(rig: Rig, bucket: str, algorithm: str) -> None:
    """Put the object, in one upload with a checksum or in S3 parts of several sizes."""
    if algorithm in CHECKSUMS:
        checksum = {f"x-amz-checksum-{algorithm.lower()}": CHECKSUMS[algorithm]}
        rig.put(bucket, KEY, DATA, {"x-amz-sdk-checksum-algorithm": algorithm, **checksum})
        return
    stops = [0, 40 * KIB, 60 * KIB, 61 * KIB, 90 * KIB, 170 * KIB, len(DATA)]
    parts = tuple(DATA[start:stop] for start, stop in itertools.pairwise(stops))
    name = algorithm.partition(" ")[0]
    rig.put_parts(bucket, KEY, parts, {}, S3Override(headers={} if name == "ETAG" else of_parts(name, parts)))


@pytest.mark.parametrize(("seed", "algorithm", "under_a_key"), CASES)
def test_orchestrations_of_one_object_at_once_end_equal(
    rig: Rig, changed: list[tuple[str, str, Any]], seed: int, algorithm: str, *, under_a_key: bool
) -> None:
    """Each event comes twice or more often, to instances that cut in their own ways. More: `make fanout-kills`."""
    chance = random.Random(seed)  # noqa: S311 - to be repeatable
    key = {"default_kms_key_name": "projects/p/locations/us/keyRings/r/cryptoKeys/k"} if under_a_key else {}
    bucket, copies, url = rig.bucket(), rig.copies(**key), rig.queue(VisibilityTimeout="900")
    put(rig, bucket, algorithm)
    rule = {"ID": "huge", "Source": {"Bucket": bucket}, "Destination": {"Bucket": f"gs://{copies.name}"}}
    with ExitStack() as stack:
        services = []
        for _ in range(chance.choice([2, 3, 4])):
            service = rig.service(rule, PARTS_QUEUE_URL=url)
            service.replicator._parts = Parts(
                stack.enter_context(ThreadPoolExecutor(4)),
                large=SPAN,
                huge=SPAN,
                span=SPAN,
                send=service.wiring.part_sender(),
                rate=EvenRate(chance.choice(PIECES)),
            )
            services.append(service)
        for _ in range(chance.choice([2, 3])):
            rig.sqs.send_message(QueueUrl=url, MessageBody=json.dumps({"Records": [record(bucket, KEY)]}))
        Fleet(rig, url, chance).work(services)
    if algorithm in CHECKSUMS:
        assert len({name for method, name, _ in changed if method == "put"}) > FAN
    ((how, made),) = [(method, result) for method, name, result in changed if name == KEY]
    assert (how, made.size, made.crc32c) == ("compose", len(DATA), crc32c(DATA))
    (blob,) = rig.gcs.list_blobs(copies.name)
    assert (blob.name, blob.generation, blob.metageneration) == (KEY, *made.generation)
    assert blob.download_as_bytes(raw_download=True) == DATA
    assert blob.metadata["s3-replica-check"] == (algorithm if " " in algorithm else f"{algorithm} of spans")
