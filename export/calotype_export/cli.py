"""The `calotype-export` command: results to stdout, progress and errors to stderr, exit status 0, 1, 2 or 130.

torch is imported inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from calotype import __version__
from calotype.errors import CalotypeError
from calotype_export import arguments
from calotype_export.architectures import NAMES
from calotype_export.console import reporter, silence_diffusers, silence_libraries

if TYPE_CHECKING:
    from calotype_export.build import BuildOptions

_PRECISIONS = ("fp32", "fp16", "bf16")
_CHECKPOINT = "a folder in diffusers' layout, a Hub id, or a .safetensors file (with --config)"


# What add_subparsers returns; argparse has no public name for it.
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status: 0, 1 when it failed, 2 for bad usage, 130 when interrupted."""
    options = _parser().parse_args(argv)
    command: Callable[[argparse.Namespace], str] = options.command
    try:
        silence_libraries()
        sys.stdout.write(command(options) + "\n")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] in ("calotype", __package__):
            raise
        return _failed(f"{error.name} is not installed\n\nhint: pip install 'calotype[export]'", 1)
    except CalotypeError as error:
        return _failed(str(error), 1)
    except OSError as error:
        return _failed(f"{error.filename or 'file'}: {error.strerror}" if error.strerror else str(error), 1)
    except KeyboardInterrupt:
        return _failed("interrupted; nothing was left behind", 130)
    return 0


def _failed(message: str, status: int) -> int:
    sys.stderr.write(f"calotype-export: {message}\n")
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="calotype-export", description="Compile Stable Diffusion checkpoints."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in (_add_build, _add_verify, _add_compile, _add_synthetic):
        add(commands)
    return parser


def _add_build(commands: Commands) -> None:
    build = commands.add_parser("build", help="compile a checkpoint into a bundle")
    build.set_defaults(command=_build)
    build.add_argument("checkpoint", metavar="CHECKPOINT", help=_CHECKPOINT)
    build.add_argument(
        "-o", "--output", type=Path, required=True, metavar="BUNDLE", help="the folder to write"
    )
    build.add_argument(
        "--size",
        type=arguments.size,
        metavar="WxH",
        help="of pictures, in pixels (default: as it was trained)",
    )
    build.add_argument(
        "--batch", type=arguments.batches, default=(1,), metavar="1,2,4", help="pictures a step (default: 1)"
    )
    build.add_argument(
        "--precision", choices=_PRECISIONS, default="fp32", help="of the weights (default: fp32)"
    )
    build.add_argument(
        "--vae-precision", choices=_PRECISIONS,
        help="(default: as the rest, but fp32 where the VAE overflows in fp16)",
    )  # fmt: skip
    build.add_argument(
        "--scheduler",
        type=arguments.scheduler,
        metavar="NAME",
        help="a diffusers class or a short name (default: its own)",
    )
    build.add_argument(
        "--unguided", action="store_true", help="leave guidance out, for distilled checkpoints"
    )
    _source_options(build)


def _add_verify(commands: Commands) -> None:
    verify = commands.add_parser("verify", help="compare a bundle with eager diffusers")
    verify.set_defaults(command=_verify)
    verify.add_argument("bundle", type=Path, metavar="BUNDLE")
    verify.add_argument("--against", dest="checkpoint", required=True, metavar="CHECKPOINT", help=_CHECKPOINT)
    verify.add_argument("--backend", metavar="NAME", help="the backend to compare (default: as at export)")
    _source_options(verify)


def _add_compile(commands: Commands) -> None:
    compile_ = commands.add_parser(
        "compile", help="build a backend's plans for a bundle, for one kind of machine"
    )
    compile_.set_defaults(command=_compile)
    compile_.add_argument("bundle", type=Path, metavar="BUNDLE")
    compile_.add_argument(
        "--backend",
        required=True,
        choices=("tensorrt", "tensorrt_rtx", "onnxruntime", "openvino"),
        help="(required)",
    )
    compile_.add_argument(
        "--compute-capability", type=arguments.capabilities, default=(), metavar="8.9,12.0",
        help="GPUs to build for (tensorrt_rtx; default: this machine's)",
    )  # fmt: skip
    compile_.add_argument(
        "--device",
        type=arguments.gpu,
        metavar="cuda:1",
        help="the GPU to build on (default: cuda:0); with onnxruntime: keep operators of its transformer optimiser, "
        "and convolutions in NHWC, where they are faster there (default: compile for the processor)",
    )
    compile_.add_argument(
        "--optimization-level", type=int, choices=range(6), help="0 to 5 (default: the library's)"
    )
    compile_.add_argument(
        "--refittable", action="store_true", help="let LoRA files be put on the loaded plans"
    )
    compile_.add_argument(
        "--timing-cache",
        type=Path,
        metavar="FILE",
        help="measured kernels (tensorrt): read if it exists, and updated",
    )


def _add_synthetic(commands: Commands) -> None:
    synthetic = commands.add_parser(
        "synthetic", help="write a random-weight checkpoint of a public architecture"
    )
    synthetic.set_defaults(command=_synthetic)
    synthetic.add_argument("name", choices=(*NAMES, *(f"tiny-{name}" for name in NAMES)), metavar="NAME",
                           help=f"{', '.join(NAMES)}, or tiny- and one of these")  # fmt: skip
    synthetic.add_argument(
        "-o", "--output", type=Path, required=True, metavar="DIR", help="the folder to write"
    )
    synthetic.add_argument(
        "--dtype", choices=_PRECISIONS, default="fp32", help="of the weights (default: fp32)"
    )
    synthetic.add_argument("--seed", type=int, default=0, metavar="N", help="of the weights (default: 0)")


def _source_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--revision", metavar="REVISION", help="branch, tag or commit of a Hub id")
    add("--config", type=Path, metavar="FOLDER", help="configs and vocabulary for a single-file checkpoint")
    add("--segmenter", type=Path, metavar="FOLDER", help="a CLIPSeg checkpoint, for masks asked for in words")
    add(
        "--lora",
        type=arguments.lora,
        action="append",
        default=[],
        metavar="FILE[:WEIGHT]",
        help="merge a LoRA (repeatable)",
    )
    add("--embedding", type=arguments.embedding, action="append", default=[], metavar="FILE[:TOKEN]",
        help="add a textual inversion (repeatable)")  # fmt: skip


def _build(options: argparse.Namespace) -> str:
    silence_diffusers()
    from calotype_export import build

    return str(build.build(_build_options(options), reporter(sys.stderr)))


def _verify(options: argparse.Namespace) -> str:
    silence_diffusers()
    from calotype_export import build, verify

    progress = reporter(sys.stderr)
    sources = build.opened(_build_options(options), progress)
    return json.dumps(verify.verify(options.bundle, sources, options.backend, progress), indent=1)


def _compile(options: argparse.Namespace) -> str:
    from calotype_export.compile import compile_bundle
    from calotype_export.tensorrt_builder import BuilderOptions

    builder = BuilderOptions(
        options.compute_capability,
        options.optimization_level,
        options.timing_cache,
        options.refittable,
        options.device,
    )
    return str(compile_bundle(options.bundle, options.backend, builder, reporter(sys.stderr)))


def _synthetic(options: argparse.Namespace) -> str:
    silence_diffusers()
    from calotype_export import synthetic

    progress = reporter(sys.stderr)
    target = synthetic.write(
        options.name, options.output, seed=options.seed, dtype=options.dtype, progress=progress
    )
    return str(target)


def _build_options(options: argparse.Namespace) -> BuildOptions:
    from calotype_export.adapters import EmbeddingFile
    from calotype_export.build import BuildOptions

    return BuildOptions(
        checkpoint=options.checkpoint,
        output=getattr(options, "output", Path()),
        size=getattr(options, "size", None),
        batches=getattr(options, "batch", (1,)),
        precision=getattr(options, "precision", "fp32"),
        vae_precision=getattr(options, "vae_precision", None),
        scheduler=getattr(options, "scheduler", None),
        unguided=getattr(options, "unguided", False),
        segmenter=options.segmenter,
        loras=tuple(options.lora),
        embeddings=tuple(EmbeddingFile(path, token) for path, token in options.embedding),
        revision=options.revision,
        config=options.config,
    )
