"""What the storm does to one lane's source buckets, and how it tells the queue: duplicated, late and out of order."""

from __future__ import annotations

import hashlib
import http.client
import itertools
import json
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus, unquote_plus, urlencode

if TYPE_CHECKING:
    from mypy_boto3_sqs.client import SQSClient

LATE = 400
"""Records that wait, on average, while later ones overtake them."""
UNREPLICABLE = "no-"
"""Keys with this beginning cannot be replicated: their messages belong into the dead-letter queue."""
FORBIDDEN = ".well-known/acme-challenge/"
DUPLICATED, SHUFFLED, SKEWED, POISON = (
    "SQS: record told again",
    "SQS: record overtaken by a later one of its key",
    "clock: event time off by hours",
    "SQS: message that makes no sense",
)
NOTIFIED = "by S3's own notification"
LOAD_FAULTS = (DUPLICATED, SHUFFLED, SKEWED, POISON)
AUTHORIZATION = "AWS4-HMAC-SHA256 Credential=storm/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
_POISON = (
    "",
    "{",
    "null",
    "[]",
    '{"Records": [{"s3": {}}]}',
    '{"Records": [{"eventVersion": "3.0", "s3": {}}]}',
    "\u2603",
)
_ODD = ("+", "%2B", "é", " a  b", "a/../b", "//", "\U0001f4be", "&=?#", "'\"", "~", "{}", "a" * 200)


@dataclass(frozen=True)
class Bucket:
    """A source bucket, and where its copies go."""

    name: str
    copy: str
    tagged: bool = False
    notifies: bool = False
    """S3's own notifications tell of it, not this load."""


@dataclass(frozen=True, order=True)
class Key:
    """One key of one bucket."""

    bucket: str
    name: str


@dataclass
class Load:
    """The changes of one lane.

    Args:
        port: where S3 answers without faults.
        sqs: the queue's client.
        queue: its URL.
        buckets: what is changed.
        objects: distinct keys that are put.
        changes: further changes to them.
        large: objects of over 8 MiB.
        told_again: share of the records that are sent once more.
        pause: waits while the queue is full.
    """

    seed: str
    port: int
    sqs: SQSClient
    queue: str
    buckets: tuple[Bucket, ...]
    objects: int
    changes: int
    large: int
    told_again: float
    pause: Callable[[], None]
    progress: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    history: dict[Key, list[str]] = field(default_factory=lambda: defaultdict(list))
    ever: dict[Key, set[str]] = field(default_factory=lambda: defaultdict(set))
    """SHA-256 of all that was put at each key."""

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)  # noqa: S311 - to be repeatable
        self._http = http.client.HTTPConnection("127.0.0.1", self.port)
        self._waiting: list[tuple[Key, int, dict[str, Any]]] = []
        self._told: dict[Key, int] = {}
        self._numbers = itertools.count(1)
        self._alive: set[Key] = set()
        self._outbox: list[str] = []

    def run(self) -> None:
        """Change everything, then tell what is still untold."""
        steps = list(self._plan())
        for done, (change, key) in enumerate(steps):
            change(key)
            if len(self._waiting) > LATE:
                self._tell(self._random.randint(1, 12))
            self.progress = done / len(steps)
        while self._waiting:
            self._tell(12)
        self._post(all_of_it=True)
        self._http.close()
        self.progress = 1.0

    def keys_of_all(self) -> list[Key]:
        """All keys of the objects, odd ones among them."""
        keys = []
        for number in range(self.objects):
            chosen = self.buckets[0] if number % 10 < 7 else self.buckets[1 + number % 2]
            odd = f"/{_ODD[number // 7 % len(_ODD)]}" if number % 7 == 0 else ""
            keys.append(Key(chosen.name, f"{number % 97}/{number}{odd}"))
        return keys

    def hot(self) -> list[Key]:
        """The few keys that have a fifth of the changes."""
        return self.keys_of_all()[self.large : self.large + 20]

    def deleted_after(self, key: Key, number: int) -> bool:
        """Return True if a key was deleted after the change of that number."""
        told = [what.removeprefix("#").split(maxsplit=1) for what in self.history[key]]
        return any(int(each) > number for each, what in told if what == "delete")

    def _plan(self) -> Iterator[tuple[Callable[[Key], None], Key]]:
        """First puts of everything, with further changes strewn in, a fifth of them to a few hot keys."""
        keys = self.keys_of_all()
        large = set(keys[: self.large])
        hot = self.hot()
        later = [(self._random.randrange(len(keys)), number) for number in range(self.changes)]
        later.sort()
        seen = 0
        for index, key in enumerate(keys):
            yield (self._put_large if key in large else self._put), key
            while seen < len(later) and later[seen][0] <= index:
                chosen = self._random.choice(hot[: index + 1] if self._random.random() < 0.2 else keys[: index + 1])
                yield self._change(chosen, is_large=chosen in large), chosen
                seen += 1
            if index % (len(keys) // 8 or 1) == 0:
                yield self._unreplicable, Key(self.buckets[0].name, f"{UNREPLICABLE}{index}")
                yield self._poison, key

    def _change(self, key: Key, *, is_large: bool) -> Callable[[Key], None]:
        put = self._put_large if is_large else self._put
        changes = [put, self._delete, self._copy, self._tag]
        return self._random.choices(changes, (45, 20, 20, 15))[0]

    def _put(self, key: Key) -> None:
        size = self._random.choices((0, 1, 900, 300_000), (3, 3, 93, 1))[0]
        self._upload(key, self._random.randbytes(size))

    def _put_large(self, key: Key) -> None:
        self._upload(key, self._random.randbytes((8 << 20) + self._random.randint(1, 300_000)))

    def _upload(self, key: Key, data: bytes, **more: str) -> None:
        headers = self._headers() | more
        if self._random.random() < 0.3:
            headers["x-amz-tagging"] = urlencode({"colour": f"grün {next(self._numbers)}"})
        self.ever[key].add(hashlib.sha256(data).hexdigest())  # before it can be seen
        self._request("PUT", key, data, headers)
        self._alive.add(key)
        self._changed(key, f"put {len(data)} bytes", "ObjectCreated:Put", size=len(data))

    def _copy(self, key: Key) -> None:
        """Copy onto itself with new headers: the ETag stays."""
        if key not in self._alive:
            return self._put(key)
        source = {"x-amz-copy-source": quote(f"{key.bucket}/{key.name}"), "x-amz-metadata-directive": "REPLACE"}
        self._request("PUT", key, b"", self._headers() | source)
        self._changed(key, "self-copy", "ObjectCreated:Copy", size=7)
        return None

    def _tag(self, key: Key) -> None:
        if key not in self._alive:
            return self._put(key)
        number = next(self._numbers)
        tags = f"<Tagging><TagSet><Tag><Key>n</Key><Value>{number}</Value></Tag></TagSet></Tagging>"
        self._request("PUT", key, tags.encode(), {}, "?tagging")
        self._changed(key, f"tag {number}", "ObjectTagging:Put")
        return None

    def _delete(self, key: Key) -> None:
        self._request("DELETE", key)
        self._alive.discard(key)
        self._changed(key, "delete", "ObjectRemoved:Delete")

    def _unreplicable(self, key: Key) -> None:
        self._upload(key, b"reserved", **{"x-amz-meta-s3-replica-bucket": "mine"})
        self._upload(Key(key.bucket, f"{FORBIDDEN}{key.name}"), b"a name that GCS forbids")

    def _poison(self, key: Key) -> None:
        self.counts[POISON] += 1
        self._outbox.append(self._random.choice(_POISON[1:]))

    def tell_removed(self, bucket: str, name: str) -> None:
        """Tell of a delete of what never was: nothing may follow from it."""
        self._changed(Key(bucket, name), "told as removed", "ObjectRemoved:Delete")

    def _headers(self) -> dict[str, str]:
        number = next(self._numbers)
        return {
            "Content-Type": self._random.choice(("text/csv", "image/png")),
            "Cache-Control": f"max-age={number}",
            "Content-Disposition": 'attachment; filename="a b.csv"',
            "x-amz-meta-number": str(number),
        }

    def _request(
        self, method: str, key: Key, data: bytes | None = None, headers: dict[str, str] | None = None, query: str = ""
    ) -> None:
        where = f"/{key.bucket}/{quote(key.name, safe='/~')}{query}"
        self._http.request(method, where, data, {"Authorization": AUTHORIZATION, **(headers or {})})
        answer = self._http.getresponse()
        said = answer.read()
        if answer.status not in {200, 204}:
            raise RuntimeError(f"moto refused the storm's own {method} {where}: {answer.status} {said[:200]!r}")

    def _changed(self, key: Key, what: str, event: str, size: int | None = None) -> None:
        self.counts["changes"] += 1
        number = next(self._numbers)
        self.history[key].append(f"#{number} {what}")
        bucket = next(bucket for bucket in self.buckets if bucket.name == key.bucket)
        if bucket.notifies:
            self.counts["events"] += 1
            self.counts[NOTIFIED] += 1
            return
        self._waiting.append((key, number, self._record(key, event, size)))

    def _record(self, key: Key, event: str, size: int | None) -> dict[str, Any]:
        moment = datetime.now(UTC)
        if self._random.random() < 0.1:
            self.counts[SKEWED] += 1
            moment += timedelta(hours=self._random.uniform(-30, 30))
        detail: dict[str, Any] = {"key": quote_plus(key.name)} | ({} if size is None else {"size": size})
        return {
            "eventVersion": "2.6",
            "eventSource": "aws:s3",
            "eventTime": moment.isoformat().replace("+00:00", "Z"),
            "eventName": event,
            "s3": {"s3SchemaVersion": "1.0", "bucket": {"name": key.bucket}, "object": detail},
        }

    def _tell(self, count: int) -> None:
        """Send some of what waits, whichever, in messages of one record or several."""
        records = []
        for _ in range(min(count, len(self._waiting))):
            place = self._random.randrange(len(self._waiting))
            self._waiting[place], self._waiting[-1] = self._waiting[-1], self._waiting[place]
            key, number, record = self._waiting.pop()
            again = self._random.random()
            if again < self.told_again / 3:  # much later
                self._waiting.append((key, number, record))
            told = 2 if self.told_again / 3 <= again < self.told_again else 1  # or at once
            self.counts[DUPLICATED] += again < self.told_again
            self.counts[SHUFFLED] += number < self._told.get(key, 0)
            self._told[key] = max(number, self._told.get(key, 0))
            self.counts["events"] += told
            records += [record] * told
        self._random.shuffle(records)
        while records:
            taken, records = records[:6], records[6:]
            self._outbox.append(self._message(taken))
        self._post()

    def _message(self, records: list[dict[str, Any]]) -> str:
        """Put records into an envelope: S3's own, SNS's, or EventBridge's for a single one."""
        form = self._random.random()
        if form < 0.1 and len(records) == 1:
            return json.dumps(_of_eventbridge(records[0]))
        body = json.dumps({"Records": records})
        if form < 0.3:
            return json.dumps({"Type": "Notification", "Message": body})
        return body

    def _post(self, *, all_of_it: bool = False) -> None:
        while len(self._outbox) >= 10 or (all_of_it and self._outbox):
            batch, self._outbox = self._outbox[:10], self._outbox[10:]
            self._random.shuffle(batch)
            entries: list[Any] = [{"Id": str(number), "MessageBody": body} for number, body in enumerate(batch)]
            answer = self.sqs.send_message_batch(QueueUrl=self.queue, Entries=entries)
            if answer.get("Failed"):
                raise RuntimeError(f"SQS refused the storm's own messages: {answer['Failed']}")
            self.counts["messages"] += len(batch)
            self.pause()


def _of_eventbridge(record: dict[str, Any]) -> dict[str, Any]:
    kinds = {"ObjectCreated": "Object Created", "ObjectRemoved": "Object Deleted", "ObjectTagging": "Object Tags Added"}
    s3 = record["s3"]
    detail = {"bucket": s3["bucket"], "object": {**s3["object"], "key": unquote_plus(s3["object"]["key"])}}
    kind = kinds[record["eventName"].partition(":")[0]]
    return {"source": "aws.s3", "detail-type": kind, "time": record["eventTime"], "detail": detail}
