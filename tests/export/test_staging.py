"""A folder appears whole or not at all."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from calotype.errors import CheckpointError
from calotype_export.staging import staged


def test_what_was_written_appears_under_its_name(tmp_path: Path) -> None:
    with staged(tmp_path / "bundle") as folder:
        (folder / "file").write_text("x")
    assert (tmp_path / "bundle" / "file").read_text() == "x"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


@pytest.mark.parametrize("end", [RuntimeError, KeyboardInterrupt])
def test_an_early_end_leaves_nothing(tmp_path: Path, end: type[BaseException]) -> None:
    with pytest.raises(end), staged(tmp_path / "bundle") as folder:
        (folder / "file").write_text("x")
        raise end
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    with (
        pytest.raises(CheckpointError, match=r"disk is full: .*bundle"),
        staged(tmp_path / "bundle") as folder,
    ):
        (folder / "file").write_text("x")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_output_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    with (
        pytest.raises(CheckpointError, match=r"bundle exists already") as raised,
        staged(tmp_path / "bundle"),
    ):
        pass
    assert "-o" in raised.value.hint


def test_a_place_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(CheckpointError, match="no folder can be made there"),
        staged(tmp_path / "file" / "bundle"),
    ):
        pass
