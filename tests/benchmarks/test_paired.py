"""Commands that run two programs in turn: what they refuse."""

from __future__ import annotations

from types import ModuleType

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
