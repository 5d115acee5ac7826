"""What every benchmark says of the machine it runs on."""

from __future__ import annotations

import platform
from pathlib import Path


def processor() -> str:
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return platform.processor() or "unknown processor"
    return next(line.split(": ")[1] for line in info.read_text().splitlines() if line.startswith("model name"))


def resident(field: str) -> float:
    """MiB of this process: VmRSS now, VmHWM at most."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024
