"""A folder appears whole or not at all."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from calotype.errors import CheckpointError
from calotype_export.staging import refuse_existing, staged


def test_what_was_written_appears_under_its_name(tmp_path: Path) -> None:
    with staged(tmp_path / "bundle") as folder:
        (folder / "file").write_text("x")
    assert (tmp_path / "bundle" / "file").read_text() == "x"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_what_was_written_can_be_read_by_others_and_parents_are_made(tmp_path: Path) -> None:
    with staged(tmp_path / "new" / "folder" / "bundle"):
        pass
    assert (tmp_path / "new" / "folder" / "bundle").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("end", [RuntimeError, KeyboardInterrupt])
def test_an_early_end_leaves_nothing(tmp_path: Path, end: type[BaseException]) -> None:
    with pytest.raises(end), staged(tmp_path / "bundle") as folder:
        (folder / "file").write_text("x")
        raise end
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path, code: int) -> None:
    with (
        pytest.raises(CheckpointError, match=r"disk is full: .*bundle"),
        staged(tmp_path / "bundle") as folder,
    ):
        (folder / "file").write_text("x")
        raise OSError(code, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_another_error_of_the_system_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), staged(tmp_path / "bundle"):
        raise PermissionError(errno.EACCES, "Permission denied")
    assert list(tmp_path.iterdir()) == []


def test_a_link_to_nowhere_is_in_the_way_too(tmp_path: Path) -> None:
    (tmp_path / "bundle").symlink_to(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="bundle exists already"):
        refuse_existing(tmp_path / "bundle")


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
