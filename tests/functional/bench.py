"""A rig with one rule of each kind, and every request that the handler makes counted on both sides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from google.cloud import storage

from handler.app import Service
from tests.functional.fault_proxy import FaultProxy, Request, fault_proxy
from tests.functional.rig import Rig, Told, message, record, rig_on

KMS_KEY = "projects/p/locations/us/keyRings/r/cryptoKeys/copies"
RULES: Mapping[str, Mapping[str, Any]] = {
    "plain": {},
    "tags": {"Destination": {"Tags": {"Status": "Enabled"}}},
    "classes": {"Destination": {"StorageClass": {"GLACIER_IR": "COLDLINE", "STANDARD": "STANDARD"}}},
    "contexts": {"Destination": {"Tags": {"Status": "Enabled", "As": "Contexts"}}},
    "key": {"Destination": {"EncryptionConfiguration": {"ReplicaKmsKeyID": KMS_KEY}}},
    "keeps": {"DeleteMarkerReplication": {"Status": "Disabled"}},
}
"""By the first folder of a key, what its rule has beyond source, prefix and destination."""


@dataclass
class Bench:
    """A source bucket (`bucket`, or `versioned`), where its copies go, and the handler between them."""

    rig: Rig
    proxy: FaultProxy
    bucket: str
    versioned: str
    copies: storage.Bucket
    dead_letters: str
    service: Service
    others: dict[str, str] = field(default_factory=dict)

    def deliver(self, key: str, event: str, *, bucket: str = "", **of_object: Any) -> Told:
        """Invoke the handler with one event, everything counted from here on."""
        self.forget()
        return self.rig.handle(self.service, message("m", record(bucket or self.bucket, key, event, **of_object)))

    def forget(self) -> None:
        self.proxy.requests.clear()
        self.rig.front.requests.clear()

    def copy(self, key: str) -> storage.Blob | None:
        return self.rig.blob(self.copies, key)

    def contexts(self, key: str) -> dict[str, str]:
        blob = self.copy(key)
        return {} if blob is None else {name: each.value for name, each in blob.contexts.custom.items()}

    def data(self, key: str) -> bytes | None:
        blob = self.copy(key)
        return None if blob is None else bytes(blob.download_as_bytes(raw_download=True))

    def writes(self) -> list[str]:
        """What GCS was asked to change, by JSON API method."""
        return [method for request in self.proxy.requests if (method := _method(request))]

    def body_bytes(self) -> tuple[int, int]:
        """Body bytes that came from S3, and that went to GCS in uploads."""
        uploaded = sum(len(request.body) for request in self.proxy.requests if "/upload/" in request.path)
        return sum(exchange.given for exchange in self.rig.front.bodies()), uploaded


def _method(request: Request) -> str:
    if request.method == "POST":
        return "insert" if "/upload/" in request.path else "rewrite"
    return {"PATCH": "patch", "DELETE": "delete", "PUT": "insert"}.get(request.method, "")


@contextmanager
def bench_on(moto: str, gcs_url: str) -> Iterator[Bench]:
    """Set the bench up between these two servers."""
    with rig_on(moto, gcs_url) as rig, fault_proxy(gcs_url) as proxy:
        bucket, versioned, copies = rig.bucket(), rig.bucket(versioned=True), rig.copies()
        retained = rig.copies(retention_period=3600)
        others = {
            "deep": rig.bucket(),
            "to nowhere": rig.bucket(),
            "retained": rig.bucket(),
            "gone": "there-is-no-such-source",
        }
        locations = {
            "deep": f"gs://{copies.name}/{'d' * 60}",
            "to nowhere": "gs://there-is-no-such-bucket",
            "retained": f"gs://{retained.name}",
            "gone": f"gs://{copies.name}",
        }
        rules = [
            _rule(source, prefix, copies, more) for source in (bucket, versioned) for prefix, more in RULES.items()
        ]
        rules += [
            {"ID": f"rest of {source}", "Source": {"Bucket": source}, "Destination": {"Bucket": f"gs://{copies.name}"}}
            for source in (bucket, versioned)
        ]
        rules += [
            {"ID": name, "Source": {"Bucket": others[name]}, "Destination": {"Bucket": location}}
            for name, location in locations.items()
        ]
        dead_letters = rig.queue()
        service = rig.service(*rules, gcs_url=proxy.url, DEAD_LETTER_QUEUE_URL=dead_letters)
        yield Bench(rig, proxy, bucket, versioned, copies, dead_letters, service, others)


def _rule(source: str, prefix: str, copies: storage.Bucket, more: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **more,
        "ID": f"{prefix} of {source}",
        "Priority": 1,
        "Source": {"Bucket": source},
        "Filter": {"Prefix": f"{prefix}/"},
        "Destination": {"Bucket": f"gs://{copies.name}", **more.get("Destination", {})},
    }
