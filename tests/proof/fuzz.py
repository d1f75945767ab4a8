"""Bad input: mutated events, request bodies, rules and HTTP, thousands of awkward keys end to end, and what must hold.

Each law is a function that raises AssertionError where it does not hold; the suite feeds them by hypothesis, this
program by its own mutations of good input, and by atheris, which looks for new paths, where that is installed.
"""

from __future__ import annotations

import copy
import importlib.util
import json
import logging
import random
import re
import select
import socket
import subprocess
import sys
import tempfile
import time
import tracemalloc
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from handler import events, rest
from handler.core.batch import Result, Work
from handler.core.errors import Malformed
from handler.core.model import KEY_BYTES
from handler.core.task import Change
from handler.rules import rules_of
from local_emulator.context import Context
from local_emulator.gcs import GcsServer

ROOT = Path(__file__).parents[2]
EVENTS = {file.name: json.loads(file.read_text()) for file in sorted((ROOT / "events").glob("*.json"))}
GOOD = {
    "eventVersion": "2.1",
    "eventSource": "aws:s3",
    "eventName": "ObjectCreated:Put",
    "s3": {"bucket": {"name": "good"}, "object": {"key": "a+good%2Bkey", "size": 3}},
}
GOOD_CHANGE = ("good", "a good+key")
RULES: list[dict[str, Any]] = [
    {
        "ID": "a",
        "Priority": 1,
        "Status": "Enabled",
        "Filter": {"And": {"Prefix": "x/", "Tags": [{"Key": "k", "Value": "v"}]}},
        "DeleteMarkerReplication": {"Status": "Disabled"},
        "Source": {"Bucket": "source"},
        "Destination": {"Bucket": "gs://copy/there", "StorageClass": {"*": "NEARLINE"}, "Tags": {"Status": "Enabled"}},
    },
    {"Filter": {"Prefix": "p"}, "Source": {"Bucket": "s"}, "Destination": {"Bucket": "file:///copies"}},
]
SLOWEST = 2.0
"""Seconds that one input may take on a busy machine."""
_ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 2**70, 1e999, "", " ", "\x00", "\ud800", "%", "%ff%fe", "+", "a" * 2000, "é" * 600, [],
    {}, [[]], [None], {"": None}, "2.1", "3.0", "s3:TestEvent", "Notification", '{"Records": []}', '"x"', "[" * 2000,
    float("nan"), ["Records"], {"Records": [None]}, "9999-99-99T99:99:99Z", "0001-01-01T00:00:00+23:59", "\u202e",
    "1" * 5000,
)  # fmt: skip

Allowed = frozenset({200, 403, 404, 400, 405, 500})


# --- laws


def law_event(event: object) -> None:
    """Any event is understood or refused by name, and what is understood names an object that S3 can have."""
    began = time.monotonic()
    try:
        batch = events.parse(event)
    except Malformed:
        return
    finally:
        assert time.monotonic() - began < SLOWEST, "parsing took too long"
    for delivery in batch.deliveries:
        assert isinstance(delivery.id, str)
        assert isinstance(delivery.raw, str)
        for change in delivery.changes:
            assert isinstance(change.bucket, str)
            assert change.bucket
            assert 1 <= len(change.key.encode()) <= KEY_BYTES
            assert change.size is None or change.size >= 0
            assert change.time is None or change.time.tzinfo is not None


def law_neighbour(bad: object) -> None:
    """A good record beside any other is found, in a direct event and in a queue's message beside any other."""
    beside = {"Records": [bad, GOOD]}
    message = {"eventSource": "aws:sqs", "messageId": "good", "body": json.dumps({"Records": [GOOD]})}
    mixed = {"eventSource": "aws:sqs", "messageId": "mixed", "body": _text(beside)}
    first = {"eventSource": "aws:sqs", "messageId": "bad", "body": bad}
    batch = events.parse({"Records": [first, message, mixed]})
    found = {delivery.id: {(c.bucket, c.key) for c in delivery.changes} for delivery in batch.deliveries}
    assert GOOD_CHANGE in found["good"]
    assert GOOD_CHANGE in found["mixed"]
    if isinstance(bad, dict) and bad.get("eventSource") == "aws:sqs":
        return  # then it is a queue's batch, and the good record is no message
    direct = events.parse(beside)
    assert GOOD_CHANGE in {(c.bucket, c.key) for delivery in direct.deliveries for c in delivery.changes}


def _text(value: object) -> str:
    return json.dumps(value, default=str)


def law_body(body: object, *, encoded: bool = False) -> int:
    """Any body is answered in JSON with a status of the contract; return the status."""
    asked: list[Change] = []

    def replicate(change: Change) -> Result:
        asked.append(change)
        return Result(work=Work(bucket=change.bucket, key=change.key, changes=(change,)))

    event = copy.deepcopy(EVENTS["function-url.json"]) | {"body": body, "isBase64Encoded": encoded}
    began = time.monotonic()
    answer = rest.answer(event, Context(), allows=lambda bucket: bucket == "good", replicate=replicate)
    assert time.monotonic() - began < SLOWEST, "answering took too long"
    assert answer["statusCode"] in Allowed, answer
    assert isinstance(json.loads(answer["body"]), dict)
    assert "Traceback" not in answer["body"]
    assert all(change.bucket == "good" and 1 <= len(change.key.encode()) <= KEY_BYTES for change in asked)
    return int(answer["statusCode"])


def law_rules(text: str) -> None:
    """Any text is rules, or faults that say what is wrong; never both, never neither."""
    faults: list[str] = []
    rules = rules_of(text, faults)
    assert rules or faults
    assert all(faults)
    for rule in rules:
        assert rule.source
        assert rule.destination.startswith(("gs://", "file:///"))
        rule.covers("key")


class HttpLaw:
    """Whatever bytes come, the GCS server answers or hangs up, without a traceback, and goes on serving."""

    def __init__(self, url: str) -> None:
        where = urlsplit(url)
        self._address = str(where.hostname), int(where.port or 0)
        self.answers: Counter[str] = Counter()
        self.tracebacks: list[str] = []
        self._handler = _Tracebacks(self.tracebacks)
        logging.getLogger("local_emulator.gcs").addHandler(self._handler)
        logging.getLogger("asyncio").addHandler(self._handler)

    def close(self) -> None:
        """Listen no longer."""
        logging.getLogger("local_emulator.gcs").removeHandler(self._handler)
        logging.getLogger("asyncio").removeHandler(self._handler)

    def __call__(self, raw: bytes) -> None:
        """Send it and look at the first answer."""
        with closing(socket.create_connection(self._address, timeout=10)) as wire:
            try:
                wire.sendall(raw)
                if not select.select([wire], [], [], 0.02)[0]:  # it waits for more
                    wire.shutdown(socket.SHUT_WR)
                answer = wire.recv(4096)
            except (ConnectionError, TimeoutError) as error:
                answer = type(error).__name__.encode()
        status = answer[9:12].decode("latin-1") if answer.startswith(b"HTTP/1.") else "none"
        self.answers[status] += 1
        assert not self.tracebacks, self.tracebacks[0]
        assert status not in {"500", "502"}, answer
        assert b"Traceback" not in answer

    def alive(self) -> None:
        """The server still answers."""
        with closing(socket.create_connection(self._address, timeout=10)) as wire:
            wire.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert wire.recv(100).startswith(b"HTTP/1.1 200")


class _Tracebacks(logging.Handler):
    def __init__(self, found: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._found = found

    def emit(self, record: logging.LogRecord) -> None:
        self._found.append(self.format(record))


# --- mutations


def mutated(value: Any, drawn: random.Random) -> Any:
    """Change a JSON value in one to four places."""
    value = copy.deepcopy(value)
    for _ in range(drawn.randint(1, 4)):
        holder = {"": value}
        _mutate(holder, drawn)
        value = holder[""]
    return value


def _mutate(holder: Any, drawn: random.Random) -> None:
    """Walk to some place below, and change it."""
    names = list(holder) if isinstance(holder, dict) else range(len(holder))
    name = drawn.choice(list(names))
    inner = holder[name]
    if isinstance(inner, (dict, list)) and inner and drawn.random() < 0.85:
        _mutate(inner, drawn)
        return
    if isinstance(inner, str) and inner[:1] in {"{", "["} and drawn.random() < 0.8:
        try:
            holder[name] = json.dumps(mutated(json.loads(inner), drawn), default=str)
        except (ValueError, RecursionError):
            holder[name] = drawn.choice(_ODD)
        return
    match drawn.randrange(5):
        case 0 if isinstance(holder, dict) and name != "":
            del holder[name]
        case 1 if isinstance(holder, list):
            holder.append(copy.deepcopy(inner))
        case 2 if isinstance(inner, str) and inner:
            place = drawn.randrange(len(inner))
            holder[name] = inner[:place] + chr(drawn.randrange(0x3000)) + inner[place + 1 :]
        case 3:
            holder[name] = [inner]
        case _:
            holder[name] = copy.deepcopy(drawn.choice(_ODD))


def bodies(drawn: random.Random) -> Iterator[tuple[object, bool]]:
    """Yield request bodies, most of them nearly right."""
    good = {"s3_bucket": "good", "s3_key": "k/é", "more": [1, {"a": None}]}
    while True:
        text = json.dumps(mutated(good, drawn), default=str)
        if drawn.random() < 0.3 and text:
            place = drawn.randrange(len(text))
            text = text[:place] + drawn.choice(["", "\x00", '"', "{", "\ud800", "\\u", "é"]) + text[place + 1 :]
        yield text, drawn.random() < 0.1


_OBJECT = "/storage/v1/b/bucket/o"
_UPLOAD = "/upload/storage/v1/b/bucket/o"
_PARTS = (
    b'--f\r\nContent-Type: application/json\r\n\r\n{"name": "n"}\r\n--f\r\nContent-Type: a/b\r\n\r\nbytes\r\n--f--\r\n'
)


def _request(line: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"{line} HTTP/1.1", "Host: x", *headers, *([f"Content-Length: {len(body)}"] if body else []), "", ""]
    return "\r\n".join(lines).encode() + body


REQUESTS = (
    _request(f"GET {_OBJECT}"),
    _request(f"GET {_OBJECT}/n?alt=media", b"", "Range: bytes=0-3"),
    _request(f"POST {_UPLOAD}?uploadType=media&name=n&ifGenerationMatch=0", b"bytes"),
    _request(f"POST {_UPLOAD}?uploadType=multipart", _PARTS, "Content-Type: multipart/related; boundary=f"),
    _request(f"POST {_UPLOAD}?uploadType=resumable&name=r", b"{}", "X-Upload-Content-Length: 9"),
    _request(f"PUT {_UPLOAD}?upload_id=UPLOAD", b"bytes", "Content-Range: bytes 0-4/9"),
    _request(f"PUT {_UPLOAD}?upload_id=UPLOAD", b"", "Content-Range: bytes */9", "Content-Length: 0"),
    _request(f"PATCH {_OBJECT}/n", b'{"metadata": {"a": "b"}}'),
    _request(f"POST {_OBJECT}/c/compose", b'{"sourceObjects": [{"name": "n"}]}'),
    _request(f"DELETE {_OBJECT}/n?ifGenerationMatch=1"),
    _request("PUT /bucket/n", b"abc", "x-goog-if-generation-match: 0"),
    _request("POST /bucket/n?uploads", b"", "Content-Length: 0"),
    _request("POST /b", b"3\r\nabc\r\n0\r\n\r\n", "Transfer-Encoding: chunked").replace(b"Content-Length: 13\r\n", b""),
)
"""`UPLOAD` stands for the id of an upload session that has begun."""

_BYTES = (
    b"", b"\x00", b"\xff", b"\r\n", b"\n", b" ", b":", b"%", b"%ff", b"%00", b"?", b"&", b"=", b"/", b"..", b"-1",
    b"*", b"99999999999999999999", b"0x10", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n",
    b"bytes 5-4/9", b"bytes 0-999999999999999/1", b"bytes */*", b"[" * 500, b"{}", b"null", b"h" * 40_000, b"--f",
    b"--f--", b"\xed\xa0\x80", b"Range: bytes=-0\r\n", b"Range: bytes=99-\r\n", b"x-goog-hash: crc32c=AAAA\r\n",
    b"If-Match: *\r\n", b"pageToken=%00", b"Content-Encoding: gzip\r\n", b"maxResults=-1", b"&fields=items(",
    b"Expect: 100-continue\r\n", b"Content-Range: bytes 3-1/x\r\n",
)  # fmt: skip


def spoilt(raw: bytes, drawn: random.Random) -> bytes:
    """Change a request in one to five places: half of the time so that it stays HTTP."""
    if drawn.random() < 0.5:
        return _bent(raw, drawn)
    for _ in range(drawn.randint(1, 5)):
        start = drawn.randrange(len(raw) + 1)
        match drawn.randrange(4):
            case 0:
                raw = raw[:start] + drawn.choice(_BYTES) + raw[start:]
            case 1:
                raw = raw[:start] + drawn.choice(_BYTES) + raw[start + drawn.randint(1, 8) :]
            case 2:
                raw = raw[:start] + raw[start + drawn.randint(1, 20) :]
            case _:
                line = raw.find(b"\r\n") + 2
                raw = raw[:line] + drawn.choice(_BYTES) + raw[line:]
    return raw


def _bent(raw: bytes, drawn: random.Random) -> bytes:
    """Change the target, a header's value, or the body, and keep the length right."""
    head, _, body = raw.partition(b"\r\n\r\n")
    for _ in range(drawn.randint(1, 3)):
        if body and drawn.random() < 0.5:
            start = drawn.randrange(len(body))
            body = body[:start] + drawn.choice(_BYTES) + body[start + drawn.randint(0, 6) :]
            continue
        lines = head.split(b"\r\n")
        place = drawn.randrange(len(lines))
        parts = re.split(rb"([ ?&=/:;,*-])", lines[place])
        word = drawn.randrange(len(parts))
        if word or place:  # the method stays
            parts[word] = drawn.choice(_BYTES).strip() if drawn.random() < 0.7 else parts[word] * 2
        lines[place] = b"".join(parts)
        head = b"\r\n".join(lines)
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"content-length")]
    return b"\r\n".join([*lines, b"Content-Length: %d" % len(body), b"", b""]) + body


# --- the program


def fuzz_events(count: int, drawn: random.Random) -> int:
    """Mutate every sample event."""
    names = list(EVENTS)
    for number in range(count):
        event = mutated(EVENTS[names[number % len(names)]], drawn)
        law_event(event)
        law_neighbour(event)
        for record in (
            event.get("Records", []) if isinstance(event, dict) and isinstance(event.get("Records"), list) else []
        ):
            law_neighbour(record)
    return count


def fuzz_bodies(count: int, drawn: random.Random) -> int:
    """Mutate a good request body."""
    for _, (body, encoded) in zip(range(count), bodies(drawn), strict=False):
        law_body(body, encoded=encoded)
    return count


def fuzz_rules(count: int, drawn: random.Random) -> int:
    """Mutate good rules, as values and as text."""
    for number in range(count):
        text = json.dumps(mutated(RULES, drawn), default=str)
        if number % 3 == 0:
            place = drawn.randrange(len(text))
            text = text[:place] + text[place + drawn.randint(1, 9) :]
        law_rules(text)
    return count


def fuzz_http(count: int, drawn: random.Random) -> int:
    """Send spoilt requests to a GCS server."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder, GcsServer(folder) as server:
        law = HttpLaw(server.url)
        try:
            law(b'POST /storage/v1/b HTTP/1.1\r\nHost: x\r\nContent-Length: 18\r\n\r\n{"name": "bucket"}')
            session = begin_upload(server.url)
            for number in range(count):
                law(spoilt(REQUESTS[number % len(REQUESTS)].replace(b"UPLOAD", session), drawn))
            law.alive()
        finally:
            law.close()
        print(
            "  answers of the GCS server: " + ", ".join(f"{status} {n:,}" for status, n in sorted(law.answers.items()))
        )
    return count


def begin_upload(url: str) -> bytes:
    """Begin an upload session, and return its id."""
    where = f"{url}{_UPLOAD}?uploadType=resumable&name=r"
    with urllib.request.urlopen(urllib.request.Request(where, b"{}", method="POST")) as answer:
        return str(answer.headers["X-GUploader-UploadID"]).encode()


def check_bounds() -> int:
    """Feed the largest and deepest that can come, and measure time and memory."""
    deep = "[" * 10_000
    body = json.dumps({"Records": [GOOD]})
    nested = body
    while len(nested) < 200_000:
        nested = json.dumps({"Type": "Notification", "Message": nested})
    large: list[tuple[str, Callable[[], object]]] = [
        ("256 KiB nested 10,000 deep", lambda: law_event(_queued(deep + " " * (256 * 1024 - 20_000) + "]" * 10_000))),
        ("256 KiB of envelopes", lambda: law_event(_queued(nested))),
        ("256 KiB of records", lambda: law_event(_queued(json.dumps({"Records": [GOOD] * 1300})))),
        ("a 6 MB body", lambda: law_body(json.dumps({"s3_bucket": "good", "s3_key": "k" * 6_000_000}))),
        ("a 6 MB body of brackets", lambda: law_body("[" * 6_000_000)),
        ("a 6 MB body of backslashes", lambda: law_body('"' + "\\u0000" * 1_000_000)),
        ("1 MB of rules", lambda: law_rules(json.dumps(RULES * 3000))),
        ("rules nested 100,000 deep", lambda: law_rules('[{"Filter":' * 100_000)),
    ]
    for name, feed in large:
        tracemalloc.start()
        began = time.monotonic()
        feed()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        print(f"  {time.monotonic() - began:5.2f} s, {peak / 1e6:5.0f} MB at most: {name}")
        assert peak < 100_000_000, name
    return len(large)


def _queued(body: str) -> dict[str, Any]:
    return {"Records": [{"eventSource": "aws:sqs", "messageId": "m", "body": body}]}


def guided(runs: int, seed: int) -> int:
    """Let atheris look for new paths in a process of its own; return how many inputs it tried, 0 where it cannot."""
    if importlib.util.find_spec("atheris") is None:
        print("  not coverage-guided: atheris is not installed (pip install -r tests/proof/requirements.txt)")
        return 0
    with tempfile.TemporaryDirectory(prefix="guided-") as corpus:
        for name, event in EVENTS.items():
            (Path(corpus) / name).write_text(f"e{json.dumps(event)}")
        (Path(corpus) / "rules").write_text(f"r{json.dumps(RULES)}")
        (Path(corpus) / "body").write_text('b{"s3_bucket": "good", "s3_key": "k"}')
        arguments = [
            f"-runs={runs}",
            f"-seed={seed}",
            "-max_len=4096",
            "-verbosity=0",
            "-print_final_stats=1",
            f"-artifact_prefix={corpus}/",
            corpus,
        ]
        done = subprocess.run(
            [sys.executable, "-m", "tests.proof.fuzz_guided", *arguments],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
    if done.returncode:
        raise AssertionError(f"atheris found an input:\n{done.stdout[-1500:]}{done.stderr[-3000:]}")
    tried = next(line for line in done.stderr.splitlines() if "number_of_executed_units" in line)
    return int(tried.rpartition(" ")[2])


def run(seed: int = 1, *, scale: float = 1.0) -> int:
    """Fuzz everything, print what was tried, and return the number of laws that did not hold."""
    from tests.proof.fuzz_keys import KEYS, fuzz_keys  # it starts servers

    began = time.monotonic()
    print(f"fuzz: seed {seed}", flush=True)
    subjects: list[tuple[str, Callable[[random.Random], int]]] = [
        ("mutated events", lambda drawn: fuzz_events(int(60_000 * scale), drawn)),
        ("request bodies", lambda drawn: fuzz_bodies(int(6_000 * scale), drawn)),
        ("rule files", lambda drawn: fuzz_rules(int(60_000 * scale), drawn)),
        ("spoilt HTTP requests", lambda drawn: fuzz_http(int(12_000 * scale), drawn)),
        ("largest inputs", lambda _: check_bounds()),
        ("awkward keys end to end", lambda drawn: fuzz_keys(int(KEYS * scale), drawn)),
        ("coverage-guided inputs", lambda _: guided(int(300_000 * scale), seed)),
    ]
    broken = cases = 0
    for name, fuzz in subjects:
        try:
            tried = fuzz(random.Random(f"{seed} {name}"))  # noqa: S311 - to be repeatable
            cases += tried
            print(f"  {tried:>9,} {name}", flush=True)
        except Exception as error:
            logging.getLogger(__name__).exception("%s", name)
            print(f"DIVERGENCE: {name}: {type(error).__name__}: {str(error)[:2000]}")
            broken += 1
    print(f"fuzz: {cases:,} cases, {broken} divergences, {time.monotonic() - began:.0f} s", flush=True)
    return broken
