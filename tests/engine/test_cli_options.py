"""Options of `calotype generate`: each reaches the request or the loaded pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from calotype import Pipeline, Request
from calotype.cli import main
from tests.bundles import bundle

REQUESTED: dict[str, tuple[str, Any]] = {
    "--negative-prompt": ("negative_prompt", "blurry"),
    "--guidance-scale": ("guidance_scale", 3.0),
    "--guidance-rescale": ("guidance_rescale", 0.5),
    "--clip-skip": ("clip_skip", 1),
    "--eta": ("eta", 0.25),
    "--noise-source": ("noise_source", "cuda"),
    "--scheduler": ("scheduler", "ddim"),
    "--seed": ("seed", 7),
    "--steps": ("num_inference_steps", 9),
    "--count": ("num_images_per_prompt", 2),
    "--strength": ("strength", 0.7),
    "--padding-mask-crop": ("padding_mask_crop", 8),
}
LOADED: dict[str, tuple[str, Any]] = {
    "--backend": ("backend", "onnxruntime"),
    "--device": ("device", "cuda:1"),
    "--threads": ("threads", 2),
}


class DrawnError(Exception):
    """Raised where a picture would be drawn: all options have arrived by then."""


class Recorder:
    """A pipeline that keeps what it is asked for."""

    def __init__(self) -> None:
        self.loaded: dict[str, Any] = {}
        self.loras: list[tuple[Path, float]] = []
        self.request: Request | None = None

    def load(self, _: Any, backend: str, **options: Any) -> Recorder:
        self.loaded = {"backend": backend, **options}
        return self

    def set_lora(self, adapters: list[tuple[Path, float]]) -> None:
        self.loras = adapters

    def __call__(self, request: Request) -> None:
        self.request = request
        raise DrawnError


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    made = Recorder()
    monkeypatch.setattr(Pipeline, "load", made.load)
    return made


def test_every_option_arrives(recorder: Recorder, tmp_path: Path) -> None:
    for name in ("image.png", "mask.png"):
        Image.new("RGB", (128, 128), 255).save(tmp_path / name)
    pictures = ("--image", str(tmp_path / "image.png"), "--mask", str(tmp_path / "mask.png"))
    given = REQUESTED | LOADED
    words = [word for option, (_, value) in given.items() for word in (option, str(value))]
    words += ["-o", str(tmp_path / "out.png"), *pictures, "--lora", "style.safetensors:0.5"]
    with pytest.raises(DrawnError):
        main(["generate", str(bundle("plain")), "a red circle", *words])
    request = recorder.request

    assert request is not None
    assert request.prompt == "a red circle"
    assert {name: getattr(request, name) for name, _ in REQUESTED.values()} == dict(REQUESTED.values())
    assert recorder.loaded.items() >= dict(LOADED.values()).items()
    assert recorder.loras == [(Path("style.safetensors"), 0.5)]
    assert (request.image, request.mask_image) == (tmp_path / "image.png", tmp_path / "mask.png")
