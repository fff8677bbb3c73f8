"""Environments for peers whose packages cannot live beside ours: made once, kept in the user's cache."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path

Say = Callable[[str], None]
PACKAGE = Path(__file__).parent


class PeerError(Exception):
    """An engine that could not be installed or loaded, or could not draw; the message is the last that it said."""


def cache() -> Path:
    """`$XDG_CACHE_HOME/calotype/peers`, under `~/.cache` where that is not set."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "calotype" / "peers"


def python(name: str, packages: Sequence[str], unwanted: Sequence[str], say: Say) -> str:
    """The interpreter of an environment with `packages`, torch in this environment's version, and without `unwanted`.

    It is made where there is none yet, with a log beside it. PeerError where something cannot be installed.
    """
    torch = f"torch=={metadata.version('torch').partition('+')[0]}"
    wanted = [torch if package == "torch" else package for package in packages]
    digest = hashlib.sha256("\n".join((*wanted, *unwanted)).encode()).hexdigest()[:8]
    root = cache() / f"{name}-{digest}"
    interpreter = root / "bin" / "python"
    if (root / "ready").is_file():
        return str(interpreter)
    say(f"installing {', '.join(packages)} in an environment of its own")
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    log = root / "log"
    commands = [
        [sys.executable, "-m", "venv", str(root)],
        [str(interpreter), "-m", "pip", "install", *wanted],
        *([[str(interpreter), "-m", "pip", "uninstall", "--yes", *unwanted]] if unwanted else []),
    ]
    for command in commands:
        _run(command, log, f"{name} cannot be installed")
    (root / "ready").touch()
    return str(interpreter)


def exported(name: str, interpreter: str, module: str, checkpoint: Path, say: Say) -> str:
    """The folder that a peer's own exporter made of `checkpoint`: now, or at an earlier call. PeerError."""
    digest = hashlib.sha256(interpreter.encode())  # whose folder is named after its packages
    for path in sorted(each for each in checkpoint.rglob("*") if each.is_file()):
        found = path.stat()
        digest.update(f"{path.resolve()} {found.st_size} {found.st_mtime_ns}\n".encode())
    folder = cache() / "models" / f"{name}-{digest.hexdigest()[:16]}"
    if not folder.is_dir():
        say(f"{name} exports {checkpoint}")
        partial = folder.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.parent.mkdir(parents=True, exist_ok=True)
        command = [interpreter, "-m", f"calotype_bench.{module}", str(checkpoint.resolve()), str(partial)]
        _run(command, folder.with_suffix(".log"), f"{name} cannot export {checkpoint}")
        partial.rename(folder)
    return str(folder)


def variables() -> dict[str, str]:
    """This process's environment variables, with which other interpreters find this package."""
    return os.environ | {
        "PYTHONPATH": os.pathsep.join([str(PACKAGE.parent), os.environ.get("PYTHONPATH", "")])
    }


def _run(command: Sequence[str], log: Path, failure: str) -> None:
    with log.open("a", encoding="utf-8") as file:
        run = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, env=variables(), check=False)
    if run.returncode:
        raise PeerError(f"{failure}: {reason(log.read_text('utf-8', 'replace'), run.returncode)}")


def reason(said: str, status: int) -> str:
    """Why a process ended: the signal, the last line that names an error, the last line, or its status."""
    if status < 0:
        return f"it was ended by {signal.Signals(-status).name}"
    lines = [line for line in said.splitlines() if line.strip() and not line.startswith("[notice]")]
    named = [line for line in lines if re.match(r"(ERROR|\w*(Error|Exception))\b", line)]
    return (named or lines or [f"status {status}"])[-1]
