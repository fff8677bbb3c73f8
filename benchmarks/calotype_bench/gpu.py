"""Everything that needs a GPU, in one command: tests, then latency beside eager diffusers, with random weights.

`python -m calotype_bench.gpu -o FOLDER` uses whichever backends this machine has, says of the others what is missing,
and writes `gpu-<name>.json`, and beside it one result a model that `calotype-bench report` reads. A stage that fails is
named in the end and makes the exit status 1. `--rehearse` goes through the same with tiny checkpoints on the processor.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from calotype import backends, files
from calotype_bench import gpu_models, machine, portability, rates, report_text, results
from calotype_bench.gpu_models import Plan
from calotype_bench.results import Latency
from calotype_export import arguments
from calotype_export.console import silence_libraries

ROOT = Path(__file__).parent.parent.parent
BUNDLES = ROOT / ".cache" / "test-bundles"  # which the tests make
PEERS = ("eager", "compile")
# Pictures are compared with those of eager diffusers in fp32, drawn once.
REAL = Plan(
    ("sd15", "sd21-base"), ("tensorrt", "tensorrt_rtx", "onnxruntime"), PEERS, (1, 4), "fp16", "cuda", 50, 10
)
REHEARSAL = Plan(
    ("tiny-sd15",), ("tensorrt", "openvino", "onnxruntime"), ("eager",), (1, 2), "fp32", "cpu", 3, 2
)
T = TypeVar("T")


def main() -> int:
    """Run everything, print one table of it, and write the figures; 1 where a test or another stage failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--rehearse", action="store_true", help="tiny checkpoints, on the processor")
    for name, parse in _CHOICES.items():
        parser.add_argument(
            f"--{name}", type=parse, metavar="A,B", help=f"these {name} (default: as planned)"
        )
    parser.add_argument("--skip-tests", action="store_true", help="measure alone")
    parser.add_argument("--skip-techniques", action="store_true", help="try nothing else on the step")
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="BUNDLES",
        help="where models are made, and found again (default: a temporary folder)",
    )
    options = parser.parse_args()
    silence_libraries()
    plan = _chosen(REHEARSAL if options.rehearse else REAL, options)
    name, described = _described(plan)
    options.output.mkdir(parents=True, exist_ok=True)
    diary = Diary(options.output / f"gpu-{name}.json")
    diary.note("machine", described)
    diary.note("plan", dataclasses.asdict(plan))
    if not options.skip_tests:
        _test(diary, options.rehearse)
    with tempfile.TemporaryDirectory(prefix="calotype-gpu-") as folder:
        measured = _measure(diary, plan, described, options.keep or Path(folder), not options.skip_techniques)
    print(f"\n{report_text.summary(measured)}\n\nwritten: {diary.path}")
    for stage, reason in diary.failures.items():
        print(f"failed: {stage}: {reason}")
    return 1 if diary.failures else 0


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


# Fields of a plan that options name, and how their text is read.
_CHOICES: Mapping[str, Callable[[str], tuple[Any, ...]]] = {
    "models": _names,
    "backends": _names,
    "peers": _names,
    "batches": arguments.batches,
}


class Diary:
    """What was found so far, in a file that is written with every stage, since a run may be cut off."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.failures: dict[str, str] = {}
        self._found: dict[str, Any] = {"failures": self.failures}

    def note(self, stage: str, found: Any) -> None:
        """Write down what JSON can hold."""
        self._found[stage] = found
        with files.placed(self.path, "the diary") as file:
            file.write_text(json.dumps(self._found, indent=1) + "\n", "utf-8")

    def fail(self, stage: str, reason: str) -> None:
        """Write down why `stage` failed, beside what it found, if anything."""
        print(f"failed: {stage}: {reason}", flush=True)
        self.failures[stage] = reason
        self.note(stage, self._found.get(stage, reason))

    def attempt(self, stage: str, work: Callable[[], T]) -> T | None:
        """What `work` gives; None where it fails, which is written down: other stages may fare better."""
        try:
            return work()
        except Exception as error:  # whatever a vendor's library raises is the reason
            self.fail(stage, f"{type(error).__name__}: {error}")
            return None


def _test(diary: Diary, rehearse: bool) -> None:
    found = diary.attempt("tests", partial(tests, rehearse))
    if found is not None:
        diary.note("tests", found)
        if found["status"]:
            diary.fail("tests", found["said"])


def _chosen(plan: Plan, options: argparse.Namespace) -> Plan:
    """Of `plan` what the options name, and the command."""
    changes: dict[str, Any] = {name: vars(options)[name] for name in _CHOICES if vars(options)[name]}
    command = ("python", "-m", "calotype_bench.gpu", *sys.argv[1:])
    return dataclasses.replace(plan, command=command, **changes)


def _measure(
    diary: Diary, plan: Plan, where: Mapping[str, Any], folder: Path, techniques: bool
) -> list[Latency]:
    """Everything but the tests; what was measured, model by model, whose rows lie beside the diary."""
    known = diary.attempt("rates", partial(rates.measure, [plan.precision], plan.device)) or {}
    diary.note("rates", {precision: dataclasses.asdict(each) for precision, each in known.items()})
    stage = "plans of other capabilities"
    plain = BUNDLES / "plain"
    opened = diary.attempt(stage, partial(portability.probe, plain)) if plain.is_dir() else {}
    diary.note(stage, opened)
    for capability, answer in (opened or {}).items():
        if answer.startswith("not built"):
            diary.fail(f"{stage}, {capability}", answer)
    measured: list[Latency] = []
    for model in plan.models:
        found = diary.attempt(model, partial(gpu_models.measure, model, plan, known, where, folder / model))
        if found is None:
            continue
        reasons, result = found
        measured.append(result)
        results.write(result, diary.path.with_name(f"{diary.path.stem}-{model}.json"))
        diary.note(model, {"backends": reasons, "rows": report_text.summary_rows(result)})
        for backend, reason in reasons.items():
            if reason and backend in backends.installed():
                diary.fail(f"{model}, {backend}", reason)
        for measurement in result.measurements:
            failed = {row.engine.label: row.failure for row in measurement.rows if row.failure}
            for engine, reason in (failed | gpu_models.strays(measurement, plan.precision)).items():
                diary.fail(f"{model}, {engine}", reason)
        if techniques:
            usable = [backend for backend, reason in reasons.items() if not reason]
            _try_techniques(diary, model, plan, usable, folder / model / "bundle")
    return measured


def _try_techniques(diary: Diary, model: str, plan: Plan, usable: Sequence[str], bundle: Path) -> None:
    """What else the step could do; what cannot be tried is a failure, but for operators that processors lack."""
    hoisted = gpu_models.hoisted(bundle, usable, plan)
    diary.note(f"{model}, hoisting", hoisted)
    fused = gpu_models.fused(bundle, plan) if "onnxruntime" in usable else {}
    diary.note(f"{model}, fusions of ONNX Runtime", fused)
    for what, found in (("hoisting", hoisted), ("fusions", fused if plan.device != "cpu" else {})):
        for name, one in found.items():
            if isinstance(one, str):
                diary.fail(f"{model}, {what}, {name}", one)


def tests(rehearse: bool) -> dict[str, Any]:
    """How pytest ends with the tests that need a GPU, on bundles that are exported first where they are missing."""
    bundle = [sys.executable, "-m", "tests.bundles", str(BUNDLES), "plain"]
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


def _described(plan: Plan) -> tuple[str, dict[str, Any]]:
    """A name for the file, and the machine with its GPU, as far as it can be told."""
    described = machine.describe(plan.device)
    if plan.device == "cpu":
        return "rehearsal", described
    card = described["gpu"]
    if isinstance(card, str):  # why it cannot be told
        return "unknown", described
    return "-".join(card["gpu"].lower().split()) or "none", described


if __name__ == "__main__":
    sys.exit(main())
