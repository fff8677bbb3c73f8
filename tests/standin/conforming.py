"""Hold a stand-in to the recorded signatures of what it stands for."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable
from typing import Any

from tests.standin.record import SIGNATURES

RECORDED: dict[str, Any] = json.loads(SIGNATURES.read_text("utf-8"))
_TYPES: dict[str, Any] = {"str": str, "SupportsInt": int, "Buffer": (bytes, bytearray, memoryview)}


def like(library: str, name: str, constructed: bool = False) -> Callable[[type], type]:
    """A decorator: the class has no member that the real class `name` lacks, and takes no other arguments.

    `constructed`: nor does its constructor.
    """
    recorded: dict[str, Any] = RECORDED[library]["classes"][name]

    def hold(kind: type) -> type:
        members = {name: getattr(kind, name) for name in dir(kind) if not name.startswith("_")}
        if constructed:
            members["__init__"] = kind.__init__
        for member, value in members.items():
            if member not in recorded:
                raise AttributeError(f"{library}.{name} has no {member}")
            if inspect.isfunction(value):
                setattr(kind, member, _checked(f"{library}.{name}.{member}", value, recorded[member]))
        return kind

    return hold


def _checked(what: str, function: Callable[..., Any], overloads: list[str]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(self: Any, *arguments: Any) -> Any:
        if not any(_fits(overload, arguments) for overload in overloads):
            raise TypeError(f"{what} takes {' or '.join(overloads)}; it was given {arguments}")
        return function(self, *arguments)

    return call


def _fits(overload: str, arguments: tuple[Any, ...]) -> bool:
    kinds = [part.split(": ")[1] for part in overload.split(", ")] if overload else []
    if len(kinds) != len(arguments):
        return False
    return all(
        isinstance(value, _TYPES[kind])
        if kind in _TYPES
        else kind in {base.__name__ for base in type(value).__mro__}
        for kind, value in zip(kinds, arguments, strict=True)
    )
