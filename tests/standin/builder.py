"""TensorRT's builder without TensorRT: TensorRT-RTX's, which builds without a GPU, behind TensorRT's own names.

What its public sources do not name (`builder_signatures.json`), and calls with other arguments, are errors.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RECORD: Any = json.loads(Path(__file__).with_name("builder_signatures.json").read_text("utf-8"))
_PLAIN = ("ILogger", "IProgressMonitor", "IAttentionInputLayer", "__version__")


class Library:
    """The module `tensorrt`, on the module of TensorRT-RTX; what has to name a GPU there is told `capability`."""

    def __init__(self, real: Any, capability: str) -> None:
        self._real = real
        self._capability = getattr(real.ComputeCapability, capability)

    def __getattr__(self, name: str) -> Any:
        if name in _PLAIN:
            return getattr(self._real, name)
        if name in RECORD["enums"]:
            return _Enum(getattr(self._real, name), name)
        if name in RECORD["classes"]:
            return lambda *arguments: self._construct(name, arguments)
        raise AttributeError(f"tensorrt has no {name}")

    def _construct(self, name: str, arguments: tuple[Any, ...]) -> Any:
        _check(name, "__init__", arguments, {})
        made = getattr(self._real, name)(*map(_bare, arguments))
        return _Builder(made, self._capability) if name == "Builder" else _Held(made)


class _Enum:
    def __init__(self, real: Any, name: str) -> None:
        self._real, self._name = real, name

    def __getattr__(self, member: str) -> Any:
        if member not in RECORD["enums"][self._name]:
            raise AttributeError(f"tensorrt.{self._name} has no {member}")
        return getattr(self._real, member)


class _Held:
    """An object of TensorRT-RTX that has only what TensorRT's class of the same name has."""

    def __init__(self, real: Any) -> None:
        object.__setattr__(self, "_real", real)

    def __getattr__(self, member: str) -> Any:
        real = object.__getattribute__(self, "_real")
        kind = type(real).__name__
        if _members(kind, member) == "property":
            return _held(getattr(real, member))

        def call(*arguments: Any, **named: Any) -> Any:
            _check(kind, member, arguments, named)
            return _held(getattr(real, member)(*map(_bare, arguments), **named))

        return call

    def __setattr__(self, member: str, value: Any) -> None:
        real = object.__getattribute__(self, "_real")
        if member != "__class__":
            assert _members(type(real).__name__, member) == "property", f"{member} cannot be set"
        setattr(real, member, value)


class _Builder(_Held):
    def __init__(self, real: Any, capability: Any) -> None:
        super().__init__(real)
        object.__setattr__(self, "_capability", capability)

    def create_builder_config(self) -> Any:
        config = object.__getattribute__(self, "_real").create_builder_config()
        config.num_compute_capabilities = 1
        assert config.set_compute_capability(object.__getattribute__(self, "_capability"), 0)
        return _Held(config)


def _held(value: Any) -> Any:
    return _Held(value) if type(value).__name__ in RECORD["classes"] else value


def _bare(value: Any) -> Any:
    return object.__getattribute__(value, "_real") if isinstance(value, _Held) else value


def _members(kind: str, member: str) -> Any:
    if member not in RECORD["classes"][kind]:
        raise AttributeError(f"tensorrt.{kind} has no {member}")
    return RECORD["classes"][kind][member]


def _check(kind: str, member: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
    """TypeError where no overload takes these arguments."""
    overloads = [[part for part in text.split(", ") if part] for text in _members(kind, member)]
    if not any(_fits(overload, arguments, named) for overload in overloads):
        raise TypeError(f"tensorrt.{kind}.{member} takes {_members(kind, member)}, found {arguments} {named}")


def _fits(overload: list[str], arguments: tuple[Any, ...], named: dict[str, Any]) -> bool:
    rest = overload[len(arguments) :]
    known = {part.rstrip("=") for part in rest}
    needed = {part for part in rest if not part.endswith("=")}
    return len(arguments) <= len(overload) and needed <= named.keys() <= known
