"""From an opened bundle to loaded programs and what is built on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from calotype import backends, compiled
from calotype.backends import Array, BackendOptions
from calotype.bundle import Bundle
from calotype.conditioning import Senses
from calotype.denoiser import Denoiser
from calotype.errors import BackendError
from calotype.processors import ImageProcessor
from calotype.result import TimedProgram
from calotype.text import TextEncoder
from calotype.tokenizer import Tokenizer
from calotype.vision import DepthEstimator, SafetyChecker, Segmenter, Vae


@dataclass(frozen=True, slots=True)
class Loaded:
    """A bundle's programs on one backend, and the parts that use them."""

    backend: str
    programs: tuple[TimedProgram, ...]
    text: TextEncoder
    denoiser: Denoiser
    senses: Senses
    safety_checker: SafetyChecker | None
    scheduler: Mapping[str, Any]  # the bundle's config

    def replace_weights(self, changed: Weights, before: Callable[[], Weights]) -> None:
        """Give every program its weights of `changed`; where one cannot take them, all get those of `before()`."""
        programs = [program for program in self.programs if program.spec.name in changed]
        try:
            for program in programs:
                program.replace_weights(changed[program.spec.name])
        except BaseException:
            present = before()
            for program in programs:
                program.replace_weights(present[program.spec.name])
            raise


Weights = Mapping[str, Mapping[str, Array]]  # program -> initializer -> weight


def load(bundle: Bundle, backend: str, batches: Sequence[int] | None, options: BackendOptions) -> Loaded:
    """Load every program of the bundle; of the step, the batch sizes in `batches` (None: all)."""
    compiled_for = compiled.backends(bundle.root) if backend == "auto" else ()
    name = backends.choose(backend, bundle.manifest.precision, options.device, compiled_for)
    sizes = _chosen(batches, bundle.manifest.batches)
    specs = [spec for spec in bundle.manifest.programs if spec.name != "unet_step" or spec.batch in sizes]
    programs = [TimedProgram(program) for program in backends.load(name, bundle.root, specs, options)]
    loaded = {(program.spec.name, program.spec.batch): program for program in programs}

    def program(kind: str, batch: int = 1) -> TimedProgram:
        return loaded[bundle.program(kind, batch).name, batch]

    text = TextEncoder(_tokenizer(bundle, "tokenizer", "text_encoder"), program("text_encoder"))
    denoiser = Denoiser(bundle.manifest, {size: program("unet_step", size) for size in sizes})
    vae = Vae(program("vae_encoder"), program("vae_decoder"))
    senses = Senses(vae, _depth_estimator(bundle, program), _segmenter(bundle, program))
    checker, scheduler = _safety_checker(bundle, program), bundle.json("scheduler.json")
    return Loaded(name, tuple(programs), text, denoiser, senses, checker, scheduler)


Loader = Callable[[str], TimedProgram]


def _chosen(batches: Sequence[int] | None, present: tuple[int, ...]) -> tuple[int, ...]:
    if batches is None:
        return present
    given: Any = batches
    if not isinstance(given, list | tuple):
        raise BackendError(
            f"`batches`: expected a list of sizes, found {given!r}", f"this bundle has {list(present)}"
        )
    missing = [size for size in batches if size not in present]
    if missing or not batches:
        raise BackendError(
            f"`batches`: this bundle has step programs for {list(present)}, found {list(batches)}",
            "export with `--batch` for other sizes",
        )
    return tuple(sorted(batches))


def _tokenizer(bundle: Bundle, name: str, program: str) -> Tokenizer:
    """The tokenizer `name`, whose length must be that of the token ids which `program` takes."""
    length = bundle.program(program).input("input_ids").shape[1]
    return Tokenizer.load(bundle.root / f"{name}.json", bundle.root / f"{name}_config.json", length)


def _processor(bundle: Bundle, name: str) -> ImageProcessor:
    return ImageProcessor.load(bundle.root / f"{name}.json")


def _depth_estimator(bundle: Bundle, program: Loader) -> DepthEstimator | None:
    name = "depth_estimator"
    return DepthEstimator(_processor(bundle, name), program(name)) if bundle.has(name) else None


def _segmenter(bundle: Bundle, program: Loader) -> Segmenter | None:
    name = "segmenter"
    if not bundle.has(name):
        return None
    return Segmenter(_processor(bundle, name), _tokenizer(bundle, "segmenter_tokenizer", name), program(name))


def _safety_checker(bundle: Bundle, program: Loader) -> SafetyChecker | None:
    name = "safety_checker"
    if not bundle.has(name):
        return None
    settings = bundle.json(f"{name}.json")
    special, concept = (
        np.asarray(settings[f"{kind}_thresholds"], np.float32) for kind in ("special", "concept")
    )
    return SafetyChecker(_processor(bundle, name), (special, concept), program(name))
