"""From rows that lie where programs run to one array on the host, which is looked at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from calotype.backends import Array, Row
from calotype.errors import BackendError

_HINT = "half precision overflows in some checkpoints: export with --precision fp32 or bf16"


def finite(rows: Sequence[Row], what: str, hint: str = _HINT) -> Array:
    """The rows, one above the other, at least one. BackendError where `what` is not finite."""
    stacked = np.stack([np.asarray(row) for row in rows])
    if not np.isfinite(stacked).all():
        raise BackendError(f"{what} NaN or infinity", hint)
    return stacked
