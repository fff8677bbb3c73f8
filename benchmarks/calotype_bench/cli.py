"""The `calotype-bench` command."""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from calotype.bundle import Bundle
from calotype.errors import CalotypeError, RequestError
from calotype_bench import floor, latency, machine, report_text
from calotype_bench.jobs import Engine, Job
from calotype_bench.rates import measure as measure_rates

PEERS = ("eager", "eager-bf16", "eager-fp16", "compile", "compile-bf16", "compile-fp16")
PROMPT = "a painting of a lighthouse in a storm"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status: 0, 1 when it failed, 2 for bad usage, 130 when interrupted."""
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], None] = options.command
    try:
        command(options)
    except CalotypeError as error:
        print(f"calotype-bench: {error}", file=sys.stderr)
        return 2 if isinstance(error, RequestError) else 1
    except KeyboardInterrupt:
        print("calotype-bench: interrupted", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="calotype-bench", description="Measure compiled bundles beside their peers."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("latency", help="seconds a picture, engines drawing in turn")
    command.set_defaults(command=_latency)
    add = command.add_argument
    add("bundle", type=Path, metavar="BUNDLE")
    add("--backend", default="auto", help="of the first row (default: %(default)s)")
    add("--against", type=_names, default=(), metavar="NAMES",
        help=f"other rows: backends, or of {', '.join(PEERS)}, separated by commas")  # fmt: skip
    add("--checkpoint", type=Path, metavar="FOLDER", help="what the bundle was made from, for peers")
    add("--steps", type=int, default=20, help="inference steps (default: %(default)s)")
    add("--runs", type=int, default=10, help="of every engine (default: %(default)s)")
    add("--batch", type=int, default=1, help="pictures a run (default: %(default)s)")
    add("--scheduler", default="ddim", choices=("ddim", "euler", "pndm"), help="(default: %(default)s)")
    add("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    add("--threads", type=int, help="(default: the libraries' choice)")
    add("-o", "--output", type=Path, metavar="RESULT.json", help="raw samples and where they were taken")
    return parser


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _latency(options: argparse.Namespace) -> None:
    for name in ("steps", "runs", "batch"):
        if getattr(options, name) < 1:
            raise RequestError(f"--{name}: expected at least 1, found {getattr(options, name)}")
    bundle = Bundle.open(options.bundle)
    engines = [_engine(options, bundle, name) for name in (options.backend, *options.against)]
    job = Job(PROMPT, options.steps, 0, options.scheduler, batch=options.batch)
    rows = latency.measure(engines, job, options.runs, _progress)
    print(report_text.table(rows))
    rates = measure_rates(bundle.manifest.precision, options.device, options.threads)
    drawn = next((row.samples[0] for row in rows if row.samples), None)
    least: dict[str, float] = {}
    if drawn is not None:
        least = floor.seconds(floor.operations(bundle, options.batch, drawn.evaluations), rates)
        print("\n" + report_text.floors(rows, least, rates))
    if options.output is not None:
        content = {
            "command": ["calotype-bench", *sys.argv[1:]],
            "machine": machine.describe(),
            "bundle": {"digest": bundle.digest, "precision": bundle.manifest.precision},
            "job": dataclasses.asdict(job),
            "timed": "wall seconds from the call until the picture is a numpy array; one picture to warm up",
            "rates": dataclasses.asdict(rates),
            "floor_seconds": least,
            "rows": [dataclasses.asdict(row) for row in rows],
        }
        options.output.write_text(json.dumps(content, indent=1) + "\n", "utf-8")


def _engine(options: argparse.Namespace, bundle: Bundle, name: str) -> Engine:
    """A backend's name, or a peer's with its precision."""
    if name not in PEERS:
        return Engine("calotype", str(options.bundle), name, "", options.device, options.threads)
    if options.checkpoint is None:
        raise RequestError(
            f"--against {name} needs the checkpoint that the bundle was made from", "--checkpoint FOLDER"
        )
    _check_same(bundle, options.checkpoint)
    kind, _, dtype = name.partition("-")
    return Engine(kind, str(options.checkpoint), "", dtype or "fp32", options.device, options.threads)


def _check_same(bundle: Bundle, checkpoint: Path) -> None:
    """RequestError where the checkpoint's weights are not those that the bundle was made from."""
    recorded: dict[str, Any] = dict(bundle.manifest.source.get("sha256", {}))
    for name, expected in recorded.items():
        path = checkpoint / name
        if not path.is_file():
            raise RequestError(
                f"--checkpoint: {path} is missing", "name the folder that the bundle was made from"
            )
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != expected:
            raise RequestError(f"--checkpoint: {path}: expected sha256 {expected}, found {found}")


def _progress(done: int, total: int) -> None:
    """A line that is written over, on a terminal; nothing in a pipe."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\rmeasuring {done}/{total}" + ("\n" if done == total else ""))
        sys.stderr.flush()
