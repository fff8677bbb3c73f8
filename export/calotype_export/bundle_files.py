"""The small files of a bundle: tokenizers, the scheduler's config, image processors' settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from calotype import schedulers
from calotype.errors import CheckpointError, RequestError
from calotype.manifest import FileSpec
from calotype.schedule import ScheduleOptions
from calotype_export.pipeline_parity import STEPS
from calotype_export.sources import Sources


def write_tokenizer(tokenizer: Any, max_length: int, folder: Path, name: str) -> None:
    """Write `name`.json for the tokenizers library, without truncation and padding, and `name`_config.json.

    `max_length` is the number of tokens that the program takes.
    """
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    (folder / f"{name}.json").write_text(backend.to_str(pretty=False), encoding="utf-8")
    fields = ("bos_token_id", "eos_token_id", "pad_token_id")
    ids = {field: int(getattr(tokenizer, field)) for field in fields}
    write_json(folder / f"{name}_config.json", {**ids, "model_max_length": max_length})


def scheduler_config(sources: Sources, scheduler: str | None, slots: int) -> Mapping[str, Any]:
    """What scheduler.json shall hold: the checkpoint's own repaired config, or what `scheduler` makes of it.

    CheckpointError where the runtime makes no table of it for programs with `slots` state slots.
    """
    config = sources.checkpoint.scheduler_config()
    selected = config if scheduler is None else select_scheduler(scheduler, config)
    try:
        schedulers.schedule(selected, ScheduleOptions(num_inference_steps=STEPS), slots)
    except RequestError as error:
        raise CheckpointError(
            f"scheduler/scheduler_config.json: {error.message}",
            f"{error.hint}, or choose another scheduler with --scheduler",
        ) from error
    return {"calotype_repairs": config.get("calotype_repairs", []), **selected}


def select_scheduler(name: str, config: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the scheduler `name` makes of `config`. CheckpointError for a name that is not offered."""
    try:
        return schedulers.select(name, config)
    except RequestError as error:
        raise CheckpointError(f"--scheduler: {error.message}", error.hint) from error


def write_processors(sources: Sources, max_length: int, folder: Path) -> None:
    """Write the settings of every component that looks at pictures, and the segmenter's tokenizer."""
    for component in sources.components:
        if component == "depth_estimator":
            write_json(folder / "depth_estimator.json", sources.processor(component))
        if component == "segmenter":
            write_json(folder / "segmenter.json", sources.processor(component))
            write_tokenizer(sources.tokenizer(component), max_length, folder, "segmenter_tokenizer")


def write_safety_checker(sources: Sources, checker: Any, folder: Path) -> None:
    """Write safety_checker.json: how it wants its pictures, and the thresholds that its scores are compared with."""
    thresholds = {
        "special_thresholds": checker.special_care_embeds_weights.float().tolist(),
        "concept_thresholds": checker.concept_embeds_weights.float().tolist(),
    }
    write_json(folder / "safety_checker.json", {**sources.processor("safety_checker"), **thresholds})


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` for people to read."""
    path.write_text(json.dumps(dict(content), indent=1, sort_keys=True) + "\n", encoding="utf-8")


def describe(path: Path, root: Path) -> FileSpec:
    """What the manifest says about the file at `path`, in the bundle `root`."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FileSpec(path.relative_to(root).as_posix(), path.stat().st_size, digest)
