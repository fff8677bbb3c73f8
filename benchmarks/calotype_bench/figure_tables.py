"""Tables of what other commands than `calotype-bench` measured: files of figures, which `paired.write` writes."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from calotype.errors import RequestError
from calotype_bench.statistics import Ratio

Figures = Mapping[str, Any]
Table = tuple[tuple[str, ...], list[tuple[str, ...]]]  # heads, lines
_RATIO: Final = "ratio (95 %, over runs of one process)"
_GRAPHS: Final = {
    "exported": "as exported",
    "fused": "all of the optimiser, joined",
    "fused_but_convolutions": "all but its convolutions",
}


def read(kind: str, path: Path) -> tuple[Table, str]:
    """The table `kind` of the figures at `path`, and how they came about. RequestError where it cannot be made."""
    try:
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return KINDS[kind](found), _origin(found)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise RequestError(
            f"{path}: no table `{kind}` can be made of it: {type(error).__name__}: {error}"
        ) from error


def _attention(found: Figures) -> Table:
    heads = ("attention", "times a step", "OpenVINO ms", "torch ms", _RATIO, "relative L2")
    lines = [
        (
            f"{each['queries'][1]} heads of {each['queries'][3]}, {each['queries'][2]} with {each['keys'][2]}",
            str(each["times"]), _milliseconds(each["openvino"]), _milliseconds(each["torch"]),
            str(ratio(each)), f"{each['distance']:.1e}",
        )
        for each in found["shapes"]
    ]  # fmt: skip
    step = found["step"]
    return heads, [
        *lines,
        ("all of a step", "", _milliseconds(step["openvino"]), _milliseconds(step["torch"]), "", ""),
    ]


def _hoisting(found: Figures) -> Table:
    heads = ("backend", "whole step, median s", "without", _RATIO, "cut off, s", "relative L2")
    return heads, [
        (
            backend, f"{each['before']:.2f}", f"{each['after']:.2f}", str(ratio(each)),
            f"{each['prompt'] + each['row']:.3f}", f"{each['distance']:.1e}",
        )
        for backend, each in found["backends"].items()
    ]  # fmt: skip


def _lora(found: Figures) -> Table:
    heads = ("backend", "load s", "apply s", "take off s", "changes latents by", "restored")
    return heads, [
        (
            backend, *(f"{each[name]:.1f}" for name in ("load", "apply", "take off")),
            f"{each['changes latents by']:.1e}", "bit for bit" if each["restored bit for bit"] else "not the same",
        )
        for backend, each in found["backends"].items()
    ]  # fmt: skip


def _launches(found: Figures) -> Table:
    counts: dict[tuple[str, str, str], dict[str, int]] = {}
    for model, programs in found["models"].items():
        for each in programs:
            place = (model, each["program"], _GRAPHS[each["graph"]])
            counts.setdefault(place, {})[" ".join(each["settings"])] = each["launches"]
    heads = ("model", "program", "graph", "launches", "with `prefer_nhwc`")
    return heads, [(*place, str(each[""]), str(each["prefer_nhwc"])) for place, each in counts.items()]


def _plans(found: Figures) -> Table:
    heads = ("model", "program", "build s", "plan MiB", "activations MiB", "attentions in one kernel")
    return heads, [
        (
            model, plan["name"], f"{plan['build_seconds']:.1f}",
            _mebibytes(sum(file["size"] for file in plan["files"])), _mebibytes(plan["activation_bytes"]),
            f"{plan['attentions'] - len(plan['unfused_attentions'])} of {plan['attentions']}",
        )
        for model, manifest in found["models"].items()
        for plan in manifest["plans"]
    ]  # fmt: skip


def _latents(found: Figures) -> Table:
    steps = [*dict.fromkeys(step for each in found["latents"].values() for step in each)]
    heads = ("latents, relative L2", *(f"{step} step{'s' if step != '1' else ''}" for step in steps))
    return heads, [
        (engine, *(f"{each[step]:.1e}" for step in steps)) for engine, each in found["latents"].items()
    ]


KINDS: Final[Mapping[str, Callable[[Figures], Table]]] = {
    "attention": _attention, "hoisting": _hoisting, "lora": _lora, "launches": _launches, "plans": _plans,
    "latents": _latents,
}  # fmt: skip


def _origin(found: Figures) -> str:
    """The command, and the machine; of hand-made figures what is known of them."""
    where = found.get("machine", {})
    machine = where.get("processor") or found.get("gpu", "a machine that was not noted")
    cores = f", {where['cores']} cores" if "cores" in where else ""
    date = hour(where.get("date") or found.get("date", ""))
    given = found.get("command", "")
    command = given if isinstance(given, str) else f"`{shlex.join(given)}`"
    return f"{command and f'{command}, '}on {machine}{cores}{date and f', {date}'}"


def hour(date: str) -> str:
    """The date and the time of day, to the minute, of a date in ISO 8601; of a date alone, the date."""
    return date[:16].replace("T", " ")


def ratio(each: Figures) -> Ratio:
    """What figures tell of two things that ran in turn."""
    low, high = each["interval"]
    return Ratio(each["ratio"], low, high, len(each["samples"]))


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.1f}"


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:.1f}"
