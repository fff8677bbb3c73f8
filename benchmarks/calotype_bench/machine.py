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
from calotype_bench.worker import cores


def describe(device: str = "cpu") -> dict[str, Any]:
    """The machine, as far as it changes figures, its GPU where that is what is measured, the code, and when it was."""
    found: dict[str, Any] = {
        "processor": processor(),
        "cores": cores(),
        "memory_bytes": _memory_bytes(),
        "system": f"{platform.system()}-{platform.machine()}",
        "python": platform.python_version(),
        "load": load(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
    }
    if device != "cpu":
        try:
            found["gpu"] = dataclasses.asdict(gpu_machine("", BackendOptions(device).index))
        except CalotypeError as error:
            found["gpu"] = error.message
    return found


def load() -> list[float]:
    """How many processes were running or waiting for a core, in the last minute, five and fifteen."""
    return list(os.getloadavg())


def _memory_bytes() -> int:
    """Of the whole machine; 0 where it does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0


def _commit() -> str:
    """Of the checkout that this file lies in, with `+` where Python files in it were changed; empty outside of one."""
    try:
        commit, changed = (
            subprocess.run(
                ["git", *words], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
            ).stdout.strip()
            for words in (
                ("rev-parse", "--short=12", "HEAD"),
                ("status", "--porcelain", "--untracked-files=no", "--", ":/*.py"),
            )
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return commit + ("+" if changed else "")
