"""What the figures were measured on and with."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

import psutil

from tests.benchmarks.shim import ROOT

_OURS = ("boto3", "botocore", "google-cloud-storage", "google-crc32c", "aiohttp", "moto")


def describe() -> dict[str, str]:
    """Return processor, cores, memory, system and Python."""
    info = Path("/proc/cpuinfo")
    model = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE) if info.exists() else None
    return {
        "processor": model[1] if model else platform.processor() or platform.machine(),
        "cores": str(psutil.cpu_count()),
        "memory": f"{psutil.virtual_memory().total / (1 << 30):.0f} GiB",
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
    }


def versions() -> dict[str, str]:
    """Return the versions of ours, and of all peers."""
    found = {f"{name} (ours)": metadata.version(name) for name in _OURS if _has(name)}
    pinned = ROOT / "requirements-bench.txt"
    asked = re.search(r"^# peers: (.+)$", pinned.read_text(), re.MULTILINE) if pinned.exists() else None
    for name in asked[1].split() if asked else []:
        version = re.search(rf"^{re.escape(name)}==(\S+)", pinned.read_text(), re.MULTILINE | re.IGNORECASE)
        found[name] = version[1] if version else "?"
    if shutil.which("curl"):
        said = subprocess.run(["curl", "--version"], capture_output=True, text=True, check=False).stdout
        version = re.search(r"curl (\S+)", said)
        found["curl"] = version[1] if version else "?"
    return found


def _has(name: str) -> bool:
    return any(metadata.distributions(name=name))
