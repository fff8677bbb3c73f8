"""One model on a GPU: a random-weight checkpoint and its bundle, every backend and peer in turn, what else is tried."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from calotype import backends
from calotype.bundle import MANIFEST, Bundle
from calotype.errors import CalotypeError
from calotype_bench import floor, fusions, hoisting, latency, operators, report_text, rows
from calotype_bench.drafts import draft
from calotype_bench.fidelity import PLAUSIBLE
from calotype_bench.jobs import PROMPT, Engine, Job
from calotype_bench.measurement import Measurement
from calotype_bench.order import Order
from calotype_bench.rates import Rates
from calotype_bench.results import Latency
from calotype_export.compile import compile_bundle
from calotype_export.console import reporter
from calotype_export.tensorrt_builder import BuilderOptions

# How many times as far as eager's own in that precision rounding takes latents from eager fp32's, at most.
_TIMES_EAGERS = 4


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What is measured, and where."""

    models: tuple[str, ...]
    backends: tuple[str, ...]
    peers: tuple[str, ...]
    batches: tuple[int, ...]
    precision: str
    device: str
    steps: int
    runs: int
    command: tuple[str, ...] = ()


def measure(
    model: str, plan: Plan, rates: Mapping[str, Rates], where: Mapping[str, Any], folder: Path
) -> tuple[dict[str, str], Latency]:
    """Why backends cannot run, or nothing, and the rows of one model: every backend and peer in turn, by batch size.

    Without `rates` no floor is known. The model is made in `folder` where it is not there yet.
    """
    checkpoint, root = _drafted(model, plan, folder)
    reasons = {backend: prepare(root, backend, plan.device) for backend in plan.backends}
    usable = [backend for backend, reason in reasons.items() if not reason]
    for backend, reason in reasons.items():
        print(f"{model} {backend}: {reason or 'ready'}", flush=True)
    engines = [Engine("calotype", str(root), backend, plan.precision, plan.device) for backend in usable] + [
        Engine(peer, str(checkpoint), "", plan.precision, plan.device) for peer in plan.peers
    ]
    bundle = Bundle.open(root)
    width, height = bundle.manifest.width, bundle.manifest.height
    jobs = [Job(PROMPT, plan.steps, 0, batch=each, width=width, height=height) for each in plan.batches]
    exact = Engine("eager", str(checkpoint), "", "fp32", plan.device)
    order = Order(plan.runs)
    *_, measurements = latency.measure(engines, jobs, order, references=[exact])
    result = Latency(
        title=model,
        command=plan.command,
        machine=where,
        bundles=rows.described([bundle]),
        warm_up=order.warm_up(plan.device),
        measurements=measurements,
        rates=rates,
        floors=tuple(floor.of_measurement([bundle], each, rates) if rates else {} for each in measurements),
        operators={
            engine.label: {
                "unet_step": operators.measure(root, "unet_step", engine.backend, plan.device, None)
            }
            for engine in engines[: len(usable)]
        },
    )
    print(f"\n{report_text.latency(result)}", flush=True)
    return reasons, result


def _drafted(model: str, plan: Plan, folder: Path) -> tuple[Path, Path]:
    """The checkpoint and the bundle in `folder`: those of before, where they are whole and have these batch sizes."""
    root = folder / "bundle"
    if (root / MANIFEST).is_file() and {*plan.batches} <= {*Bundle.open(root).manifest.batches}:
        return folder / "checkpoint", root
    for made in (folder / "checkpoint", root):  # what else lies there is somebody's own
        shutil.rmtree(made, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    return draft(model, plan.precision, folder, plan.batches)


def strays(measurement: Measurement, precision: str) -> dict[str, str]:
    """Engines whose latents lie further from eager fp32's than rounding to `precision` explains, and how far."""
    known = {row.engine: row.fidelity.latents for row in measurement.rows if row.fidelity is not None}
    eager = [far for engine, far in known.items() if (engine.name, engine.dtype) == ("eager", precision)]
    allowed = min([PLAUSIBLE[precision], *(_TIMES_EAGERS * far for far in eager if far)])
    return {
        engine.label: f"its latents lie {far:.1e} (relative L2) from eager fp32's; {allowed:.1e} is let pass"
        for engine, far in known.items()
        if engine.name == "calotype" and far is not None and not far <= allowed
    }


def hoisted(root: Path, usable: Sequence[str], plan: Plan) -> dict[str, Any]:
    """By backend, what it gains to take out of the step what rows have in common; or why that is not known."""
    found: dict[str, Any] = {}
    for backend in usable:
        try:
            found |= hoisting.measure(root, [backend], plan.device, plan.runs)
            print(hoisting.told(backend, found[backend]), flush=True)
        except Exception as error:  # whatever a vendor's library raises is the reason
            found[backend] = f"{type(error).__name__}: {error}"
            print(f"hoisting, {backend}: {found[backend]}", flush=True)
    return found


def fused(root: Path, plan: Plan) -> dict[str, Any]:
    """What ONNX Runtime's transformer optimiser gains; or why that is not known."""
    found = fusions.measure(root, plan.device, plan.runs)
    print("\n".join(fusions.told(found)), flush=True)
    return found


def prepare(root: Path, backend: str, device: str) -> str:
    """Compile the bundle for `backend` on a GPU, or where it runs nothing else; why it cannot run here, or nothing."""
    if backend not in backends.installed():
        return "its library is not installed"
    if backend not in backends.COMPILED_ONLY and device == "cpu":
        return ""
    try:
        compile_bundle(root, backend, BuilderOptions(gpu=0), reporter(sys.stderr))
    except Exception as error:  # whatever a vendor's library raises is the reason
        return error.message if isinstance(error, CalotypeError) else f"{type(error).__name__}: {error}"
    return ""
