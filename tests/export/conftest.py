"""Tiny checkpoints to read, and copies of them to spoil."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from calotype_export import synthetic


@pytest.fixture(scope="session")
def sd15_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.write("tiny-sd15", tmp_path_factory.mktemp("checkpoint") / "tiny-sd15")


@pytest.fixture(scope="session")
def depth_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.write("tiny-sd2-depth", tmp_path_factory.mktemp("checkpoint") / "tiny-sd2-depth")


@pytest.fixture
def copy(sd15_folder: Path, tmp_path: Path) -> Path:
    """A checkpoint to spoil."""
    return Path(shutil.copytree(sd15_folder, tmp_path / "copy"))
