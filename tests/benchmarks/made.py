"""Results with figures that are easy to check."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from calotype_bench.fidelity import Fidelity
from calotype_bench.jobs import Drawn, Engine, Job, Ready
from calotype_bench.measurement import Measurement, Row
from calotype_bench.pictures import encode
from calotype_bench.rates import Rates
from calotype_bench.results import Comparison, Latency, Pair, Techniques, Variant, write

MACHINE = {
    "processor": "A processor with a long name", "cores": 2, "system": "Linux-x86_64", "python": "3.11.7",
    "load": [0.5, 0.25, 0.125], "date": "2026-01-02T03:04:05+00:00",
}  # fmt: skip
BUNDLES = ({"precision": "fp32", "digest": "0123456789abcdef" * 4},)
NEAR = Fidelity(1e-6, 1.0, 80.0, 1.0, 1)


def latency() -> Latency:
    """Two steps and two batch sizes of three engines, one of which is missing."""
    engines = [
        Engine("calotype", "bundle", "openvino"),
        Engine("eager", "checkpoint"),
        Engine("optimum-intel", "checkpoint"),
    ]
    measurements = tuple(
        Measurement(
            Job("a prompt", steps, 0, batch=batch), 5, "eager fp32",
            (
                _row(engines[0], 0.1 * steps * batch, NEAR),
                _row(engines[1], 0.2 * steps * batch, Fidelity(0.0, 1.0, None, 1.0, 0)),
                Row(engines[2], None, None, (), "it is not installed"),
            ),
        )
        for steps in (10, 20)
        for batch in (1, 2)
    )  # fmt: skip
    floors = tuple(
        {"fp32": {"unet_step": 0.03 * each.job.steps, "total": 0.04 * each.job.steps}}
        for each in measurements
    )
    return Latency(
        title="A bundle", command=("calotype-bench", "latency", "bundle", "--title", "A bundle"),
        machine=MACHINE, bundles=BUNDLES,
        measurements=measurements, rates={"fp32": Rates(1e12, 2e12)}, floors=floors,
        operators={"calotype openvino": {"unet_step": {"convolution": 0.06, "layout": 0.04}, "vae_decoder": "why"}},
    )  # fmt: skip


def write_six(path: Path, slower: float = 1.0) -> str:
    """A result in which the peer takes `slower` times as long as in `latency`, of six runs."""
    found = latency()
    measurements = []
    for each in found.measurements:
        ours, eager, missing = each.rows
        samples = tuple(
            dataclasses.replace(
                one,
                seconds=one.seconds * slower,
                parts={name: seconds * slower for name, seconds in one.parts.items()},
            )
            for one in _six(eager)
        )
        rows = (
            dataclasses.replace(ours, samples=_six(ours)),
            dataclasses.replace(eager, samples=samples),
            missing,
        )
        measurements.append(dataclasses.replace(each, rows=rows))
    write(dataclasses.replace(found, measurements=tuple(measurements)), path)
    return str(path)


def comparison() -> Comparison:
    """One request through one engine, with pictures, and the noise floor."""
    expected, found = (encode(Image.new("RGB", (16, 16), (value,) * 3)) for value in (100, 101))
    return Comparison(
        title="Pictures", command=("calotype-bench", "compare", "bundle"), machine=MACHINE, bundles=BUNDLES,
        reference="eager fp32", noise=("eager bf16",), failures={"calotype tensorrt fp32": "<no>"},
        expected=(expected,),
        pairs=(
            Pair(0, "a prompt", 1, "calotype openvino fp32", NEAR, found),
            Pair(0, "a prompt", 1, "eager bf16", Fidelity(1e-2, 0.9999, 40.0, 0.99, 12)),
        ),
    )  # fmt: skip


def techniques() -> Techniques:
    """One program that a change makes twice as fast and another a little slower, and one that none is for."""
    variants = (("as it is", 0, 0.0, 0.2), ("norms", 3, 0.0, 0.1), ("masks", 1, 1e-6, 0.11))
    return Techniques(
        title="Techniques", command=("calotype-bench", "techniques", "bundle"), machine=MACHINE, bundles=BUNDLES,
        backend="openvino",
        programs={
            "unet_step": tuple(
                Variant(change, places, distance, ((seconds, seconds * 1.5), (seconds, seconds * 0.5)))
                for change, places, distance, seconds in variants
            ),
            "vae_decoder": (Variant("as it is", 0, 0.0, ((1.0, 1.0), (1.0, 1.0))),),
        },
    )  # fmt: skip


def _six(row: Row) -> tuple[Drawn, ...]:
    return (*row.samples, row.samples[-1])


def _row(engine: Engine, seconds: float, fidelity: Fidelity) -> Row:
    samples = tuple(_drawn(seconds * factor) for factor in (0.9, 1.0, 1.1, 1.0, 0.95))
    return Row(
        engine, Ready("openvino", 0.5, 1.0, {"numpy": "2.0"}), _drawn(2 * seconds), samples, "", fidelity
    )


def _drawn(seconds: float) -> Drawn:
    parts = {"text_encoder": 0.1 * seconds, "unet_step": 0.7 * seconds, "vae_decoder": 0.15 * seconds}
    return Drawn(seconds, parts | {"runtime": 0.05 * seconds}, {}, 20, 2**28, 0, 12.0, 1e-5)


def change(path: Path, damage: Callable[[Any], object]) -> None:
    """Do something to what a result's file holds."""
    content = json.loads(path.read_text())
    damage(content)
    path.write_text(json.dumps(content))
