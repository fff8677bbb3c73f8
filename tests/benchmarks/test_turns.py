"""Whose turn it is, and which picture counts, with engines that draw at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from calotype_bench import comparing, latency
from calotype_bench.jobs import Drawn, Engine, Job, Ready
from calotype_bench.order import WARM_UPS, Order
from calotype_bench.worker import save_drawn

JOB = Job("a red circle", 2, 0, width=16, height=16)


@dataclass
class Immediate:
    """In place of a worker: draws at once, and notes in `turns` that it was opened.

    `bright` is what its pictures are filled with, one after the other, and the last of them from then on.
    """

    engine: Engine
    turns: list[str]
    bright: tuple[float, ...] = (0.5,)
    ready: Ready = field(default_factory=lambda: Ready("", 0.1, 0.1))
    ended: bool = False

    def __post_init__(self) -> None:
        self.turns.append(self.engine.backend)

    def draw(self, job: Job, save: str = "") -> Drawn:
        now, *later = self.bright
        if save:
            save_drawn(save, np.full((1, job.height, job.width, 3), now), np.full((1, 4, 2, 2), now))
        self.bright = tuple(later) or (now,)
        return Drawn(1.0, {}, {}, job.steps, 1, 0, None, 0.0)

    def close(self) -> None:
        self.ended = True

    def __enter__(self) -> Immediate:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def engines(backends: str) -> list[Engine]:
    """One for each letter."""
    return [Engine("calotype", "bundle", each) for each in backends]


def draw_at_once(monkeypatch: pytest.MonkeyPatch, bright: Mapping[str, tuple[float, ...]]) -> None:
    """Let every engine be an `Immediate`, by its backend."""
    monkeypatch.setattr(
        "calotype_bench.peers.opened", lambda engine, *_: Immediate(engine, [], bright[engine.backend])
    )


def test_each_second_opening_has_the_turns_of_the_one_before_in_reverse(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    turns: list[str] = []
    monkeypatch.setattr("calotype_bench.peers.opened", lambda engine, *_: Immediate(engine, turns))
    *_, found = latency.measure(engines("abcdef"), [JOB], Order(4, 4))
    assert [len(row.samples) for row in found[0].rows] == [4] * 6
    first, second, third, fourth = (turns[place : place + 6] for place in range(0, 24, 6))
    assert first == [*"abcdef"]
    assert second == first[::-1]
    assert third not in (first, second)
    assert fourth == third[::-1]


@pytest.mark.parametrize("order", [Order(2), Order(2, alone=True)])
def test_the_picture_that_is_compared_is_one_whose_time_counts(
    order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU draws the first ones as they are, and those that count from a recorded graph."""
    warm = (0.5,) * WARM_UPS
    bright = {"a": (0.5,), "b": (*warm, 0.75), "c": (*(0.75,) * WARM_UPS, 0.5)}
    draw_at_once(monkeypatch, bright)
    *_, (found,) = latency.measure(engines("abc"), [JOB], order)
    judged = {row.engine.backend: row.fidelity and row.fidelity.latents for row in found.rows}
    assert judged == {"a": 0, "b": 0.5, "c": 0}


def test_every_engine_is_compared_with_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    bright = {"a": (1.0,), "b": (0.5,), "c": (0.5,)}
    draw_at_once(monkeypatch, bright)
    so_far = [
        [pair.fidelity.latents for pair in each.pairs] for each in comparing.compare(engines("abc"), [JOB], 0)
    ]
    assert so_far == [[pytest.approx(0.5)] * count for count in range(3)]


def test_what_draws_nothing_is_compared_with_the_finest_precision_and_eager_diffusers_before_others(
    tmp_path: Path,
) -> None:
    ours, exact, rounded = (
        Engine("calotype", "bundle", "a"), Engine("eager", "x"), Engine("eager", "x", dtype="bf16"),
    )  # fmt: skip
    for both, chosen in (((ours, rounded), 0), ((rounded, ours), 1), ((ours, exact), 1)):
        take = latency._Take(JOB, tmp_path / "drawn")
        for index in range(2):
            Path(f"{tmp_path / 'drawn'}-{index}.npz").touch()
        assert take.reference(both, 2) == chosen


@pytest.mark.parametrize(("device", "steps"), [("cpu", [1, 1, 2]), ("cuda", [2, 2, 2])])
def test_alone_an_engine_warms_up_with_single_steps_but_for_a_gpu(
    device: str, steps: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU's graph is recorded of the steps that count."""
    drawn: list[int] = []

    class Noted(Immediate):
        def draw(self, job: Job, save: str = "") -> Drawn:
            drawn.append(job.steps)
            return super().draw(job, save)

    monkeypatch.setattr("calotype_bench.peers.opened", lambda engine, *_: Noted(engine, []))
    list(latency.measure([dataclasses.replace(engines("a")[0], device=device)], [JOB], Order(1, alone=True)))
    assert drawn == steps


def test_an_engine_rests_before_each_picture_that_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    rests: list[float] = []
    monkeypatch.setattr("time.sleep", rests.append)
    draw_at_once(monkeypatch, {"a": (0.5,), "b": (0.5,)})
    list(latency.measure(engines("ab"), [JOB], Order(3)))
    assert rests == [0.1] * 6


@pytest.mark.parametrize(("device", "expected"), [("cpu", 0.5), ("cuda", 0.75)])
def test_on_a_gpu_what_is_compared_is_drawn_after_warming_up(
    device: str, expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    bright = {"a": (1.0,), "b": (*(0.5,) * WARM_UPS, 0.75)}
    draw_at_once(monkeypatch, bright)
    both = [dataclasses.replace(each, device=device) for each in engines("ab")]
    *_, found = comparing.compare(both, [JOB], 0)
    (pair,) = found.pairs
    assert pair.fidelity.latents == pytest.approx(1 - expected)
