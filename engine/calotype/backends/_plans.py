"""Which plans of a bundle fit where it runs, for backends that run exported graphs too."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from calotype import compiled, trust
from calotype.backends import BackendOptions
from calotype.compiled import Machine, Requirements
from calotype.errors import BackendError
from calotype.manifest import FileSpec, ProgramSpec


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a program runs as, where that is not simply what was exported.

    `files` lie in `folder`; there are none where the exported graph runs with other `settings` of the library's.
    """

    folder: Path
    files: tuple[FileSpec, ...]
    settings: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Kept:
    """What was compiled for `backend`, and what it has to fit: `here` describes this machine, when it is asked."""

    backend: str
    needs: Requirements
    here: Callable[[], Machine]


def plans(
    root: Path, specs: Sequence[ProgramSpec], kept: Kept, options: BackendOptions
) -> list[Chosen | None]:
    """What each of `specs` was compiled to; None for those that run as they were exported.

    These are all where nothing was compiled for the backend, or where `options` leave it out. BackendError where
    something was, but not for this machine, or not by this user: nothing is compiled silently.
    """
    if not options.compiled or kept.backend not in compiled.backends(root):
        return [None for _ in specs]
    here = kept.here()
    try:
        found = [compiled.find(root, kept.backend, spec, here, kept.needs) for spec in specs]
    except BackendError as error:
        raise BackendError(
            error.message, f"{error.hint}; or delete that folder, and what was exported runs"
        ) from error
    for folder, plan in found:
        for file in plan.files:
            trust.check(folder / file.path, file.sha256)
    return [Chosen(folder, plan.files, plan.settings) for folder, plan in found]
