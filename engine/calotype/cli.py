"""The `calotype` command: data to stdout, progress and errors to stderr, exit status 0, 1 (failed) or 2 (usage)."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from calotype import __version__, backends, listing
from calotype.backends import BackendOptions
from calotype.bundle import Bundle
from calotype.errors import BackendError, CalotypeError, RequestError
from calotype.images import load_depth, save_png
from calotype.lora import LoraFile
from calotype.manifest import batches_for
from calotype.pipeline import Pipeline
from calotype.request import Request
from calotype.result import Result

Command = Callable[[argparse.Namespace], listing.Listing]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status: 0, 1 when it failed, 2 for bad usage, 130 when interrupted."""
    options = _parser().parse_args(arguments)
    command: Command = options.command
    try:
        data, text = command(options)
    except RequestError as error:
        print(f"calotype: {error}", file=sys.stderr)  # noqa: T201
        return 2
    except (CalotypeError, OSError) as error:
        print(f"calotype: {error}", file=sys.stderr)  # noqa: T201
        return 1
    except KeyboardInterrupt:
        print("calotype: interrupted", file=sys.stderr)  # noqa: T201
        return 130
    return _print(json.dumps(data, indent=1) if options.json else text)


def _print(text: str) -> int:
    """The exit status after printing: 0 too where the reader has seen enough and closed the pipe, as `head` does."""
    try:
        print(text, flush=True)  # noqa: T201
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # where the flush at exit goes
        if isinstance(error, BrokenPipeError):
            return 0
        print(f"calotype: standard output could not be written: {error.strerror}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="calotype", description="Draw with compiled Stable Diffusion bundles."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _generate_options(_command(commands, "generate", _generate, "draw pictures"))

    inspect = _command(commands, "inspect", _inspect, "show a bundle, or how a picture was made")
    inspect.add_argument("path", type=Path, metavar="BUNDLE|PICTURE.png")

    tokens = _command(commands, "tokens", _tokens, "show how a prompt is cut into tokens")
    tokens.add_argument("bundle", type=Path)
    tokens.add_argument("prompt")

    schedule = _command(commands, "schedule", _schedule, "show the table of numbers that a scheduler is")
    schedule.add_argument("bundle", type=Path)
    schedule.add_argument(
        "--scheduler", metavar="NAME", help="a diffusers class or a short name (default: the bundle's)"
    )
    schedule.add_argument(
        "--steps", type=int, default=50, metavar="N", help="inference steps (default: %(default)s)"
    )
    schedule.add_argument(
        "--strength", type=float, default=1.0, help="below 1: start late (default: %(default)s)"
    )
    schedule.add_argument(
        "--eta", type=float, default=0.0, help="DDIM's and TCD's noise (default: %(default)s)"
    )
    schedule.add_argument(
        "--plot", type=Path, metavar="FILE.png", help="draw the noise levels (needs calotype[plot])"
    )
    return parser


def _command(commands: Any, name: str, run: Command, summary: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=summary.capitalize() + "."
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.set_defaults(command=run)
    return parser


def _generate_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path)
    parser.add_argument("prompt")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="OUT.png", help="several: OUT-0.png, …"
    )
    parser.add_argument("--negative-prompt", metavar="TEXT", help="what to stay away from")
    parser.add_argument("--image", type=Path, help="picture to start from, or to paint into")
    parser.add_argument("--mask", type=Path, help="white where the picture is to be painted")
    parser.add_argument("--mask-prompt", metavar="WORDS", help="the mask in words (bundles with a segmenter)")
    parser.add_argument(
        "--padding-mask-crop", type=int, metavar="PIXELS", help="paint only around the mask, enlarged"
    )
    parser.add_argument("--depth", type=Path, help="depth map, lighter is nearer (depth bundles)")
    parser.add_argument(
        "--strength", type=float, help="how much of the picture to draw anew, 0 to 1 (0.8; masks: 1)"
    )
    parser.add_argument(
        "--steps", type=int, default=50, metavar="N", help="inference steps (default: %(default)s)"
    )
    parser.add_argument(
        "--guidance-scale", type=float, metavar="X", help="(default: 7.5, or none in an unguided bundle)"
    )
    parser.add_argument(
        "--guidance-rescale", type=float, default=0.0, metavar="X", help="(default: %(default)s)"
    )
    parser.add_argument("--clip-skip", type=int, metavar="N", help="leave out the text encoder's last layers")
    parser.add_argument(
        "--eta", type=float, default=0.0, help="DDIM's and TCD's noise (default: %(default)s)"
    )
    parser.add_argument(
        "--scheduler", metavar="NAME", help="a diffusers class or a short name, as dpmpp_2m_karras"
    )
    parser.add_argument("--seed", type=int, help="the same seed draws the same picture (default: a new one)")
    parser.add_argument(
        "--noise-source", choices=("cpu", "cuda"), default="cpu", help="whose torch generator to be"
    )
    parser.add_argument("--count", type=int, default=1, metavar="N", help="pictures (default: %(default)s)")
    _loading_options(parser)


def _loading_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--backend", default="auto", help="onnxruntime, openvino, … (default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:1 (default: %(default)s)")
    parser.add_argument("--threads", type=int, metavar="N", help="(default: left to the backend)")
    parser.add_argument("--lora", type=_lora, action="append", default=[], metavar="FILE[:WEIGHT]",
                        help="draw with a LoRA (repeatable)")  # fmt: skip


def _lora(text: str) -> LoraFile:
    try:
        return LoraFile.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _generate(options: argparse.Namespace) -> listing.Listing:
    if options.output.suffix.lower() != ".png":
        raise RequestError(f"--output: expected a .png file, found {options.output.name}")
    if not options.output.absolute().parent.is_dir():
        raise RequestError(f"--output: the folder {options.output.parent} does not exist", "make it first")
    _check_backend(options)
    depth = None if options.depth is None else load_depth(options.depth)
    request = Request(
        prompt=options.prompt, negative_prompt=options.negative_prompt, image=options.image,
        mask_image=options.mask, mask_prompt=options.mask_prompt, padding_mask_crop=options.padding_mask_crop,
        depth_map=depth, strength=options.strength, num_inference_steps=options.steps,
        guidance_scale=options.guidance_scale, guidance_rescale=options.guidance_rescale,
        clip_skip=options.clip_skip, eta=options.eta, scheduler=options.scheduler, seed=options.seed,
        noise_source=options.noise_source, num_images_per_prompt=options.count,
        progress=_progress_bar if sys.stderr.isatty() else None,
    )  # fmt: skip
    bundle = Bundle.open(options.bundle)
    pipeline = Pipeline.load(
        bundle, options.backend, batches=sorted(set(batches_for(options.count, bundle.manifest.batches))),
        device=options.device, threads=options.threads,
    )  # fmt: skip
    if options.lora:
        pipeline.set_lora([(file.path, file.weight) for file in options.lora])
    result = pipeline(request)
    if request.progress is not None:
        sys.stderr.write("\r\033[K")
    paths = _numbered(options.output, len(result.images))
    for path, picture in zip(paths, result.images, strict=True):
        save_png(picture, path, result.parameters)
    _warn(result, paths)
    data: dict[str, Any] = {
        "images": [str(path) for path in paths],
        "seeds": list(result.seeds),
        "backend": result.backend,
        "evaluations": result.evaluations,
        "timings": dict(result.timings),
        "device_timings": dict(result.device_timings),
        "truncated": list(result.truncated),
        "negative_truncated": list(result.negative_truncated),
        "nsfw_content_detected": result.nsfw_content_detected,
    }
    return data, "\n".join(data["images"])


def _check_backend(options: argparse.Namespace) -> None:
    """RequestError where --backend, --device or --threads is misspelt: that is bad usage, a missing library is not."""
    try:
        backends.check_name(options.backend)
        BackendOptions(options.device, options.threads)
    except BackendError as error:
        raise RequestError(error.message, error.hint) from error


def _warn(result: Result, paths: Sequence[Path]) -> None:
    cut = (("prompt", result.truncated), ("negative prompt", result.negative_truncated))
    warnings = [f"the {kind} was cut; this fell off: {text}" for kind, texts in cut for text in texts if text]
    for path, flagged in zip(paths, result.nsfw_content_detected or (False,) * len(paths), strict=True):
        if flagged:
            warnings.append(f"{path}: the safety checker took offence and blackened the picture")
    for warning in warnings:
        print(f"calotype: warning: {warning}", file=sys.stderr)  # noqa: T201


def _numbered(output: Path, count: int) -> list[Path]:
    if count == 1:
        return [output]
    return [output.with_name(f"{output.stem}-{index}{output.suffix}") for index in range(count)]


def _progress_bar(done: int, rows: int) -> None:
    filled = 30 * done // rows
    sys.stderr.write(f"\rdrawing [{'#' * filled}{' ' * (30 - filled)}] {done}/{rows}")
    sys.stderr.flush()


def _inspect(options: argparse.Namespace) -> listing.Listing:
    return listing.picture(options.path) if options.path.is_file() else listing.bundle(options.path)


def _tokens(options: argparse.Namespace) -> listing.Listing:
    return listing.tokens(options.bundle, options.prompt)


def _schedule(options: argparse.Namespace) -> listing.Listing:
    request = Request(
        prompt="",
        image="",
        num_inference_steps=options.steps,
        scheduler=options.scheduler,
        strength=options.strength,
        eta=options.eta,
    )
    return listing.schedule(options.bundle, request, options.plot)
