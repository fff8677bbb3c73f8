"""The least time that a picture could take on this machine."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from calotype.bundle import Bundle
from calotype.errors import BackendError
from calotype_bench import floor, flops, rates
from calotype_bench.jobs import Drawn, Engine, Job
from calotype_bench.measurement import Measurement, Row
from calotype_bench.rates import Rates
from tests.bundles import bundle


def test_work_grows_with_what_it_is_done_for() -> None:
    opened = Bundle.open(bundle("plain"))
    one, more = (
        floor.operations(opened, Job("x", steps, 0, batch=batch), steps)
        for steps, batch in ((10, 1), (20, 3))
    )
    step = flops.count(opened.root / opened.program("unet_step").files[0].path)
    text = flops.count(opened.root / opened.program("text_encoder").files[0].path)

    assert one["unet_step"] == {kind: 10 * count for kind, count in step.items()}
    assert more["unet_step"].total() == 6 * one["unet_step"].total()
    assert more["vae_decoder"].total() == 3 * one["vae_decoder"].total()
    assert more["safety_checker"].total() == 3 * one["safety_checker"].total()
    assert more["text_encoder"] == one["text_encoder"] == text  # of both texts
    assert floor.operations(Bundle.open(bundle("unguided")), Job("x", 1, 0), 1)["text_encoder"].total() > 0


def test_the_floor_takes_convolutions_and_products_at_rates_of_their_own() -> None:
    found = floor.seconds(
        {"a": {"Conv": 600, "MatMul": 100, "Attention": 50}, "b": {"Gemm": 10}},
        {"a": Rates(50, 200), "b": Rates(25, 200)},
    )
    assert found == {"a": pytest.approx(3 + 3), "b": pytest.approx(0.4), "total": pytest.approx(6.4)}


def test_a_program_is_held_against_the_rate_of_its_own_precision() -> None:
    opened = Bundle.open(bundle("plain"))
    programs = tuple(
        dataclasses.replace(spec, precision="fp32" if spec.name == "vae_decoder" else "bf16")
        for spec in opened.manifest.programs
    )
    mixed = dataclasses.replace(
        opened, manifest=dataclasses.replace(opened.manifest, precision="bf16", programs=programs)
    )
    assert set(floor.precisions([mixed])) == {"bf16", "fp32"}
    fast, slow = Rates(40, 40), Rates(10, 10)
    both = floor.rates_of(mixed, {"bf16": fast, "fp32": slow})
    assert (both["unet_step"], both["vae_decoder"]) == (fast, slow)
    assert floor.rates_of(mixed, {"bf16": fast})["vae_decoder"] == fast  # its own was not measured


def test_an_engine_in_a_precision_that_no_bundle_has_is_held_against_the_rate_of_its_own() -> None:
    opened = Bundle.open(bundle("plain"))
    exact, half = Engine("calotype", "x"), Engine("eager", "x", dtype="bf16")
    assert floor.precisions([opened], [exact, half]) == ["fp32", "bf16"]
    drawn = Drawn(1.0, {}, {}, 2, 0, 0, None, 0.0)
    rows = tuple(Row(engine, None, drawn, (drawn,)) for engine in (exact, half))
    measurement = Measurement(Job("x", 2, 0), 1, "eager fp32", rows)
    found = floor.of_measurement([opened], measurement, {"fp32": Rates(10, 20), "bf16": Rates(40, 80)})
    assert found["fp32"]["total"] == pytest.approx(4 * found["bf16"]["total"])
    more = dataclasses.replace(drawn, evaluations=3)  # as PNDM takes for two steps
    rows = tuple(dataclasses.replace(row, samples=(more,)) for row in rows)
    longer = floor.of_measurement(
        [opened], dataclasses.replace(measurement, rows=rows), {"fp32": Rates(10, 20)}
    )
    assert longer["fp32"]["unet_step"] == pytest.approx(1.5 * found["fp32"]["unet_step"])
    assert longer["fp32"]["vae_decoder"] == found["fp32"]["vae_decoder"]
    assert [*floor.of_measurement([opened], measurement, {"fp32": Rates(10, 20)})] == ["fp32"]


def test_rates_are_measured_in_a_process_of_their_own() -> None:
    found = rates.measure(["fp32"], "cpu", threads=1)["fp32"]
    for rate in (found.product, found.convolution):
        assert 1e8 < rate < 1e14


def test_a_rate_counts_the_operations_that_were_run(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []

    def fastest(ways: Sequence[rates.Made], _: object, operations: Callable[[int], int], __: object) -> float:
        for way in ways:
            with FlopCounterMode(display=False) as counter:
                way(16)()
            assert counter.get_total_flops() == operations(16)
            counted.append(operations(16))
        return 1.0

    monkeypatch.setattr(rates, "fastest", fastest)
    with torch.inference_mode():
        rates._measured("cpu", torch.float32)
    assert len(counted) == 3


def test_rates_that_take_too_long_are_an_error() -> None:
    with pytest.raises(
        BackendError, match=r"rate in fp32 on cpu cannot be measured: no answer within 0\.01 s"
    ):
        rates.measure(["fp32"], "cpu", threads=1, timeout=0.01)


def test_a_rate_is_measured_at_the_last_size_or_the_first_that_takes_long() -> None:
    tried: list[int] = []

    def made(size: int) -> Callable[[], object]:
        return lambda: [tried.append(size), time.sleep(0.11 if size == 3 else 0.001)]

    assert rates.best(made, (1, 2))[0] == 2
    size, seconds = rates.best(made, (1, 3, 4))
    assert size == 3
    assert 0.11 < seconds < 1
    assert 4 not in tried


def test_a_machines_worst_moments_are_left_out_of_its_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    waits = iter([1, 1, 9, 2, 9, 3, 9, 1, 9])  # two runs to begin with, and seven of which four are slow

    def made(_: int) -> Callable[[], object]:
        def run() -> None:
            nonlocal now
            now += next(waits)

        return run

    monkeypatch.setattr("time.perf_counter", lambda: now)
    assert rates.best(made, (1,)) == (1, 2.5)  # the median of 1, 2, 3 and 9


def test_what_is_launched_at_once_is_waited_for_once_and_shares_the_time() -> None:
    done: list[str] = []

    def made(_: int) -> Callable[[], object]:
        return lambda: done.append("run")

    def wait() -> None:
        done.append("wait")
        time.sleep(0.01)

    _, seconds = rates.best(made, (1,), wait, at_once=5)
    assert done[:7] == ["wait", *["run"] * 5, "wait"]
    assert 0.01 / 5 < seconds < 0.01


def test_of_several_ways_to_do_the_same_the_fastest_counts() -> None:
    def taking(seconds: float) -> Callable[[int], Callable[[], object]]:
        return lambda size: lambda: time.sleep(size * seconds)

    found = rates.fastest((taking(0.04), taking(0.01)), (1, 2), lambda size: 100 * size, rates.best)
    assert 100 / 0.04 < found <= 100 / 0.01


def test_half_precision_is_no_slower_than_float32_which_can_stand_for_it() -> None:
    exact = Rates(10, 20)
    assert rates.in_half(lambda: Rates(5, 40), exact) == Rates(10, 40)

    def without_kernels() -> Rates:
        raise RuntimeError("\"addmm_impl_cpu_\" not implemented for 'Half'")

    assert rates.in_half(without_kernels, exact) == exact
    found = rates.measure(["bf16", "fp32"], "cpu", threads=1)
    assert [*found] == ["bf16", "fp32"]
    assert found["bf16"].product >= found["fp32"].product
    assert found["bf16"].convolution >= found["fp32"].convolution


def test_a_machine_is_as_fast_as_at_its_best() -> None:
    assert Rates(3, 5).better(Rates(4, 2)) == Rates(4, 5)
    said: list[str] = []
    before = {"fp32": Rates(3, 5)}
    assert rates.at_best(before, lambda: {"fp32": Rates(4, 2)}, said.append) == {"fp32": Rates(4, 5)}
    assert said == []


def test_what_was_measured_is_not_lost_where_a_rate_cannot_be_measured_again() -> None:
    def broken() -> dict[str, Rates]:
        raise BackendError("out of memory")

    said: list[str] = []
    before = {"fp32": Rates(3, 5)}
    assert rates.at_best(before, broken, said.append) == before
    assert said == ["what was measured before is kept: out of memory"]
