"""Commands that run two programs in turn: what they refuse."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from calotype_bench import fusions, hoisting, paired


@pytest.mark.parametrize("module", [fusions, hoisting])
def test_a_folder_that_is_no_bundle_is_told(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["command.py", "nowhere"])
    assert paired.carry_out(module.main) == 1
    assert "command.py: nowhere is no bundle: expected a folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--runs", "0"), "expected a number of at least 1, found '0'"),
        (("-o", "no/x.json"), "there is no folder no"),
        (("-o", "."), "expected a file, found a folder"),
    ],
)
def test_bad_usage_is_refused_before_anything_is_measured(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        paired.parser(None).parse_args(["bundle", *arguments])
    assert message in capsys.readouterr().err


def test_a_ratio_is_of_the_seconds_after_to_those_before(monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = {"next_state": np.ones(3, np.float32)}
    monkeypatch.setattr(paired, "run", lambda *_: (outputs, 0.0))
    monkeypatch.setattr(paired, "in_turn", lambda *_: np.array([[1.0, 2.0]] * 6))
    program: Any = None
    found = paired.compare(program, program, ({}, {}), 6)
    assert (found["before"], found["after"], found["ratio"]) == (1, 2, 2)
    assert "1.0000 s before, 2.0000 s after, ratio 2.000" in paired.told("it", found)
