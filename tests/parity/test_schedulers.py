"""Schedule tables against diffusers' own schedulers, row by row, over everything that a configuration can say."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest

from calotype import schedulers
from calotype.errors import RequestError
from calotype.schedule import ScheduleOptions

diffusers = pytest.importorskip("diffusers")
torch = pytest.importorskip("torch")

from tests.parity.scheduler_probe import Config, Vector, in_float32, in_float64, probe, replay  # noqa: E402  (needs torch)

SLOTS = 5
STEPS = (3, 7, 20, 50)
SD = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
    "clip_sample": False,
    "skip_prk_steps": True,
}
DEMO = {**SD, "beta_end": 0.03, "prediction_type": "v_prediction", "timestep_spacing": "trailing"}

DDIM, DDPM, PNDM = "DDIMScheduler", "DDPMScheduler", "PNDMScheduler"
LMS, EULER, EULER_A = "LMSDiscreteScheduler", "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler"
HEUN, DPM2, DPM2_A = "HeunDiscreteScheduler", "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler"
MULTISTEP, SINGLESTEP = "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler"
UNIPC, DEIS, LCM, TCD = "UniPCMultistepScheduler", "DEISMultistepScheduler", "LCMScheduler", "TCDScheduler"
ALL = (
    DDIM,
    DDPM,
    PNDM,
    LMS,
    EULER,
    EULER_A,
    HEUN,
    DPM2,
    DPM2_A,
    MULTISTEP,
    SINGLESTEP,
    UNIPC,
    DEIS,
    LCM,
    TCD,
)
WITHOUT_SAMPLE = (PNDM, EULER_A, DPM2, DPM2_A)
WITHOUT_SPACING = (SINGLESTEP, LCM, TCD)
WITH_RULES = (LMS, EULER, HEUN, DPM2, DPM2_A, MULTISTEP, SINGLESTEP, UNIPC, DEIS)
WITH_RESCALING = (DDIM, DDPM, EULER, EULER_A, MULTISTEP, UNIPC, LCM, TCD)
RULES = ("plain", "karras", "exponential", "beta")

Build = Callable[[Config, ScheduleOptions], Any]

BOUND = 2e-6
BOUND_IN_FLOAT32 = {
    LMS: 5e-6,
    UNIPC: 3e-6,
    DEIS: 3e-6,
}  # what diffusers' differences of close levels lose at 50 steps
INTEGRATE = diffusers.LMSDiscreteScheduler.get_lms_coefficient


@cache
def integral(sigmas: tuple[float, ...], dtype: Any, order: int, t: int, current_order: int) -> float:
    scheduler = diffusers.LMSDiscreteScheduler(num_train_timesteps=2)
    scheduler.sigmas = torch.tensor(sigmas, dtype=dtype)
    return INTEGRATE(scheduler, order, t, current_order)


@pytest.fixture(autouse=True)
def integrate_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """diffusers' numeric integrals of LMS take a second a schedule; equal ones are taken once."""

    def remembered(self: Any, order: int, t: int, current_order: int) -> float:
        return integral(tuple(self.sigmas.tolist()), self.sigmas.dtype, order, t, current_order)

    monkeypatch.setattr(diffusers.LMSDiscreteScheduler, "get_lms_coefficient", remembered)
    diffusers.utils.logging.set_verbosity_error()


def distance(found: Vector, expected: Vector) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def worst_error(
    config: Config,
    options: ScheduleOptions,
    monkeypatch: pytest.MonkeyPatch,
    build: Build = in_float64,
) -> float:
    """The largest relative distance of a row, each row starting from diffusers' latents; the rest is asserted."""
    expected = probe(build(config, options), options, monkeypatch)
    table = schedulers.schedule(config, options, SLOTS)
    assert len(table) == len(expected.timesteps)
    assert list(table.draws) == [bool(count) for count in expected.draws]
    assert table.init_noise_sigma == pytest.approx(expected.init_noise_sigma, rel=2e-6)
    assert table.timesteps == pytest.approx(expected.timesteps, rel=1e-6, abs=1e-3)
    mixes = np.array([*expected.mixes, (1.0, 0.0)])
    assert np.abs(np.vstack([table.add_noise, table.blend]) - mixes).max() <= 2e-6 * np.abs(mixes).max()
    rows = replay(table, [np.eye(1 + 2 * len(table))[0], *expected.latents])
    pairs = zip(rows, expected.samples, expected.latents, strict=True)
    return max(max(distance(seen, s), distance(after, x)) for (seen, after), s, x in pairs)


def check(
    config: Config,
    monkeypatch: pytest.MonkeyPatch,
    steps: tuple[int, ...] = STEPS,
    eta: float = 0.0,
    build: Build = in_float64,
) -> None:
    """Every number of steps, from the first, the second and the middle one on."""
    errors = {
        (count, start): worst_error(config, ScheduleOptions(count, start, eta), monkeypatch, build)
        for count in steps
        for start in sorted({0, 1, count // 2})
    }
    bound = BOUND if build is in_float64 else BOUND_IN_FLOAT32.get(config["_class_name"], BOUND)
    assert {key: error for key, error in errors.items() if not error <= bound} == {}


def case(name: str, base: Config = SD, /, **changes: Any) -> Any:
    said = "-".join(f"{key}={value}" for key, value in changes.items() if key != "trained_betas")
    return pytest.param(
        {**base, **changes, "_class_name": name}, id=f"{name.removesuffix('Scheduler')}-{said}"
    )


def rule_flags(rule: str) -> dict[str, bool]:
    return {} if rule == "plain" else {f"use_{rule}_sigmas": True}


def grid() -> Iterator[Any]:
    for name in ALL:
        rules = RULES if name in WITH_RULES else RULES[:1]
        spacings = ("linspace",) if name in WITHOUT_SPACING else ("linspace", "leading", "trailing")
        predictions = (
            ("epsilon", "v_prediction") if name in WITHOUT_SAMPLE else ("epsilon", "v_prediction", "sample")
        )
        for rule, spacing, prediction in itertools.product(rules, spacings, predictions):
            yield case(name, timestep_spacing=spacing, prediction_type=prediction, **rule_flags(rule))


@pytest.mark.parametrize("config", grid())
def test_every_rule_spacing_and_prediction_is_diffusers(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(config, monkeypatch)


def without_cancellation() -> Iterator[Any]:
    """Beta sigmas are left out: they lie so close at both ends that diffusers loses digits in float32."""
    for name in ALL:
        for rule in RULES[:3] if name in WITH_RULES else RULES[:1]:
            yield case(name, **rule_flags(rule))


@pytest.mark.slow
@pytest.mark.parametrize("config", without_cancellation())
def test_tables_are_diffusers_in_float32_too(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    check(config, monkeypatch, build=in_float32)


def zero_terminal_snr() -> Iterator[Any]:
    for name in WITH_RESCALING:
        rules = RULES if name in WITH_RULES else RULES[:1]
        for rule in rules:
            yield case(name, DEMO, rescale_betas_zero_snr=True, **rule_flags(rule))


@pytest.mark.parametrize("config", zero_terminal_snr())
def test_zero_terminal_snr_is_diffusers(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    check(config, monkeypatch, steps=(3, 20))


def noises() -> Iterator[Any]:
    for name in ALL:
        yield case(name, beta_schedule="linear")
        yield case(name, beta_schedule="squaredcos_cap_v2")
        yield case(name, trained_betas=np.linspace(0.001, 0.02, 500).tolist(), num_train_timesteps=500)
        yield case(name, {"clip_sample": False, "skip_prk_steps": True})
        yield case(name, DEMO)


@pytest.mark.parametrize("config", noises())
def test_every_noise_is_diffusers(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    check(config, monkeypatch, steps=(7,))


def options_of_one_level() -> Iterator[Any]:
    for name in (DDIM, PNDM, LCM, TCD):
        yield case(name, set_alpha_to_one=True, steps_offset=0)
        yield case(name, set_alpha_to_one=False, steps_offset=3)
    for variance in (None, "fixed_small", "fixed_small_log", "fixed_large"):
        yield case(DDPM, variance_type=variance, steps_offset=0)
    yield case(LCM, original_inference_steps=100, timestep_scaling=5.0)
    yield case(TCD, original_inference_steps=100)


def options_of_sigmas() -> Iterator[Any]:
    for rule in RULES:
        yield case(EULER, final_sigmas_type="sigma_min", **rule_flags(rule))
        yield case(EULER, interpolation_type="log_linear", **rule_flags(rule))
        for name in WITH_RULES:
            yield case(name, sigma_min=0.1, sigma_max=8.0, **rule_flags(rule))
    yield case(EULER, prediction_type="original_sample")
    yield case(EULER, prediction_type="v_prediction", timestep_type="continuous", use_karras_sigmas=True)


def options_of_dpmsolver() -> Iterator[Any]:
    for name, order, solver_type in itertools.product(
        (MULTISTEP, SINGLESTEP), (1, 2, 3), ("midpoint", "heun")
    ):
        kind = {"solver_order": order, "solver_type": solver_type}
        algorithms = ["dpmsolver", "dpmsolver++", "sde-dpmsolver++"]
        if name == MULTISTEP and order < 3:
            algorithms.append("sde-dpmsolver")
        for algorithm in algorithms:
            yield case(name, algorithm_type=algorithm, final_sigmas_type="sigma_min", **kind)
            if algorithm.endswith("++"):
                yield case(name, algorithm_type=algorithm, **kind)
    for order in (1, 2, 3):
        for name in (MULTISTEP, SINGLESTEP):
            yield case(name, solver_order=order, lower_order_final=False, final_sigmas_type="sigma_min")
            yield case(name, solver_order=order, lower_order_final=True, final_sigmas_type="sigma_min")
        yield case(MULTISTEP, solver_order=order, euler_at_final=True, final_sigmas_type="sigma_min")
    for name in (MULTISTEP, SINGLESTEP):
        for rule in RULES:
            yield case(name, final_sigmas_type="sigma_min", **rule_flags(rule))
            yield case(name, beta_schedule="squaredcos_cap_v2", lambda_min_clipped=-5.1, **rule_flags(rule))
        yield case(name, solver_type="bh2", algorithm_type="deis", final_sigmas_type="sigma_min")
    for spacing in ("linspace", "leading", "trailing"):
        yield case(MULTISTEP, lambda_min_clipped=-2.0, timestep_spacing=spacing)
    yield case(MULTISTEP, use_lu_lambdas=True)
    yield case(MULTISTEP, use_lu_lambdas=True, beta_schedule="squaredcos_cap_v2")


def options_of_unipc_and_deis() -> Iterator[Any]:
    for order, solver_type, x0 in itertools.product((1, 2, 3), ("bh1", "bh2"), (True, False)):
        for final in ("zero", "sigma_min") if x0 and solver_type == "bh2" else ("sigma_min",):
            kind = {
                "solver_order": order,
                "solver_type": solver_type,
                "predict_x0": x0,
                "final_sigmas_type": final,
            }
            yield case(UNIPC, **kind)
    for order in (1, 2, 3):
        yield case(UNIPC, solver_order=order, disable_corrector=[0, 1, 4])
        yield case(UNIPC, solver_order=order, lower_order_final=False, final_sigmas_type="sigma_min")
        yield case(DEIS, solver_order=order)
        yield case(DEIS, solver_order=order, lower_order_final=False)
        yield case(DEIS, solver_order=order, prediction_type="sample", use_karras_sigmas=True)
    for rule in RULES:
        yield case(UNIPC, final_sigmas_type="sigma_min", **rule_flags(rule))
    yield case(UNIPC, solver_type="midpoint")
    yield case(DEIS, solver_type="bh2", algorithm_type="dpmsolver++")


@pytest.mark.parametrize(
    "config",
    [*options_of_one_level(), *options_of_sigmas(), *options_of_dpmsolver(), *options_of_unipc_and_deis()],
)
def test_every_option_is_diffusers(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    check(config, monkeypatch, steps=(3, 7, 20))


def not_a_number() -> Iterator[Any]:
    yield case(DDIM, rescale_betas_zero_snr=True, timestep_spacing="trailing")
    yield case(UNIPC, solver_type="bh1")
    yield case(UNIPC, predict_x0=False)
    yield case(UNIPC, lower_order_final=False)
    karras = {"use_karras_sigmas": True, "final_sigmas_type": "sigma_min"}
    yield case(UNIPC, solver_order=3, lower_order_final=False, **karras)


@pytest.mark.parametrize("config", not_a_number())
def test_what_diffusers_makes_no_number_of_is_refused(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = probe(in_float32(config, ScheduleOptions(7)), ScheduleOptions(7), monkeypatch)
    assert not np.isfinite(found.latents[-1]).all()
    with pytest.raises(RequestError, match="divides by zero"):
        schedulers.schedule(config, ScheduleOptions(7), SLOTS)


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("config", [case(DDIM), case(DDIM, DEMO), case(TCD), case(TCD, DEMO)])
def test_eta_is_diffusers(config: Config, eta: float, monkeypatch: pytest.MonkeyPatch) -> None:
    check(config, monkeypatch, eta=eta)


@pytest.mark.parametrize("name", [DDPM, EULER, HEUN, MULTISTEP, SINGLESTEP, LCM, TCD])
@pytest.mark.parametrize("start", [0, 1, 5])
def test_custom_timesteps_are_diffusers(name: str, start: int, monkeypatch: pytest.MonkeyPatch) -> None:
    given = tuple(diffusers.schedulers.AysSchedules["StableDiffusionTimesteps"])
    options = ScheduleOptions(start=start, timesteps=given)
    assert worst_error({**SD, "_class_name": name}, options, monkeypatch) <= BOUND


@pytest.mark.parametrize("start", [0, 1, 5])
@pytest.mark.parametrize("config", [case(EULER), case(EULER, DEMO, use_karras_sigmas=True)])
def test_custom_sigmas_are_diffusers(config: Config, start: int, monkeypatch: pytest.MonkeyPatch) -> None:
    given = tuple(diffusers.schedulers.AysSchedules["StableDiffusionSigmas"])
    assert worst_error(config, ScheduleOptions(start=start, sigmas=given), monkeypatch) <= BOUND


@pytest.mark.parametrize("base", [SD, DEMO], ids=["sd", "demo"])
@pytest.mark.parametrize("name", schedulers.names())
def test_every_short_name_is_diffusers(name: str, base: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    check(schedulers.select(name, {**base, "_class_name": PNDM}), monkeypatch, steps=(7,))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("source", [PNDM, DDIM, UNIPC, MULTISTEP])
def test_selecting_a_class_is_from_config(name: str, source: str) -> None:
    eager = getattr(diffusers, source).from_config({**SD, "_class_name": source, "solver_order": 3}).config
    switched = dict(getattr(diffusers, name).from_config(eager).config)
    assumed = switched.pop("_use_default_values", [])
    said = {key: value for key, value in switched.items() if key not in assumed}
    assert {**schedulers.select(name, eager)} == {**said, "_class_name": name}


@pytest.mark.parametrize("name", [name for name in ALL if name not in (DDIM, DDPM, PNDM)])
def test_text_to_image_starts_at_the_first_row_too(name: str) -> None:
    """The text-to-image pipeline sets no begin index, and diffusers looks the first timestep up instead."""
    scheduler = getattr(diffusers, name).from_config({**SD, "_class_name": name})
    scheduler.set_timesteps(20)
    scheduler.scale_model_input(torch.zeros(1, 1), scheduler.timesteps[0])
    scheduler._init_step_index(scheduler.timesteps[0])
    assert scheduler.step_index == 0
