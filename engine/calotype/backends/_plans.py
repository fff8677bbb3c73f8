"""Which plans of a bundle fit where it runs, for backends that run exported graphs too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from calotype import compiled, trust
from calotype.backends import BackendOptions
from calotype.compiled import Machine, Plan, Requirements
from calotype.errors import BackendError
from calotype.manifest import ProgramSpec

Found = tuple[Path, Plan]
"""A plan, and the folder of its files."""


def plans(
    root: Path,
    backend: str,
    specs: Sequence[ProgramSpec],
    here: Machine,
    needs: Requirements,
    options: BackendOptions,
) -> list[Found | None]:
    """The plan of each of `specs`, with its folder; None for those that run as they were exported.

    These are all where nothing was compiled for `backend`, or where `options` leave it out. BackendError where
    something was, but not for this machine, or not by this user: nothing is compiled silently.
    """
    if not options.compiled or backend not in compiled.backends(root):
        return [None for _ in specs]
    try:
        found = [compiled.find(root, backend, spec, here, needs) for spec in specs]
    except BackendError as error:
        raise BackendError(error.message, f"{error.hint}; without it, what was exported runs") from error
    for folder, plan in found:
        for file in plan.files:
            trust.check(folder / file.path, file.sha256)
    return [(folder, plan) if plan.files else None for folder, plan in found]
