"""Every option of diffusers' schedulers against diffusers, step by step."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("diffusers")

from tests.parity.scheduler_cases import (
    DDIM,
    DDPM,
    DEIS,
    EULER,
    LCM,
    MULTISTEP,
    PNDM,
    RULES,
    SINGLESTEP,
    TCD,
    UNIPC,
    WITH_RULES,
    case,
    check,
    integrate_once,
    rule_flags,
)
from tests.parity.scheduler_probe import Config

__all__ = ["integrate_once"]  # a fixture of every test here


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
