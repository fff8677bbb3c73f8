"""From parsed JSON to frozen dataclasses: a field that is missing, unknown or of another type is an error."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from calotype.errors import BundleError

ADDED = MappingProxyType({"added": True})  # metadata of a field that older files of the same format lack


def parse(kind: Any, text: str, where: str, version: int, hint: str) -> Any:
    """The JSON `text`, whose `format_version` must be `version`, as the dataclass `kind`.

    BundleError names what does not fit, after `where`; `hint` says what to do about it.
    """
    try:
        found = json.loads(text)
    except ValueError as error:
        raise BundleError(f"{where} is not JSON: {error}", hint) from error
    stated = found.get("format_version") if isinstance(found, dict) else None
    if stated != version:
        newer = isinstance(stated, int) and stated > version
        raise BundleError(
            f"{where}: format_version: expected {version}, found {stated!r}",
            "upgrade calotype" if newer else hint,
        )
    try:
        return read(kind, found, where)
    except BundleError as error:
        raise BundleError(error.message, hint) from error


def read(kind: Any, value: Any, where: str) -> Any:
    """`value`, as JSON has it, as the annotated type `kind`: a dataclass, a tuple of one type, a mapping or a scalar.

    BundleError names the entry that does not fit, after `where`.
    """
    if dataclasses.is_dataclass(kind):
        return _read_record(kind, value, where)
    origin = typing.get_origin(kind)
    if origin is tuple and isinstance(value, list):
        item = typing.get_args(kind)[0]
        return tuple(read(item, entry, f"{where}[{index}]") for index, entry in enumerate(value))
    if origin is Mapping and isinstance(value, dict):
        return MappingProxyType(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if origin is None and isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    expected = "list" if origin is tuple else "object" if origin is Mapping else kind.__name__
    raise BundleError(f"{where}: expected {expected}, found {value!r}")


def _read_record(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise BundleError(f"{where}: expected an object, found {value!r}")
    hints = typing.get_type_hints(kind)
    later = {field.name for field in dataclasses.fields(kind) if field.metadata == ADDED}
    missing = [name for name in hints if name not in value and name not in later]
    unknown = [name for name in value if name not in hints]
    if missing or unknown:
        raise BundleError(f"{where}: missing fields {missing}, unknown fields {unknown}")
    return kind(**{name: read(hints[name], entry, f"{where}: {name}") for name, entry in value.items()})
