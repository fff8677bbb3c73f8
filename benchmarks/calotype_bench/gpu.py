"""Everything that needs a GPU, in one command: tests, then latency beside eager diffusers, with random weights.

`python -m calotype_bench.gpu -o FOLDER` uses whichever backends this machine has, says of the others what is missing,
and writes `gpu-<name>.json`, and beside it one result a model that `calotype-bench report` reads. `--rehearse` goes
through the same with tiny checkpoints on the processor.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from calotype import backends
from calotype.backends._cuda_device import machine as gpu_machine
from calotype.bundle import Bundle
from calotype.errors import CalotypeError
from calotype_bench import (
    floor,
    fusions,
    hoisting,
    latency,
    machine,
    operators,
    paired,
    portability,
    rates,
    report_text,
    results,
    rows,
)
from calotype_bench.jobs import PROMPT, Engine, Job
from calotype_bench.results import Latency
from calotype_export import build, synthetic
from calotype_export.build import BuildOptions
from calotype_export.compile import compile_bundle
from calotype_export.console import silence_libraries
from calotype_export.tensorrt_builder import BuilderOptions

ROOT = Path(__file__).parent.parent.parent
PEERS = ("eager", "compile")


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


# Pictures are compared with those of eager diffusers in fp32, drawn once.
REAL = Plan(
    ("sd15", "sd21-base"), ("tensorrt", "tensorrt_rtx", "onnxruntime"), PEERS, (1, 4), "fp16", "cuda", 50, 10
)
REHEARSAL = Plan(
    ("tiny-sd15",), ("tensorrt", "openvino", "onnxruntime"), ("eager",), (1, 2), "fp32", "cpu", 3, 2
)


def main() -> int:
    """Run everything, print tables, and write the figures; the exit status of the tests."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--rehearse", action="store_true", help="tiny checkpoints, on the processor")
    parser.add_argument("--models", help="some of them, separated by commas (default: all)")
    parser.add_argument("--skip-tests", action="store_true", help="measure alone")
    options = parser.parse_args()
    silence_libraries()
    plan = REHEARSAL if options.rehearse else REAL
    if options.models:
        plan = dataclasses.replace(plan, models=tuple(options.models.split(",")))
    name, described = _described(plan)
    path = options.output / f"gpu-{name}.json"
    result: dict[str, Any] = {"machine": described, "plan": dataclasses.asdict(plan)}
    with tempfile.TemporaryDirectory(prefix="calotype-gpu-") as folder:
        for stage, found in _stages(plan, options, described, Path(folder), path):
            result[stage] = found
            path.write_text(json.dumps(result, indent=1) + "\n", "utf-8")  # a run may be cut off
    print(f"written: {path}")
    return int(result.get("tests", {}).get("status", 0))


def _stages(
    plan: Plan, options: argparse.Namespace, described: Mapping[str, Any], folder: Path, path: Path
) -> Iterator[tuple[str, Any]]:
    """What is found, stage by stage; the rows of a model lie beside `path`."""
    if not options.skip_tests:
        yield "tests", tests(options.rehearse)
    found = rates.measure(plan.precision, plan.device)
    yield "rates", dataclasses.asdict(found)
    yield "plans of other capabilities", portability.probe(ROOT / ".cache" / "test-bundles" / "plain")
    for model in plan.models:
        try:
            reasons, measured = measure(model, plan, found, described, folder / model)
        except Exception as error:  # the other model may fare better
            yield model, f"{type(error).__name__}: {error}"
            continue
        results.write(measured, path.with_name(f"{path.stem}-{model}.json"))
        usable = [backend for backend, reason in reasons.items() if not reason]
        yield model, reasons
        yield f"{model}, hoisting", hoisted(folder / model / "bundle", usable, plan)
        if "onnxruntime" in usable:
            yield f"{model}, fusions of ONNX Runtime", fused(folder / model / "bundle", plan)


def tests(rehearse: bool) -> dict[str, Any]:
    """How pytest ends with the tests that need a GPU, on bundles that are exported first where they are missing."""
    bundle = [sys.executable, "-m", "tests.bundles", ".cache/test-bundles", "plain"]
    if subprocess.run(bundle, cwd=ROOT, check=False).returncode:
        return {"status": 1, "said": "no test was run: the bundle that they need cannot be exported here"}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-rs",
        "tests/gpu",
        *([] if importlib.util.find_spec("pytest_timeout") else ["-o", "timeout="]),
        *(["--rehearse"] if rehearse else []),
    ]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    print(run.stdout[-4000:], flush=True)
    said = (run.stdout.splitlines() or run.stderr.splitlines() or ["pytest said nothing"])[-1]
    return {"status": run.returncode, "said": said}


def measure(
    model: str, plan: Plan, found: rates.Rates, where: Mapping[str, Any], folder: Path
) -> tuple[dict[str, str], Latency]:
    """Why backends cannot run, or nothing, and the rows of one model: every backend and peer in turn, by batch size."""
    folder.mkdir()
    checkpoint, root = draft(model, plan, folder)
    reasons = {backend: prepare(root, backend) for backend in plan.backends}
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
    measurements = list(latency.measure(engines, jobs, plan.runs, references=[exact]))
    result = Latency(
        title=model,
        command=("make", "gpu"),
        machine=where,
        bundles=rows.described([bundle]),
        measurements=tuple(measurements),
        rates={plan.precision: found},
        floors=tuple(
            floor.of_measurement([bundle], measurement, {plan.precision: found})
            for measurement in measurements
        ),
        operators={
            engine.label: {
                "unet_step": operators.measure(root, "unet_step", engine.backend, plan.device, None)
            }
            for engine in engines[: len(usable)]
        },
    )
    print(f"\n{report_text.latency(result)}", flush=True)
    return reasons, result


def hoisted(root: Path, usable: Sequence[str], plan: Plan) -> dict[str, Any]:
    """By backend, what it gains to take out of the step what rows have in common; or why that is not known."""
    found: dict[str, Any] = {}
    for backend in usable:
        try:
            found |= hoisting.measure(root, [backend], plan.device, plan.runs)
            print(hoisting.told(backend, found[backend]), flush=True)
        except Exception as error:  # whatever a vendor's library raises is the reason
            found[backend] = f"{type(error).__name__}: {error}"
    return found


def fused(root: Path, plan: Plan) -> Any:
    """What ONNX Runtime's transformer optimiser gains; or why that is not known."""
    try:
        found = fusions.measure(root, plan.device, plan.runs)
    except Exception as error:  # the optimiser's, or the provider's that lacks one of its operators
        return f"{type(error).__name__}: {error}"
    print(paired.told("onnxruntime.transformers", found), flush=True)
    return found


def draft(model: str, plan: Plan, folder: Path) -> tuple[Path, Path]:
    """A random-weight checkpoint and a bundle of it, which is compared with eager by the rows' own latents."""
    checkpoint = synthetic.write(model, folder / "checkpoint", dtype=plan.precision)
    root = folder / "bundle"
    root.mkdir()
    options = BuildOptions(
        checkpoint, root, batches=plan.batches, precision=plan.precision, vae_precision=plan.precision
    )
    build.draft(build.opened(options), options, root)
    return checkpoint, root


def prepare(root: Path, backend: str) -> str:
    """Compile the bundle for `backend` where it runs nothing else; why it cannot run here, or nothing."""
    if backend not in backends.installed():
        return "its library is not installed"
    if backend not in backends.COMPILED_ONLY:
        return ""
    try:
        compile_bundle(root, backend, BuilderOptions())
    except Exception as error:  # whatever a vendor's library raises is the reason
        return error.message if isinstance(error, CalotypeError) else f"{type(error).__name__}: {error}"
    return ""


def _described(plan: Plan) -> tuple[str, dict[str, Any]]:
    """A name for the file, and the machine with its GPU."""
    described = machine.describe()
    if plan.device == "cpu":
        return "rehearsal", described
    card = gpu_machine("")
    name = "-".join(card.gpu.lower().split()) or "none"
    return name, described | {"gpu": dataclasses.asdict(card)}


if __name__ == "__main__":
    sys.exit(main())
