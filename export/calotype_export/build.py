"""From a checkpoint to a bundle: `BuildOptions` in, a folder that appears whole and verified, or not at all."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from calotype.bundle import MANIFEST
from calotype.errors import CheckpointError
from calotype.lora import LoraFile
from calotype.manifest import Manifest, ProgramSpec, TimeEmbedding
from calotype_export import bundle_files, precisions, program_files, trace, verify
from calotype_export.adapters import EmbeddingFile
from calotype_export.opening import Source, open_source
from calotype_export.progress import Progress, silent
from calotype_export.sources import DTYPES, Sources, with_segmenter
from calotype_export.staging import refuse_existing, staged

STATE_SLOTS = 5
MULTIPLE = 8
PACKAGES = ("calotype", "torch", "diffusers", "transformers", "onnx", "onnxruntime", "openvino")


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """What a bundle shall be made from, and what it shall be.

    `checkpoint` is a folder in diffusers' layout, a Hub id, or a .safetensors file with the folder of its `config`.
    `size` is (height, width) in pixels; None is what the checkpoint was trained for.
    """

    checkpoint: Path | str
    output: Path
    size: tuple[int, int] | None = None
    batches: tuple[int, ...] = (1,)
    precision: str = "fp32"  # fp32, fp16 or bf16
    vae_precision: str | None = (
        None  # None is `precision` where the VAE's numbers stay finite in it, else fp32
    )
    scheduler: str | None = None  # diffusers' class name or a short one; None is the checkpoint's own
    unguided: bool = False  # no classifier-free guidance inside the step, which is half the work
    segmenter: Path | None = None  # folder of a CLIPSeg model
    loras: tuple[LoraFile, ...] = ()
    embeddings: tuple[EmbeddingFile, ...] = ()  # textual inversions
    revision: str | None = None  # of a Hub id
    config: Path | None = None


def build(options: BuildOptions, progress: Progress = silent) -> Path:
    """Write the bundle `options.output` and return its path.

    CheckpointError for options that the checkpoint cannot meet, and where the disk is full; BackendError where the
    library that parity is measured with is missing; ParityError for a program that misses its gate. Whatever ends
    it early, Ctrl-C too, nothing is left.
    """
    check(options)
    sources = opened(options, progress)
    with staged(options.output) as folder:
        manifest = draft(sources, options, folder, progress)
        record = verify.verify(folder, sources, progress=progress)
        _write(dataclasses.replace(manifest, parity=record), folder)
    return options.output


def draft(sources: Sources, options: BuildOptions, folder: Path, progress: Progress = silent) -> Manifest:
    """Write a bundle into the empty `folder` that was not compared with anything yet; its manifest."""
    scheduler = bundle_files.scheduler_config(sources, options.scheduler, STATE_SLOTS)
    decided = decide(sources, options, progress)
    chosen = precisions.choose(sources, decided, options.vae_precision, progress)
    (folder / "onnx").mkdir()
    programs = program_files.export(sources, decided, chosen, folder, progress)
    write_files(sources, scheduler, folder)
    manifest = described(decided, programs, folder)
    _write(manifest, folder)
    return manifest


def opened(options: BuildOptions, progress: Progress = silent) -> Sources:
    """The models that `options` names, with what is to be merged in; no weight is read yet."""
    source = Source(options.checkpoint, options.revision, options.config, options.loras, options.embeddings)
    checkpoint = open_source(source, progress)
    return with_segmenter(checkpoint, options.segmenter)


def check(options: BuildOptions) -> None:
    """CheckpointError for options that no checkpoint can meet, and where something is at the output already.

    BackendError as `verify.measured_with` raises it.
    """
    refuse_existing(options.output)
    for name, found in (("--precision", options.precision), ("--vae-precision", options.vae_precision)):
        if found is not None and found not in DTYPES:
            raise CheckpointError(f"{name}: expected one of {', '.join(DTYPES)}, found {found!r}")
    if options.size is not None and any(side < MULTIPLE or side % MULTIPLE for side in options.size):
        height, width = options.size
        near = [max(MULTIPLE, round(side / MULTIPLE) * MULTIPLE) for side in (width, height)]
        raise CheckpointError(
            f"--size: expected multiples of {MULTIPLE}, found {width}x{height}", f"try {near[0]}x{near[1]}"
        )
    if not options.batches or any(batch < 1 for batch in options.batches):
        raise CheckpointError(f"--batch: expected positive numbers, found {list(options.batches)}")
    if options.scheduler is not None:
        bundle_files.select_scheduler(options.scheduler, {})
    verify.measured_with({options.precision, options.vae_precision or options.precision})


def decide(sources: Sources, options: BuildOptions, progress: Progress = silent) -> Manifest:
    """The manifest without programs and files: everything that is known before a weight is loaded."""
    checkpoint, unet = sources.checkpoint, sources.checkpoint.configs["unet"]
    vae = checkpoint.configs["vae"]
    height, width = options.size or checkpoint.size
    chosen = {"scheduler": options.scheduler} if options.scheduler else {}
    return Manifest(
        family=checkpoint.family,
        height=height,
        width=width,
        latent_channels=int(vae.get("latent_channels", 4)),
        vae_scale_factor=2 ** (len(vae["block_out_channels"]) - 1),
        batches=tuple(sorted(set(options.batches))),
        precision=options.precision,
        guided=not options.unguided and not checkpoint.timestep_cond,
        conditioning=checkpoint.conditioning,
        state_slots=STATE_SLOTS,
        time_embedding=TimeEmbedding(
            width=int(unet["block_out_channels"][0]),
            flip_sin_to_cos=bool(unet.get("flip_sin_to_cos", True)),
            freq_shift=float(unet.get("freq_shift", 0)),
        ),
        timestep_cond=checkpoint.timestep_cond,
        max_length=int(checkpoint.tokenizer().model_max_length),
        programs=(),
        files=(),
        source={**checkpoint.source(progress), **chosen},
        versions={
            "opset": str(trace.OPSET),
            **{name: metadata.version(name) for name in PACKAGES if _there(name)},
        },
    )


def write_files(sources: Sources, scheduler: Mapping[str, Any], folder: Path) -> None:
    """Write everything that is neither a program nor the manifest nor written along with a program."""
    bundle_files.write_json(folder / "scheduler.json", scheduler)
    tokenizer = sources.checkpoint.tokenizer()
    length = int(tokenizer.model_max_length)  # which every program that reads tokens has: see `decide`
    bundle_files.write_tokenizer(tokenizer, length, folder, "tokenizer")
    bundle_files.write_processors(sources, length, folder)


def described(decided: Manifest, programs: tuple[ProgramSpec, ...], folder: Path) -> Manifest:
    """The manifest of what lies in `folder`, parity left out."""
    files = tuple(bundle_files.describe(path, folder) for path in sorted(folder.glob("*.json")))
    return dataclasses.replace(decided, programs=programs, files=files)


def _write(manifest: Manifest, folder: Path) -> None:
    (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")


def _there(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True
