"""Environments of peers, each with its own packages: made once, kept in the user's cache."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from filelock import FileLock

Say = Callable[[str], None]
PACKAGE = Path(__file__).parent
AT_MOST = 3600.0  # seconds that one command of an installation may take, and an export
# Of torch's threads, which others do not read: engines are given as many by `--threads`, or their libraries' choice.
THREADS = ("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_")
# What peers have in the version of this environment, so that packages alone differ.
SAME = frozenset({"torch", "diffusers", "transformers", "accelerate"})


class PeerError(Exception):
    """An engine that could not be installed or loaded, or could not draw; the message is the last that it said."""


def cache() -> Path:
    """`$XDG_CACHE_HOME/calotype/peers`, under `~/.cache` where that is not set."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "calotype" / "peers"


def python(name: str, packages: Sequence[str], unwanted: Sequence[str], say: Say) -> str:
    """The interpreter of an environment with `packages`, those of `SAME` in this environment's version, and without
    `unwanted`.

    It is made where there is none yet for this interpreter, with a log in it. PeerError where something cannot be
    installed in time.
    """
    wanted = [_pinned(package) if package in SAME else package for package in packages]
    removed = (f"without {package}" for package in unwanted)
    made_of = (*wanted, *removed, sys.base_prefix, ".".join(map(str, sys.version_info[:2])))
    digest = hashlib.sha256("\n".join(made_of).encode()).hexdigest()[:8]
    root = cache() / f"{name}-{digest}"
    interpreter = root / "bin" / "python"
    with _alone(root):
        if not (root / "ready").is_file():
            say(f"installing {', '.join(packages)} in an environment of its own")
            _make(name, root, wanted, unwanted)
    return str(interpreter)


def _pinned(package: str) -> str:
    return f"{package}=={metadata.version(package).partition('+')[0]}"


def _alone(folder: Path) -> FileLock:
    """Held while `folder` is made: another command may want the same."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(folder.with_name(f"{folder.name}.lock"))


def _make(name: str, root: Path, wanted: Sequence[str], unwanted: Sequence[str]) -> None:
    interpreter = root / "bin" / "python"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    log = root / "log"
    commands = [
        [sys.executable, "-m", "venv", str(root)],
        [str(interpreter), "-m", "pip", "install", *wanted],
        *([[str(interpreter), "-m", "pip", "uninstall", "--yes", *unwanted]] if unwanted else []),
    ]
    for command in commands:
        _run(command, log, f"{name} cannot be installed")
    (root / "ready").touch()


def exported(name: str, interpreter: str, module: str, sources: Sequence[Path], say: Say) -> str:
    """The folder that a module of this package made of a checkpoint's `sources`, files or folders: now, or at a call
    before. PeerError.
    """
    checkpoint = sources[0]
    digest = hashlib.sha256(interpreter.encode())  # whose folder is named after its packages
    inside = (each for source in sources for each in (source, *source.rglob("*")))
    for path in sorted(each for each in inside if each.is_file()):
        found = path.stat()
        digest.update(f"{path.resolve()} {found.st_size} {found.st_mtime_ns}\n".encode())
    folder = cache() / "models" / f"{name}-{digest.hexdigest()[:16]}"
    with _alone(folder):
        if not folder.is_dir():
            say(f"{name} exports {checkpoint}")
            partial = folder.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            named = (str(source.resolve()) for source in sources)
            command = [interpreter, "-m", f"calotype_bench.{module}", *named, str(partial)]
            _run(command, folder.with_suffix(".log"), f"{name} cannot export {checkpoint}")
            partial.rename(folder)
    return str(folder)


def answer(module: str, words: Sequence[str], timeout: float) -> Any:
    """What a module of this package prints last, which is JSON, in a process of its own. PeerError where it fails, or
    takes longer than `timeout` seconds.
    """
    command = [sys.executable, "-m", f"calotype_bench.{module}", *words]
    try:
        run = subprocess.run(
            command, env=variables(command[0]), capture_output=True, text=True, check=False, timeout=timeout
        )
    except subprocess.TimeoutExpired:
        raise PeerError(f"no answer within {timeout:g} s (--timeout)") from None
    if run.returncode:
        raise PeerError(reason(run.stderr, run.returncode))
    return json.loads(run.stdout.splitlines()[-1])


def variables(interpreter: str) -> dict[str, str]:
    """This process's environment variables but for `THREADS`, with which `interpreter` finds this package.

    Another interpreter than this one finds nothing that is installed beside it.
    """
    place = PACKAGE.parent
    if interpreter != sys.executable:
        place = cache() / "packages" / hashlib.sha256(str(PACKAGE).encode()).hexdigest()[:8]
        place.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            (place / PACKAGE.name).symlink_to(PACKAGE, target_is_directory=True)
    paths = [str(place), *filter(None, [os.environ.get("PYTHONPATH")])]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(THREADS)}
    return kept | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONSAFEPATH": "1"}


def _run(command: Sequence[str], log: Path, failure: str) -> None:
    with log.open("a", encoding="utf-8") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, env=variables(command[0]), start_new_session=True
        )
        try:
            status = process.wait(AT_MOST)
        except subprocess.TimeoutExpired:
            raise PeerError(f"{failure}: it was not done within {AT_MOST:g} s, and was ended") from None
        finally:  # also where the user interrupts
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # with the compilers that pip started
                process.wait()
    if status:
        raise PeerError(f"{failure}: {reason(log.read_text('utf-8', 'replace'), status)}")


def reason(said: str, status: int) -> str:
    """Why a process ended: the signal, the last line that names an error, the last line, or its status."""
    if status < 0:
        return f"it was ended by {signal.Signals(-status).name}"
    lines = [line for line in said.splitlines() if line.strip() and not line.startswith("[notice]")]
    named = [line for line in lines if re.match(r"(ERROR|\w*(Error|Exception))\b", line)]
    return (named or lines or [f"status {status}"])[-1]
