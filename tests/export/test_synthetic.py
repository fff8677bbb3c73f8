"""Synthetic checkpoints: exact architectures, public layout, weights that behave."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import CLIPTokenizer

from calotype.errors import CheckpointError
from calotype_export import components, synthetic, vocabulary
from calotype_export.architectures import architecture
from calotype_export.checkpoint import Checkpoint, open_checkpoint

TINY = [name for name in synthetic.NAMES if name.startswith("tiny-")]


@pytest.fixture(scope="module", params=TINY)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("synthetic") / request.param
    return open_checkpoint(synthetic.write(request.param, folder))


@pytest.fixture(scope="module")
def sd15(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return open_checkpoint(synthetic.write("tiny-sd15", tmp_path_factory.mktemp("synthetic") / "tiny-sd15"))


@pytest.mark.parametrize(
    ("name", "component", "millions"),
    [
        ("sd15", "unet", 859.52),
        ("sd15-inpainting", "unet", 859.54),
        ("sd21-base", "unet", 865.91),
        ("sd21", "unet", 865.91),
        ("sd2-depth", "unet", 865.91),
        ("sd2-inpainting", "unet", 865.93),
        ("sd15", "vae", 83.65),
        ("sd15", "text_encoder", 123.06),
        ("sd21", "text_encoder", 340.39),
        ("sd15", "safety_checker", 303.98),
    ],
)
def test_a_model_has_as_many_parameters_as_the_public_one(name: str, component: str, millions: float) -> None:
    module = components.skeleton(architecture(name).models[component])
    count = sum(value.numel() for value in module.parameters())
    assert count / 1e6 == pytest.approx(millions, abs=0.005)


def test_the_folder_has_the_files_of_the_public_checkpoint(sd15: Checkpoint) -> None:
    files = {path.relative_to(sd15.root).as_posix() for path in sd15.root.rglob("*") if path.is_file()}
    assert files == {
        "model_index.json",
        "feature_extractor/preprocessor_config.json",
        "safety_checker/config.json",
        "safety_checker/model.safetensors",
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "tokenizer/merges.txt",
        "tokenizer/special_tokens_map.json",
        "tokenizer/tokenizer_config.json",
        "tokenizer/vocab.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
    }


def test_diffusers_own_loader_reads_every_weight(checkpoint: Checkpoint) -> None:
    import diffusers

    pipeline: Any = getattr(diffusers, type(checkpoint.pipeline()).__name__).from_pretrained(checkpoint.root)
    ours = checkpoint.pipeline()
    for name in checkpoint.components:
        theirs = getattr(pipeline, name).state_dict()
        for key, value in getattr(ours, name).state_dict().items():
            assert torch.equal(value, theirs[key]), f"{name} {key}"


def _arguments(checkpoint: Checkpoint) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(1)
    picture = torch.rand(1, 3, 128, 128, generator=generator)
    mask = torch.zeros(1, 1, 128, 128)
    mask[:, :, 64:] = 1
    extra: dict[int, dict[str, Any]] = {
        4: {},
        5: {"image": picture},
        9: {"image": picture, "mask_image": mask},
    }
    return extra[checkpoint.channels]


def test_a_picture_is_neither_constant_nor_saturated(checkpoint: Checkpoint) -> None:
    pipeline = checkpoint.pipeline()
    generator = torch.Generator().manual_seed(0)
    picture = pipeline(
        "a photo of a cat",
        num_inference_steps=5,
        generator=generator,
        output_type="np",
        **_arguments(checkpoint),
    ).images[0]
    assert 0.1 < picture.std() < 0.4
    assert (picture <= 0).mean() + (picture >= 1).mean() < 0.25


def _prediction(checkpoint: Checkpoint, prompt: str, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """The noise that was given, and what the UNet predicts at timestep 500; both (1, 4, 16, 16)."""
    tokenizer, text_encoder = checkpoint.tokenizer(), checkpoint.load("text_encoder", dtype)
    ids = tokenizer(prompt, padding="max_length", max_length=77, return_tensors="pt").input_ids
    sample = torch.randn(1, checkpoint.channels, 16, 16, generator=torch.Generator().manual_seed(3)).to(dtype)
    unet: Any = checkpoint.load("unet", dtype)
    with torch.no_grad():
        return sample[:, :4].float(), unet(sample, 500, text_encoder(ids)[0]).sample.float()


def test_predictions_have_about_unit_variance(checkpoint: Checkpoint) -> None:
    _, prediction = _prediction(checkpoint, "a cat", torch.float32)
    assert 0.7 < float(prediction.std()) < 1.4


def test_a_model_that_predicts_noise_predicts_mostly_the_noise_it_is_given(sd15: Checkpoint) -> None:
    noise, prediction = _prediction(sd15, "a cat", torch.float32)
    correlation = (noise * prediction).mean() / noise.std() / prediction.std()
    assert 0.6 < float(correlation) < 0.97


def test_prompts_change_the_prediction(checkpoint: Checkpoint) -> None:
    _, cat = _prediction(checkpoint, "a cat", torch.float32)
    _, house = _prediction(checkpoint, "a red house under the moon", torch.float32)
    assert (cat - house).norm() / cat.norm() > 0.02


def test_half_precision_agrees_with_single(checkpoint: Checkpoint) -> None:
    _, single = _prediction(checkpoint, "a cat", torch.float32)
    _, half = _prediction(checkpoint, "a cat", torch.float16)
    assert (single - half).norm() / single.norm() < 0.02


def test_the_vae_stays_finite_in_half_precision(sd15: Checkpoint) -> None:
    vae: Any = sd15.load("vae", torch.float16)
    latents = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(3)) * 4 / 0.18215
    with torch.no_grad():
        assert vae.decode(latents.half()).sample.isfinite().all()


def test_the_same_seed_gives_the_same_files_and_another_does_not(sd15: Checkpoint, tmp_path: Path) -> None:
    again = open_checkpoint(synthetic.write("tiny-sd15", tmp_path / "again"))
    other = open_checkpoint(synthetic.write("tiny-sd15", tmp_path / "other", seed=1))
    assert again.source()["sha256"] == sd15.source()["sha256"]
    assert not set(other.source()["sha256"].values()) & set(sd15.source()["sha256"].values())


def test_weights_are_stored_in_the_dtype_that_was_asked_for(tmp_path: Path) -> None:
    from safetensors import safe_open

    folder = synthetic.write("tiny-sd15", tmp_path / "half", dtype="fp16")
    with safe_open(folder / "unet" / "diffusion_pytorch_model.safetensors", framework="pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16}  # noqa: SIM118


def test_every_stage_reports_its_end(tmp_path: Path) -> None:
    last: dict[str, tuple[int, int]] = {}
    synthetic.write(
        "tiny-sd21", tmp_path / "new", progress=lambda stage, done, total: last.update({stage: (done, total)})
    )
    assert set(last) == {"writing unet", "writing vae", "writing text_encoder"}
    assert all(done == total for done, total in last.values())


def test_an_unknown_name_is_refused_with_the_list_of_names(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no synthetic checkpoint 'sd3'") as caught:
        synthetic.write("sd3", tmp_path / "new")
    assert "tiny-sd15" in caught.value.hint


def test_an_unknown_dtype_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be written as 'int8'"):
        synthetic.write("tiny-sd15", tmp_path / "new", dtype="int8")


def test_a_folder_that_exists_is_not_touched(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="exists already"):
        synthetic.write("tiny-sd15", tmp_path)


def test_an_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(stage: str, done: int, total: int) -> None:
        if stage == "writing vae":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthetic.write("tiny-sd15", tmp_path / "new", progress=interrupt)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("pad_token", "pad"), [("<|endoftext|>", 49407), ("!", 0)])
def test_the_full_vocabulary_has_the_ids_of_clip(tmp_path: Path, pad_token: str, pad: int) -> None:
    vocabulary.write(tmp_path / "tokenizer", 49408, pad_token)
    tokenizer = CLIPTokenizer.from_pretrained(tmp_path / "tokenizer")
    assert len(tokenizer) == 49408
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (49406, 49407, pad)
    assert tokenizer.convert_tokens_to_ids(["!", "a", "!</w>"]) == [0, 64, 256]


@pytest.mark.parametrize("text", ["a photo of a flooble", "Füße, 猫!", "👩‍🚀 \x00\t\n", ""])
def test_any_text_can_be_tokenised_and_read_back(sd15: Checkpoint, text: str) -> None:
    tokenizer = sd15.tokenizer()
    ids = tokenizer(text).input_ids
    assert ids[0] == 2998 and ids[-1] == 2999
    plain = "".join(text.lower().split())
    assert "".join(tokenizer.decode(ids, skip_special_tokens=True).split()).replace(
        "\x00", ""
    ) == plain.replace("\x00", "")
