"""What a person named reaches whoever opens it: revisions, configs of single files, and what is merged in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from calotype.errors import CheckpointError
from calotype.lora import LoraFile
from calotype_export import build, hub, opening
from calotype_export.adapters import EmbeddingFile
from calotype_export.build import BuildOptions
from calotype_export.checkpoint import open_checkpoint
from calotype_export.opening import Source
from calotype_export.progress import Progress


def test_everything_that_options_say_of_a_checkpoint_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, sd15_folder: Path
) -> None:
    asked: list[Source] = []

    def record(source: Source, progress: Progress) -> Any:
        asked.append(source)
        return open_checkpoint(sd15_folder)

    monkeypatch.setattr(build, "open_source", record)
    loras, embeddings = (LoraFile(Path("a.safetensors"), 0.5),), (EmbeddingFile(Path("b.safetensors")),)
    build.opened(
        BuildOptions(
            "owner/name", Path(), revision="v1", config=Path("c"), loras=loras, embeddings=embeddings
        )
    )
    assert asked == [Source("owner/name", "v1", Path("c"), loras, embeddings)]


def test_a_revision_reaches_the_hub_and_its_commit_the_source(
    monkeypatch: pytest.MonkeyPatch, sd15_folder: Path
) -> None:
    asked: list[tuple[str, str | None]] = []

    def fetch(repository: str, revision: str | None, progress: Progress) -> tuple[Path, str]:
        asked.append((repository, revision))
        return sd15_folder, "0123abc"

    monkeypatch.setattr(hub, "fetch", fetch)
    source = opening.open_source(Source("owner/name", revision="v1")).source()
    assert asked == [("owner/name", "v1")]
    assert (source["checkpoint"], source["revision"]) == ("owner/name", "0123abc")


def test_a_path_of_three_names_is_no_hub_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "fetch", lambda *_: pytest.fail("was fetched"))
    with pytest.raises(CheckpointError, match="there is no folder owner/name/unet"):
        open_checkpoint("owner/name/unet")


def test_a_textual_inversion_alone_is_merged_in(sd15_folder: Path, tmp_path: Path) -> None:
    save_file({"<dog>": torch.zeros(32)}, tmp_path / "dog.safetensors")
    source = Source(sd15_folder, embeddings=(EmbeddingFile(tmp_path / "dog.safetensors"),))
    found = opening.open_source(source)
    assert list(found.additions) == ["dog.safetensors:<dog>"]
    assert "<dog>" in found.tokenizer().get_vocab()
