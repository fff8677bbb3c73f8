"""The README's Python is run as it stands, on a tiny bundle."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.bundles import ROOT, bundle


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)


def test_both_examples_run_and_draw_the_same_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    called: dict[str, Any] = {}
    by_hand: dict[str, Any] = {}
    for block, names in zip(blocks(), (called, by_hand), strict=True):
        exec(block.replace("BUNDLE", str(bundle("plain"))), names)

    drawn = np.asarray(called["result"].images[0])
    np.testing.assert_array_equal(drawn, np.round(by_hand["picture"][0] * 255).astype(np.uint8))
    assert (tmp_path / "flooble.png").is_file()
