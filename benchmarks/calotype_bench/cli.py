"""The `calotype-bench` command."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from calotype.errors import CalotypeError, RequestError
from calotype_bench import commands, option_types, peers
from calotype_bench.conversation import TIMEOUT
from calotype_bench.jobs import PROMPT
from calotype_export import arguments


def main(given: Sequence[str] | None = None) -> int:
    """Run one command; the exit status: 0, 1 when it failed, 2 for bad usage, 130 when interrupted."""
    given = sys.argv[1:] if given is None else given
    options = _parser().parse_args(given, argparse.Namespace(arguments=tuple(given)))
    command: Callable[[argparse.Namespace], None] = options.command
    try:
        with _ending_in_order():
            command(options)
    except (CalotypeError, OSError) as error:
        print(f"calotype-bench: {error}", file=sys.stderr)
        return 2 if isinstance(error, RequestError) else 1
    except KeyboardInterrupt:
        print("calotype-bench: interrupted", file=sys.stderr)
        return 130
    return 0


@contextmanager
def _ending_in_order() -> Generator[None]:
    """SIGTERM ends engines and removes temporary files first, as an interrupt does; the exit status is 143."""
    if threading.current_thread() is not threading.main_thread():  # which alone may say what signals do
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="calotype-bench", description="Measure compiled bundles beside their peers."
    )
    # options in full, as a result's command tells how it was measured
    whole: Any = partial(argparse.ArgumentParser, allow_abbrev=False)
    commands_of = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=whole)
    for add in (_latency, _compare, _techniques, _report, _agree, _tables):
        add(commands_of)
    return parser


def _latency(commands_of: Any) -> None:
    parser: argparse.ArgumentParser = commands_of.add_parser(
        "latency",
        help="seconds a picture, engines drawing in turn",
        description="Seconds a picture of bundles and peers, each in a process of its own, drawing in turn. "
        "The first row is the first bundle on --backend; ratios are to it.",
    )
    parser.set_defaults(command=commands.latency)
    _shared(parser)
    add = parser.add_argument
    add("--against", type=option_types.names, default=(), metavar="NAMES",
        help="other rows, separated by commas: backends, with the first bundle, or "
        f"{', '.join(peers.PEERS)}, each also with -bf16 or -fp16")  # fmt: skip
    add(
        "--checkpoint",
        metavar="CHECKPOINT",
        help="what the bundles were made from, for peers: a folder, a Hub id or a .safetensors file",
    )
    add("--prompt", default=PROMPT, metavar="TEXT", help="(default: %(default)s)")
    add("--seed", type=arguments.count, default=0, help="(default: %(default)s)")
    add(
        "--steps",
        type=option_types.numbers,
        default=(20,),
        help="inference steps; several: 10,20,50 (default: 20)",
    )
    add(
        "--batch", type=option_types.numbers, default=(1,), help="pictures a run; several: 1,2,4 (default: 1)"
    )
    add("--runs", type=arguments.positive, default=12,
        help="of every engine, after two to warm up (default: %(default)s)")  # fmt: skip
    add("--openings", type=arguments.positive, default=6,
        help="processes of every engine, one after another, that the runs are shared among: each keeps to a speed of "
        "its own; with --one-at-a-time as many as runs (default: %(default)s)")  # fmt: skip
    add("--one-at-a-time", action="store_true",
        help="load each engine for every run anew, warmed up with two pictures of a step: for large ones")  # fmt: skip
    add("--no-operators", action="store_true", help="leave out where a step's time goes, by kind of operator")


def _compare(commands_of: Any) -> None:
    parser: argparse.ArgumentParser = commands_of.add_parser(
        "compare",
        help="how far pictures are from eager diffusers'",
        description="The same requests through eager diffusers in fp32, through bundles, and, as the noise floor, "
        "through eager diffusers in other precisions: latents and pictures.",
    )
    parser.set_defaults(command=commands.compare)
    _shared(parser)
    add = parser.add_argument
    add(
        "--against",
        required=True,
        metavar="CHECKPOINT",
        help="what the bundles were made from: a folder, a Hub id or a .safetensors file",
    )
    add("--noise", type=option_types.precisions, default=("bf16",),
        help="precisions of eager diffusers that show the noise floor; several: fp64,bf16 (default: bf16)")  # fmt: skip
    add("--beside", type=option_types.names, default=(), metavar="NAMES",
        help=f"other engines: {', '.join(peers.PEERS)}, each also with -bf16 or -fp16")  # fmt: skip
    add("--prompts", type=Path, metavar="FILE", help="one prompt a line (default: one prompt)")
    add("--seeds", type=option_types.seeds, default=(1,), help="several: 1,2,3 (default: 1)")
    add("--steps", type=arguments.positive, default=20, help="inference steps (default: %(default)s)")
    add("--pictures", type=arguments.count, default=2,
        help="pairs kept in the result for reports (default: %(default)s)")  # fmt: skip


def _report(commands_of: Any) -> None:
    parser: argparse.ArgumentParser = commands_of.add_parser(
        "report", help="one page of results that were written with -o"
    )
    parser.set_defaults(command=commands.report)
    parser.add_argument("results", type=Path, nargs="+", metavar="RESULT.json")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="REPORT.html")


def _agree(commands_of: Any) -> None:
    parser: argparse.ArgumentParser = commands_of.add_parser(
        "agree",
        help="whether two runs of one comparison say the same",
        description="Prints each ratio of two results of `latency`, of pictures and programs, with its interval; 1 "
        "where two do not overlap, or there is no interval in both.",
    )
    parser.set_defaults(command=commands.agree)
    parser.add_argument("results", type=Path, nargs=2, metavar="RESULT.json")


def _tables(commands_of: Any) -> None:
    parser: argparse.ArgumentParser = commands_of.add_parser(
        "tables",
        help="bring tables in Markdown files up to date with results",
        description="Writes each table between `<!-- table KIND RESULT.json -->` and `<!-- end -->` anew.",
    )
    parser.set_defaults(command=commands.tables)
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE.md")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; fail where a table is out of date"
    )


def _techniques(commands_of: Any) -> None:
    parser: argparse.ArgumentParser = commands_of.add_parser(
        "techniques",
        help="what each rewriting of a bundle's graphs gains",
        description="Each program of a bundle for one picture, as OpenVINO reads its graph and with one rewriting more "
        "after another, run in turn in one process.",
    )
    parser.set_defaults(command=commands.techniques)
    add = parser.add_argument
    add("bundle", type=Path, metavar="BUNDLE")
    add(
        "--runs", type=arguments.positive, default=12, help="of every variant, in turn (default: %(default)s)"
    )
    add("--openings", type=arguments.positive, default=6,
        help="how often every variant is compiled, the runs being made of each (default: %(default)s)")  # fmt: skip
    _written(parser)


def _shared(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "bundles",
        type=Path,
        nargs="+",
        metavar="BUNDLE",
        help="of one checkpoint, in one precision or several",
    )
    add(
        "--backend",
        type=option_types.names,
        default=("auto",),
        help="of every bundle; several: openvino,onnxruntime (default: auto)",
    )
    add("--device", type=option_types.device, default="cpu", help="cpu or cuda (default: %(default)s)")
    add("--scheduler", default="ddim", choices=("ddim", "euler", "pndm"), help="(default: %(default)s)")
    add("--guidance-scale", type=float, default=7.5, help="(default: %(default)s)")
    add(
        "--config",
        type=Path,
        metavar="FOLDER",
        help="of a .safetensors file: a checkpoint's folder without weights",
    )
    add("--image", type=Path, metavar="FILE", help="picture to start from: image-to-image, or depth-to-image")
    add("--mask", type=Path, metavar="FILE", help="white where --image is to be painted: inpainting")
    add(
        "--strength",
        type=float,
        help="how far to leave --image (default: 0.8, with a mask 1.0, as in diffusers)",
    )
    add("--timeout", type=option_types.seconds, default=TIMEOUT, metavar="SECONDS",
        help="an engine that takes longer to load, or for one job, is ended, and a row says so "
        "(default: %(default)g)")  # fmt: skip
    _written(parser)


def _written(parser: argparse.ArgumentParser) -> None:
    """What every command has that measures and writes a result."""
    add = parser.add_argument
    add("--threads", type=arguments.positive, help="(default: the libraries' choice)")
    add("--title", default="", help="what this is, for reports (default: the first bundle's name)")
    add("-o", "--output", type=Path, metavar="RESULT.json", help="raw samples and where they were taken")
