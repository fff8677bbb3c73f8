"""Where figures were taken."""

from __future__ import annotations

import dataclasses
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from calotype.backends import BackendOptions
from calotype.backends._cuda_device import machine as gpu_machine
from calotype.backends._host import processor
from calotype.errors import CalotypeError
from calotype_bench import energy
from calotype_bench.worker import cores


def describe(device: str = "cpu") -> dict[str, Any]:
    """The machine, as far as it changes figures, its GPU where that is what is measured, the code, and when it was."""
    on = BackendOptions(device)
    meter = energy.Meter(None if on.kind == "cpu" else on.index)
    found: dict[str, Any] = {
        "processor": processor(),
        "cores": cores(),
        "memory_bytes": _memory_bytes(),
        "system": f"{platform.system()}-{platform.machine()}",
        "kernel": platform.release(),
        "governor": _governor(),
        "python": platform.python_version(),
        "load": _load(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "energy": meter.counters,
        "clock_mhz": meter.most_mhz(),
    }
    if on.kind != "cpu":
        try:
            found["gpu"] = dataclasses.asdict(gpu_machine("", on.index))
        except CalotypeError as error:
            found["gpu"] = error.message
    return found


class Watch:
    """What a machine did while something was measured, from when this is made."""

    def __init__(self, device: str = "cpu") -> None:
        self._device = device
        self._load = _load()
        self._ticks = _ticks()

    def describe(self) -> dict[str, Any]:
        """What `describe` does, the load before, and the share of its cores' time that a virtual machine did not get
        though it had work, None where the system does not tell.
        """
        stolen, total = (now - before for now, before in zip(_ticks(), self._ticks, strict=True))
        share = stolen / total if total else None
        return {**describe(self._device), "load_before": self._load, "stolen": share}


def _load() -> list[float]:
    """How many processes were running or waiting for a core, in the last minute, five and fifteen."""
    return list(os.getloadavg())


def _ticks() -> tuple[int, int]:
    """Since the machine started, of all cores: what others got in their place, and all there were. proc(5)."""
    try:
        found = [int(each) for each in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    except OSError:
        return 0, 0
    return found[7], sum(found)  # user, nice, system, idle, iowait, irq, softirq, steal


def _governor() -> str:
    """How the first core's clock is chosen; empty where the system does not tell, as in most virtual machines."""
    path = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    return path.read_text("utf-8").strip() if path.is_file() else ""


def _memory_bytes() -> int:
    """Of the whole machine; 0 where it does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0


def _commit() -> str:
    """Of the checkout that this file belongs to, with `+` where Python files in it were changed; empty where it was
    installed outside of one, if into a folder of another.
    """
    try:
        _, commit, changed = (
            subprocess.run(
                ["git", *words], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
            ).stdout.strip()
            for words in (
                ("ls-files", "--error-unmatch", Path(__file__).name),
                ("rev-parse", "--short=12", "HEAD"),
                ("status", "--porcelain", "--untracked-files=no", "--", ":/*.py"),
            )
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return commit + ("+" if changed else "")
