"""A schedule's noise levels as a picture: which endings there are, and that nothing half-written is left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from calotype.errors import OutputError, RequestError
from calotype.plot import plot_schedule
from calotype.schedule import ScheduleOptions
from calotype.schedulers import schedule

SCHEDULE = schedule({"_class_name": "DDIMScheduler", "clip_sample": False}, ScheduleOptions(5), 5)


@pytest.mark.parametrize("name", ["noise.foo", "noise"])
def test_an_ending_that_is_no_pictures_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(RequestError, match=f"{name}: a plot is written as png, svg, pdf, found the ending"):
        plot_schedule(SCHEDULE, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "begin"), [("a.png", b"\x89PNG"), ("a.SVG", b"<?xml"), ("a.pdf", b"%PDF")])
def test_a_plot_is_alone_in_its_folder(tmp_path: Path, name: str, begin: bytes) -> None:
    plot_schedule(SCHEDULE, tmp_path / name)

    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes().startswith(begin)


def test_a_plot_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_text("older")

    def full(_: Any, path: Path, **__: Any) -> None:
        path.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", full)
    with pytest.raises(OutputError, match=r"a\.png: the plot could not be written: No space left"):
        plot_schedule(SCHEDULE, tmp_path / "a.png")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["older"]
