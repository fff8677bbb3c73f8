"""What is said of samples."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from calotype_bench.statistics import Ratio, ratio, summarise


def test_a_summary_has_the_quantiles_of_its_samples() -> None:
    found = summarise([5.0, 1.0, 2.0, 3.0, 4.0, 3.0])
    assert (found.runs, found.minimum, found.median) == (6, 1.0, 3.0)
    assert (found.p90, found.p99) == (4.5, None)
    assert found.spread == pytest.approx(1.5 / 3)
    assert summarise([5.0, 1.0, 2.0, 3.0, 4.0]).spread is None
    many = summarise(range(101))
    assert (many.p90, many.p99) == (90, 99)


@pytest.mark.parametrize(
    ("runs", "p90", "p99"), [(5, False, False), (6, True, False), (99, True, False), (100, True, True)]
)
def test_quantiles_are_told_of_as_many_runs_as_they_need(runs: int, p90: bool, p99: bool) -> None:
    found = summarise(range(1, runs + 1))
    assert (found.p90 is not None, found.p99 is not None) == (p90, p99)


def test_a_ratio_is_within_its_interval() -> None:
    random = np.random.default_rng(1)
    slow = random.normal(2.0, 0.05, 40)
    found = ratio(slow, slow / 2 + random.normal(0, 0.01, 40))
    assert found.low < found.value < found.high
    assert found.low < 2 < found.high
    assert found.high - found.low < 0.2


def test_what_slows_both_of_a_pair_does_not_widen_the_interval() -> None:
    random = np.random.default_rng(2)
    load = random.uniform(1, 3, 60)
    paired = ratio(load * 2, load)
    shuffled = ratio(load * 2, random.permutation(load))
    assert paired.high - paired.low == pytest.approx(0, abs=1e-9)
    assert shuffled.high - shuffled.low > 0.2


def test_a_ratio_does_not_follow_a_machine_that_drifts() -> None:
    random = np.random.default_rng(5)
    openings = np.repeat(np.arange(6), 2)
    of_draws, of_all = list[float](), list[float]()
    for _ in range(300):
        load = random.choice([1.0, 2.0], 6)[openings]  # two tenants, now and then
        one, other = (load * random.lognormal(0.0, 0.06, 6)[openings] for _ in range(2))
        of_draws.append(np.log(ratio(one, other, openings.tolist()).value))
        of_all.append(np.log(np.median(one) / np.median(other)))
    assert np.std(of_draws) < 0.9 * np.std(of_all)
    assert np.std(of_draws) < 0.05  # of one draw it is 0.085


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(3)
    found = [ratio(random.lognormal(0.0, 0.1, 15) * 1.5, random.lognormal(0.0, 0.1, 15)) for _ in range(300)]
    held = np.mean([each.low <= 1.5 <= each.high for each in found])
    assert 0.88 < held < 0.98


def test_an_interval_of_few_runs_is_their_extremes_and_says_so() -> None:
    found = ratio([2.0, 3.0, 2.2], [1.0, 1.0, 1.0])
    assert (found.value, found.low, found.high) == (pytest.approx(2.2), 2.0, 3.0)
    assert str(found) == "2.200 (all of 2.000 to 3.000)"
    assert str(ratio([2.0] * 6, [1.0] * 6)) == "2.000 (2.000 to 2.000)"


def test_intervals_over_processes_hold_nearly_what_they_say() -> None:
    random = np.random.default_rng(2)
    openings = np.repeat(np.arange(6), 2)

    def run(seconds: float) -> NDArray[np.float64]:
        return seconds * random.lognormal(0.0, 0.04, 6)[openings] * random.lognormal(0.0, 0.01, 12)

    found = [ratio(run(2.0), run(1.0), openings.tolist()) for _ in range(300)]
    held = np.mean([each.low < 2 < each.high for each in found])
    assert 0.88 < held < 0.97  # 95 % is what they say, six processes are few


def test_intervals_over_processes_of_two_speeds_hold_somewhat_less() -> None:
    random = np.random.default_rng(2)
    openings = np.repeat(np.arange(6), 2)

    def run() -> NDArray[np.float64]:
        return random.choice([0.158, 0.170], 6)[openings] * random.lognormal(0.0, 0.01, 12)

    found = [ratio(run(), run(), openings.tolist()) for _ in range(300)]
    held = np.mean([each.low < 1 < each.high for each in found])
    assert 0.84 < held < 0.95


def test_what_a_process_keeps_to_is_in_the_interval_of_several() -> None:
    random = np.random.default_rng(4)
    openings = np.repeat(np.arange(6), 2)

    def run() -> NDArray[np.float64]:
        speed = random.choice([0.158, 0.170], 6)  # which of two, by lot
        return speed[openings] * random.lognormal(0.0, 0.01, 12)

    def overlaps(one: Ratio, other: Ratio) -> bool:
        return one.low <= other.high and other.low <= one.high

    by_process, by_run = list[bool](), list[bool]()
    for _ in range(100):
        pairs = [(run(), run()) for _ in range(2)]
        by_process.append(overlaps(*(ratio(*pair, openings.tolist()) for pair in pairs)))
        single = [(pair[0][:2].repeat(6), pair[1][:2].repeat(6)) for pair in pairs]  # one process each
        noise = random.lognormal(0.0, 0.01, (2, 12))
        by_run.append(overlaps(*(ratio(a * noise[0], b * noise[1]) for a, b in single)))
    assert np.mean(by_process) > 0.95
    assert np.mean(by_run) < 0.7


def test_runs_of_few_processes_have_no_interval_but_their_extremes() -> None:
    found = ratio([2.0, 2.2, 3.0, 3.2], [1.0, 1.0, 1.0, 1.0], [0, 0, 1, 1])
    assert (found.low, found.high, found.draws) == (pytest.approx(2.1), pytest.approx(3.1), 2)
