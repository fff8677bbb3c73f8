"""Checkpoints on the Hub: what is fetched, and what is said when it cannot be."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.utils import httpx  # httpx or, from huggingface_hub 2 on, httpx2

from calotype.errors import CheckpointError
from calotype_export.checkpoint import open_checkpoint
from calotype_export.hub import _files
from tests.export.spoiling import UNET

Hub = Callable[[list[str]], list[str]]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, sd15_folder: Path) -> Hub:
    """A Hub with one repository, in which the files given are added to a checkpoint; returns what is fetched."""

    def serve(more: list[str]) -> list[str]:
        names = [
            path.relative_to(sd15_folder).as_posix() for path in sd15_folder.rglob("*") if path.is_file()
        ] + more
        fetched: list[str] = []

        def info(api: object, repository: str, revision: str | None = None) -> Any:
            return SimpleNamespace(
                sha=f"commit-of-{revision}", siblings=[SimpleNamespace(rfilename=name) for name in names]
            )

        def download(repository: str, name: str, revision: str) -> str:
            fetched.append(f"{revision}:{name}")
            return str(sd15_folder / name)

        monkeypatch.setattr(huggingface_hub.HfApi, "model_info", info)
        monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
        return fetched

    return serve


def test_a_hub_id_is_fetched_at_one_commit_without_pickles_and_doubles(hub: Hub) -> None:
    fetched = hub(["v1-5-pruned.safetensors", "unet/diffusion_pytorch_model.bin", "README.md",
                   "unet/diffusion_pytorch_model.fp16.safetensors", "unet/code.py"])  # fmt: skip
    checkpoint = open_checkpoint("owner/name", revision="main")
    assert (checkpoint.name, checkpoint.revision) == ("owner/name", "commit-of-main")
    assert {name.partition(":")[0] for name in fetched} == {"commit-of-main"}
    names = {name.partition(":")[2] for name in fetched}
    assert {name for name in names if name.startswith("unet/")} == {UNET, "unet/config.json"}
    assert all(
        (name.endswith((".json", ".txt", ".safetensors")) and "/" in name) or name == "model_index.json"
        for name in names
    )


def test_files_in_other_folders_are_not_fetched(hub: Hub) -> None:
    fetched = hub(
        ["unet/old/config.json", "unet/old/diffusion_pytorch_model.safetensors", "unet2/config.json"]
    )
    open_checkpoint("owner/name")
    assert len(fetched) == len(set(fetched))
    assert sum("unet" in name for name in fetched) == 2


def test_nothing_is_fetched_of_a_component_that_the_index_leaves_out() -> None:
    names = ["safety_checker/config.json", "safety_checker/model.safetensors", "unet/config.json"]
    index: dict[str, object] = {"safety_checker": [None, None], "unet": ["diffusers", "UNet2DConditionModel"]}
    assert _files(index, names) == ["unet/config.json"]


def test_an_id_that_cannot_be_one_is_told_without_a_traceback() -> None:
    with pytest.raises(CheckpointError, match="owner/na--me could not be fetched from the Hub"):
        open_checkpoint("owner/na--me")


def test_a_repository_in_another_layout_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def info(api: object, repository: str, revision: str | None = None) -> Any:
        return SimpleNamespace(sha="0", siblings=[SimpleNamespace(rfilename="model.safetensors")])

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", info)
    with pytest.raises(CheckpointError, match="owner/name is no checkpoint in diffusers' layout") as caught:
        open_checkpoint("owner/name")
    assert "--config FOLDER" in caught.value.hint


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError("no route to host\nand more"), "no route to host$"),
        (httpx.ConnectError("[Errno -2] Name or service not known"), "Name or service not known"),
        (httpx.ConnectTimeout(""), "ConnectTimeout"),
    ],
)
def test_a_hub_that_does_not_answer_is_told_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    def info(api: object, repository: str, revision: str | None = None) -> Any:
        raise error

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", info)
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint("owner/name")
    assert re.search(f"owner/name could not be fetched from the Hub: .*{reason}", caught.value.message)
    assert "a folder works without a network" in caught.value.hint


@pytest.mark.parametrize(
    ("content", "message"), [("{", "is no JSON"), ("[]", "holds a list, expected an object")]
)
def test_an_index_that_is_none_is_told_without_a_traceback(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, message: str
) -> None:
    hub([])
    (tmp_path / "model_index.json").write_text(content)
    monkeypatch.setattr(
        huggingface_hub, "hf_hub_download", lambda *_, **__: str(tmp_path / "model_index.json")
    )
    with pytest.raises(CheckpointError, match=f"model_index.json {message}"):
        open_checkpoint("owner/name")
