"""The schedulers without torch: golden schedules, names, refusals and what they say."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calotype import schedulers
from calotype.schedule import Schedule, ScheduleOptions
from calotype.schedulers.beta_quantile import beta_quantile
from tests.engine.scheduler_configs import CONFIG

GOLDEN = json.loads(Path(__file__).with_name("golden").joinpath("schedules.json").read_text(encoding="utf-8"))


def final_latents(table: Schedule) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The weights of the first latents, of every prediction and of every draw in the last latents."""
    rows, slots = table.read.shape
    basis = np.eye(1 + 2 * rows)
    state = np.zeros((slots, 1 + 2 * rows))
    state[0] = basis[0]
    for row in range(rows):
        state = table.write[row] @ np.vstack([state, basis[1 + row], basis[1 + rows + row]])
    return state[0]


def ids(case: Mapping[str, Any]) -> str:
    return f"{case['name']}-{case['config']}-{case['options']}"


@pytest.fixture(params=GOLDEN["schedules"], ids=ids)
def golden(request: pytest.FixtureRequest) -> Mapping[str, Any]:
    return request.param


@pytest.fixture
def table(golden: Mapping[str, Any]) -> Schedule:
    steps, start, eta = golden["options"]
    config = schedulers.select(golden["name"], GOLDEN["configs"][golden["config"]])
    return schedulers.schedule(config, ScheduleOptions(steps, start, eta), slots=5)


def test_final_latents_are_diffusers(golden: Mapping[str, Any], table: Schedule) -> None:
    expected = np.array(golden["latents"])
    assert np.linalg.norm(final_latents(table) - expected) <= 2e-6 * np.linalg.norm(expected)


def test_timesteps_are_diffusers(golden: Mapping[str, Any], table: Schedule) -> None:
    assert table.timesteps == pytest.approx(golden["timesteps"], abs=2e-3)


def test_draws_are_diffusers(golden: Mapping[str, Any], table: Schedule) -> None:
    assert table.draws.astype(int).tolist() == golden["draws"]


def test_initial_noise_is_diffusers(golden: Mapping[str, Any], table: Schedule) -> None:
    assert table.init_noise_sigma == pytest.approx(golden["init_noise_sigma"], rel=2e-6)


def test_noised_images_are_diffusers(golden: Mapping[str, Any], table: Schedule) -> None:
    mixes = np.vstack([table.add_noise, table.blend[:-1]])
    assert mixes == pytest.approx(np.array(golden["add_noise"]), rel=2e-6, abs=2e-6)


def test_golden_schedules_cover_every_name() -> None:
    assert {case["name"] for case in GOLDEN["schedules"]} == set(schedulers.names())


def test_the_part_to_keep_is_clean_after_the_last_row() -> None:
    assert schedulers.schedule(CONFIG, ScheduleOptions(4), slots=5).blend[-1].tolist() == [1.0, 0.0]


def test_pndm_takes_its_first_step_in_two_rows() -> None:
    assert schedulers.schedule(CONFIG, ScheduleOptions(4), slots=5).steps.tolist() == [0, 0, 1, 2, 3]


def test_heun_takes_every_step_but_the_last_in_two_rows() -> None:
    config = schedulers.select("heun", CONFIG)
    assert schedulers.schedule(config, ScheduleOptions(4, start=1), slots=5).steps.tolist() == [0, 0, 1, 1, 2]


@pytest.mark.parametrize("name", schedulers.names())
def test_one_step_is_a_schedule(name: str) -> None:
    table = schedulers.schedule(schedulers.select(name, CONFIG), ScheduleOptions(1), slots=5)
    assert np.isfinite(final_latents(table)).all()


def test_beta_quantile_inverts_the_distribution() -> None:
    found = beta_quantile(np.array([0.0, 0.01, 0.2, 0.5, 0.75, 1.0]))
    # scipy.stats.beta.ppf of the same probabilities
    expected = [0.0, 0.0008612388215429059, 0.12292175045833292, 0.5, 0.824319621347305, 1.0]
    assert found == pytest.approx(expected, rel=1e-12)


def test_schedulers_import_without_torch_or_scipy() -> None:
    code = (
        "import sys, calotype.schedulers; print(sorted({'torch', 'scipy', 'diffusers'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
