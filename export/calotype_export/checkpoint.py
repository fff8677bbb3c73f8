"""A Stable Diffusion checkpoint on disk: a folder or a Hub id in; configs, one component at a time, and facts out."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from calotype.errors import CheckpointError
from calotype_export import components, configs, eager, processors, weight_files
from calotype_export.components import Kind
from calotype_export.locate import locate
from calotype_export.progress import Progress, silent
from calotype_export.weight_files import WeightFiles

_REQUIRED = {"text_encoder": "CLIPTextModel", "unet": "UNet2DConditionModel", "vae": "AutoencoderKL"}
_OPTIONAL = {"depth_estimator": "DPTForDepthEstimation", "safety_checker": "StableDiffusionSafetyChecker"}
_MODELS = {**_REQUIRED, **_OPTIONAL}
_WITHOUT_WEIGHTS = {
    "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
    "feature_extractor": ("CLIPImageProcessor", "CLIPFeatureExtractor", "CLIPImageProcessorFast",
                          "CLIPImageProcessorPil", "DPTImageProcessor", "DPTFeatureExtractor",
                          "DPTImageProcessorFast", "DPTImageProcessorPil"),
    "scheduler": eager.SCHEDULERS,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Component:
    """One model of a checkpoint: its class, where it lies, and its config."""

    name: str
    kind: Kind
    folder: Path
    config: Mapping[str, Any]
    weights: WeightFiles


Reader = Callable[[Component, torch.dtype], torch.nn.Module]
Tokenizers = Callable[[Path], Any]


def _read(component: Component, dtype: torch.dtype) -> torch.nn.Module:
    return components.load(component.kind, component.folder, dtype, component.weights.variant)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint that was looked at but not loaded. `name` is for people: no path of this machine."""

    root: Path
    name: str
    revision: str | None  # commit on the Hub
    models: Mapping[str, Component]
    scheduler: Mapping[str, Any]  # as the file has it
    read: Reader = _read
    read_tokenizer: Tokenizers = eager.tokenizer
    additions: Mapping[str, str] = dataclasses.field(
        default_factory=dict[str, str]
    )  # what was merged in: digest

    @property
    def components(self) -> tuple[str, ...]:
        """Names of the models that are there."""
        return tuple(self.models)

    @property
    def configs(self) -> Mapping[str, Mapping[str, Any]]:
        """Config of each model."""
        return {name: model.config for name, model in self.models.items()}

    @property
    def family(self) -> str:
        """sd1, sd2 or custom; for people."""
        return configs.family(self.models["unet"].config)

    @property
    def conditioning(self) -> tuple[str, ...]:
        """Extra inputs of the UNet: (), (mask, masked_latents) or (depth,)."""
        return configs.CONDITIONING[self.channels]

    @property
    def channels(self) -> int:
        """Channels that the UNet takes: 4, 5 or 9."""
        return int(self.models["unet"].config.get("in_channels", 4))

    @property
    def prediction_type(self) -> str:
        """What the UNet predicts: epsilon, v_prediction or sample."""
        return str(self.scheduler.get("prediction_type", "epsilon"))

    @property
    def timestep_cond(self) -> int:
        """Width of LCM's guidance embedding; 0 where the UNet has none."""
        return int(self.models["unet"].config.get("time_cond_proj_dim") or 0)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels that the checkpoint was trained for."""
        found = self.models["unet"].config.get("sample_size") or 64
        height, width = (found, found) if isinstance(found, int) else found
        return 8 * height, 8 * width

    def source(self, progress: Progress = silent) -> Mapping[str, Any]:
        """Where the weights are from: name, revision and SHA-256 of every weight file (read anew each time)."""
        files = sorted({path for model in self.models.values() for path in model.weights.paths})
        found = weight_files.digests(files, progress)
        digests = {_place(path, self.root): digest for path, digest in found.items()}
        merged = {"merged": dict(self.additions)} if self.additions else {}
        return {"checkpoint": self.name, "revision": self.revision, "sha256": digests, **merged}

    def load(self, name: str, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
        """The model `name` in evaluation mode on the CPU. CheckpointError where the checkpoint has none."""
        if name not in self.models:
            raise CheckpointError(f"{self.name} has no {name}", f"it has: {', '.join(self.models)}")
        return self.read(self.models[name], dtype)

    def tokenizer(self) -> Any:
        """transformers' CLIPTokenizer of the checkpoint, for at most as many tokens as the text encoder takes."""
        found = self.read_tokenizer(self.root / "tokenizer")
        positions = int(self.models["text_encoder"].config.get("max_position_embeddings", 77))
        found.model_max_length = min(int(found.model_max_length), positions)  # 1e30 where no file says it
        return found

    def scheduler_config(self) -> Mapping[str, Any]:
        """The scheduler config with diffusers' own repairs, which `calotype_repairs` names."""
        return configs.repaired_scheduler(self.scheduler, self.channels)

    def processor(self, name: str) -> Mapping[str, Any]:
        """How the depth estimator or the safety checker wants its pictures: see `processors.record`."""
        if name not in _OPTIONAL or name not in self.models:
            raise CheckpointError(f"{self.name} has no image processor for {name}")
        return processors.record(configs.read(self.root / "feature_extractor" / "preprocessor_config.json"))

    def pipeline(self, dtype: torch.dtype = torch.float32) -> Any:
        """The eager diffusers pipeline of the UNet's own class, every component loaded."""
        return eager.pipeline(self, {name: self.load(name, dtype) for name in self.models})


def open_checkpoint(
    source: Path | str, revision: str | None = None, progress: Progress = silent
) -> Checkpoint:
    """Look at the checkpoint in a folder of diffusers' layout, or at a Hub id, which is downloaded.

    Raises CheckpointError for anything but the known classes with whole safetensors files: the message names the
    file or the field.
    """
    return read_folder(*locate(source, revision, progress))


def read_folder(root: Path, name: str, revision: str | None) -> Checkpoint:
    """The checkpoint in the folder `root`, weights included."""
    layout = read_layout(root)
    models: dict[str, Component] = {}
    for component, (kind, config) in layout.models.items():
        weights = weight_files.find(root / component, kind.weights)
        models[component] = Component(component, kind, root / component, config, weights)
    return Checkpoint(root, name, revision, models, layout.scheduler)


@dataclass(frozen=True, slots=True)
class Layout:
    """What the JSON files of a checkpoint say; weights are another matter."""

    models: Mapping[str, tuple[Kind, Mapping[str, Any]]]
    scheduler: Mapping[str, Any]


def read_layout(root: Path) -> Layout:
    """Read and judge every config file in `root`."""
    if not (root / "model_index.json").is_file():
        raise CheckpointError(
            f"{root.name} has no model_index.json", "expected a folder in diffusers' layout"
        )
    index = configs.read(root / "model_index.json")
    classes = _classes(index)
    models: dict[str, tuple[Kind, Mapping[str, Any]]] = {}
    for component in (name for name in _MODELS if name in classes):
        config = configs.read(root / component / "config.json")
        models[component] = (components.KINDS[classes[component]], config)
    configs.check_unet(models["unet"][1])
    configs.check_vae(models["vae"][1])
    models["unet"] = (models["unet"][0], configs.repaired_unet(models["unet"][1]))
    _check_depth(models)
    scheduler = configs.read(root / "scheduler" / "scheduler_config.json")
    return Layout(models, {**scheduler, "_class_name": classes["scheduler"]})


def _classes(index: Mapping[str, Any]) -> Mapping[str, str]:
    """Class of each component that `model_index.json` lists. CheckpointError for every other than the known."""
    found: dict[str, str] = {}
    for component, entry in index.items():
        if not isinstance(entry, list) or entry == [None, None]:
            continue
        name = str(entry[-1])
        allowed = (_MODELS[component],) if component in _MODELS else _WITHOUT_WEIGHTS.get(component, ())
        if name not in allowed:
            near = difflib.get_close_matches(name, allowed, n=1)
            raise CheckpointError(
                f"model_index.json: {component} is a {name} of {entry[0]}, "
                f"expected {' or '.join(allowed) or 'no such component'}",
                f"did you mean {near[0]}?"
                if near
                else "only these classes are built; code of a checkpoint never runs",
            )
        found[component] = name
    missing = [component for component in (*_REQUIRED, "tokenizer", "scheduler") if component not in found]
    if missing:
        raise CheckpointError(f"model_index.json names no {', '.join(missing)}",
                              "a checkpoint has text_encoder, unet, vae, tokenizer and scheduler")  # fmt: skip
    return found


def _check_depth(models: Mapping[str, Any]) -> None:
    if models["unet"][1].get("in_channels", 4) == 5 and "depth_estimator" not in models:
        raise CheckpointError("the UNet takes depth, but model_index.json names no depth_estimator")


def _place(path: Path, root: Path) -> str:
    """The file's name for people: inside the checkpoint, never a path of this machine."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
