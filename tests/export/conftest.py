"""Tiny checkpoints to read, copies of them to spoil, and a bundle with what it was made from."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from calotype.bundle import Bundle
from calotype_export import build, synthetic
from calotype_export.build import BuildOptions
from calotype_export.sources import Sources
from tests import bundles


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


@pytest.fixture(scope="module")
def sources() -> Sources:
    """What `bundle` was made from."""
    return build.opened(BuildOptions(bundles.checkpoint("plain"), Path()))


@pytest.fixture
def bundle() -> Bundle:
    return Bundle.open(bundles.bundle("plain"))
