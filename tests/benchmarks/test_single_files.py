"""Checkpoints in one .safetensors file, as what peers load."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch
from safetensors.torch import save_file

from calotype.bundle import Bundle
from calotype.errors import CheckpointError, RequestError
from calotype_bench import environments, rows
from calotype_bench.order import Reports
from calotype_export.checkpoint import open_checkpoint
from calotype_export.single_file import open_single_file
from tests.bundles import bundle, checkpoint
from tests.export.test_single_file import original


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_file(original(checkpoint("plain")), path)
    return path


@pytest.fixture
def configs(tmp_path: Path) -> Path:
    ignored = shutil.ignore_patterns("*.safetensors")
    return Path(shutil.copytree(checkpoint("plain"), tmp_path / "configs", ignore=ignored))


def of_one_file(file: Path, configs: Path) -> Bundle:
    """A bundle that says that it was made from them."""
    opened, source = Bundle.open(bundle("plain")), open_single_file(file, configs).source()
    return dataclasses.replace(opened, manifest=dataclasses.replace(opened.manifest, source=source))


@pytest.mark.slow
def test_a_single_file_is_written_once_in_the_layout_that_peers_load(
    file: Path, configs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environments, "cache", lambda: tmp_path / "cache")
    said: list[str] = []
    found, again = (
        rows.checkpoint(str(file), configs, [of_one_file(file, configs)], Reports(say=said.append))
        for _ in range(2)
    )
    assert found == again
    assert said == [f"diffusers exports {file}"]
    for component in ("text_encoder", "unet", "vae"):
        expected = open_checkpoint(checkpoint("plain")).load(component).state_dict()
        written = open_checkpoint(found).load(component).state_dict()
        assert written.keys() == expected.keys()
        assert all(torch.equal(value, expected[name]) for name, value in written.items())


def test_another_file_than_the_bundles_is_refused(file: Path, configs: Path) -> None:
    made = of_one_file(file, configs)
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(RequestError, match=r"model\.safetensors: expected sha256"):
        rows.checkpoint(str(file), configs, [made], Reports())
    with pytest.raises(RequestError, match=r"other\.safetensors is missing|model\.safetensors is missing"):
        rows.checkpoint("nowhere/other.safetensors", configs, [made], Reports())


def test_a_file_without_configs_is_refused(file: Path, configs: Path) -> None:
    with pytest.raises(CheckpointError, match=r"model\.safetensors is a file, expected a folder"):
        rows.checkpoint(str(file), None, [of_one_file(file, configs)], Reports())
