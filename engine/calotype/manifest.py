"""What a bundle says about itself: `manifest.json` as frozen dataclasses, read and written here alone."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from types import MappingProxyType
from typing import Any, Final

from calotype import records
from calotype.errors import BundleError

FORMAT_VERSION = 3
EMPTY: Mapping[str, Any] = MappingProxyType({})
# What tensors are made of, by numpy's and ml_dtypes' names: bytes a number.
ITEM_BYTES: Final = MappingProxyType(
    {"float32": 4, "float16": 2, "bfloat16": 2, "int64": 8, "int32": 4, "bool": 1}
)
_WEIGHTS = ("float32", "float16", "bfloat16")


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One named tensor of a program; `dtype` is numpy's name (`float32`, `int64`)."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class FileSpec:
    """A file of the bundle: `path` is relative to it, `size` in bytes."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class ParameterSpec:
    """A weight of the checkpoint, and where a program keeps it: folded into a product, it may lie transposed."""

    name: str  # in its component, without `.weight`
    initializer: str  # its name in the graph
    dtype: str  # float32, float16 or bfloat16
    shape: tuple[int, ...]  # the checkpoint's, (out, in, ...)
    transposed: bool  # kept as (in, out)
    offset: int  # in `files[1]`, bytes


@dataclass(frozen=True, slots=True)
class ProgramSpec:
    """One compiled graph with fixed shapes. `files[0]` is the ONNX graph, the rest its external data."""

    name: str  # text_encoder, unet_step, vae_encoder, vae_decoder, depth_estimator, safety_checker, segmenter
    batch: int
    precision: str  # fp32, fp16 or bf16: what the weights are computed in
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    files: tuple[FileSpec, ...]
    parameters: tuple[ParameterSpec, ...] = ()  # those that a LoRA may change: matrices and convolutions
    activation_bytes: int = 0  # what is alive at once between its nodes, run one by one; an estimate
    nodes: int = 0  # of the graph
    # for ONNX Runtime on a GPU, where it lacks a kernel for `files`, or needs more of them
    cuda_files: tuple[FileSpec, ...] = field(default=(), metadata=records.ADDED)

    def input(self, name: str) -> TensorSpec:
        """The input called `name`; KeyError where there is none."""
        return {spec.name: spec for spec in self.inputs}[name]

    def sources(self, cuda: bool) -> tuple[str, ...]:
        """The sha256 of what is compiled: of `files`, and with `cuda` of `cuda_files` too."""
        return tuple(file.sha256 for file in (*self.files, *(self.cuda_files if cuda else ())))

    def output(self, name: str) -> TensorSpec:
        """The output called `name`; KeyError where there is none."""
        return {spec.name: spec for spec in self.outputs}[name]


@dataclass(frozen=True, slots=True)
class TimeEmbedding:
    """How diffusers' `Timesteps` turns a timestep into a sinusoid of `width` numbers."""

    width: int
    flip_sin_to_cos: bool
    freq_shift: float


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything that was decided at export."""

    family: str  # sd1, sd2, ... for people; nothing branches on it
    height: int  # of the picture, in pixels
    width: int
    latent_channels: int
    vae_scale_factor: int  # pixels per latent, 8
    batches: tuple[int, ...]  # batch sizes of unet_step, ascending
    precision: str  # fp32, fp16 or bf16
    guided: bool  # classifier-free guidance is inside unet_step
    conditioning: tuple[str, ...]  # extra inputs of unet_step: (), (mask, masked_latents) or (depth,)
    state_slots: int
    time_embedding: TimeEmbedding
    timestep_cond: int  # width of LCM's guidance embedding; 0 where there is none
    max_length: int  # tokens, 77
    programs: tuple[ProgramSpec, ...]
    files: tuple[FileSpec, ...]  # tokenizer.json, scheduler.json, ... : everything that is no program
    parity: Mapping[str, Any] = field(default_factory=lambda: EMPTY)
    source: Mapping[str, Any] = field(default_factory=lambda: EMPTY)
    versions: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    format_version: int = FORMAT_VERSION

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one picture's latents."""
        scale = self.vae_scale_factor
        return self.latent_channels, self.height // scale, self.width // scale

    def program(self, name: str, batch: int = 1) -> ProgramSpec | None:
        """The program `name` for `batch` images, or None."""
        found = [spec for spec in self.programs if (spec.name, spec.batch) == (name, batch)]
        return found[0] if found else None

    def to_json(self) -> str:
        """The text of `manifest.json`."""
        plain = dataclasses.replace(
            self, parity=dict(self.parity), source=dict(self.source), versions=dict(self.versions)
        )
        return json.dumps(dataclasses.asdict(plain), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str) -> Manifest:
        """Read the text of `manifest.json`; `where` names it in the BundleError of what does not fit."""
        manifest = records.parse(cls, text, where, FORMAT_VERSION, "export the bundle again")
        _check_sizes(manifest, where)
        return manifest


def _check_sizes(manifest: Manifest, where: str) -> None:
    """BundleError where a size is not positive, or a list that must hold something is empty."""
    sizes = ("height", "width", "latent_channels", "vae_scale_factor", "state_slots", "max_length")
    for name, value in [(name, getattr(manifest, name)) for name in sizes]:
        if value < 1:
            raise BundleError(f"{where}: {name}: expected at least 1, found {value}", "export again")
    if not manifest.batches or min(manifest.batches) < 1:
        raise BundleError(
            f"{where}: batches: expected sizes of at least 1, found {list(manifest.batches)}", "export again"
        )
    for program in manifest.programs:
        if not program.files:
            raise BundleError(f"{where}: program {program.name} has no files", "export again")
        for parameter in program.parameters:
            _check_parameter(program, parameter, f"{where}: program {program.name}: {parameter.name}")


def _check_parameter(program: ProgramSpec, parameter: ParameterSpec, where: str) -> None:
    """BundleError where a weight does not lie within the program's data file."""
    if parameter.dtype not in _WEIGHTS:
        raise BundleError(
            f"{where}: expected one of {', '.join(_WEIGHTS)}, found {parameter.dtype}", "export again"
        )
    end = parameter.offset + prod(parameter.shape) * ITEM_BYTES[parameter.dtype]
    if len(program.files) < 2 or not 0 <= parameter.offset < end <= program.files[1].size:
        raise BundleError(
            f"{where}: bytes {parameter.offset} to {end} lie outside of its data file", "export again"
        )


def batches_for(count: int, present: Sequence[int]) -> list[int]:
    """The batch sizes that draw `count` pictures, of those `present`: the largest that is filled, else the smallest."""
    found = list[int]()
    while (left := count - sum(found)) > 0:
        found.append(max((batch for batch in present if batch <= left), default=min(present)))
    return found
