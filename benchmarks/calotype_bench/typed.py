"""What JSON holds, as the dataclasses that were written into it; every value is of the type that its field has."""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Mapping
from typing import Any, get_args, get_origin, get_type_hints

_PLAIN: Mapping[Any, str] = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}


def build(kind: Any, value: Any, where: str = "") -> Any:
    """`value` as `kind`: a dataclass, `tuple[T, ...]`, `Mapping[str, T]`, a union, str, int, float, bool, None or Any.

    ValueError, which names the field, where it is none.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind):
        return _record(kind, value, where)
    if origin is tuple:
        return tuple(
            build(inner[0], each, f"{where}[{index}]") for index, each in enumerate(_list(value, where))
        )
    if origin is Mapping:
        return {
            name: build(inner[1], each, f"{where}.{name}") for name, each in _object(value, where).items()
        }
    if origin is types.UnionType:
        return _either(inner, value, where)
    return _plain(kind, value, where)


def _record(kind: Any, value: Any, where: str) -> Any:
    content, hints = _object(value, where), get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    optional = (dataclasses.MISSING, dataclasses.MISSING)
    for name, field in fields.items():
        if name not in content and (field.default, field.default_factory) == optional:
            raise ValueError(f"{where}.{name} is missing")
    for name in content.keys() - fields.keys():
        raise ValueError(f"{where}.{name} is not known")
    return kind(**{name: build(hints[name], each, f"{where}.{name}") for name, each in content.items()})


def _either(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    """As the first of `kinds` that it is; the error is the last one's."""
    if value is None and type(None) in kinds:
        return None
    *others, last = (each for each in kinds if each is not type(None))
    for kind in others:
        try:
            return build(kind, value, where)
        except ValueError:
            continue
    return build(last, value, where)


def _plain(kind: Any, value: Any, where: str) -> Any:
    accepted = (int, float) if kind is float else kind
    if not isinstance(value, accepted) or isinstance(value, bool) != (kind is bool):
        raise ValueError(f"{where}: expected {_PLAIN[kind]}, found {value!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where}: expected a finite number, found {value}")
    return value


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{where}: expected an object, found {type(value).__name__}")
    return value


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{where}: expected a list, found {type(value).__name__}")
    return value
