"""Where figures were taken."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from typing import Any

from calotype.backends._host import processor
from calotype_bench.worker import cores


def describe() -> dict[str, Any]:
    """The machine, as far as it changes figures, and when it was."""
    return {
        "processor": processor(),
        "cores": cores(),
        "system": f"{platform.system()}-{platform.machine()}",
        "python": platform.python_version(),
        "load": list(os.getloadavg()),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
