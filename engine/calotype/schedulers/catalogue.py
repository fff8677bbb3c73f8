"""Which schedulers there are: diffusers' class names, short names, and those that are refused with a reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from calotype.errors import RequestError
from calotype.schedule import ScheduleOptions
from calotype.schedulers.ddim import ddim
from calotype.schedulers.ddpm import ddpm
from calotype.schedulers.deis import deis
from calotype.schedulers.dpm2 import dpm2, dpm2_ancestral
from calotype.schedulers.dpmsolver import dpmsolver_multistep
from calotype.schedulers.euler import euler
from calotype.schedulers.euler_ancestral import euler_ancestral
from calotype.schedulers.heun import heun
from calotype.schedulers.lcm import lcm
from calotype.schedulers.lms import lms
from calotype.schedulers.pndm import pndm
from calotype.schedulers.rows import Solution
from calotype.schedulers.settings import Settings
from calotype.schedulers.singlestep import dpmsolver_singlestep
from calotype.schedulers.tcd import tcd
from calotype.schedulers.unipc import unipc

RULES = ("karras", "exponential", "beta")


@dataclass(frozen=True, slots=True)
class Solver:
    """One diffusers class: the function that writes its rows, and what a request may give it."""

    solve: Callable[[Settings, ScheduleOptions], Solution]
    sigma_rules: bool = False
    timesteps: bool = False
    sigmas: bool = False


@dataclass(frozen=True, slots=True)
class ShortName:
    """What a short name stands for: a class and the settings that make the sampler which is known by it."""

    scheduler: str
    changes: Mapping[str, Any] = field(default_factory=dict[str, Any])


SOLVERS: Mapping[str, Solver] = {
    "DDIMScheduler": Solver(ddim),
    "DDPMScheduler": Solver(ddpm, timesteps=True),
    "PNDMScheduler": Solver(pndm),
    "LMSDiscreteScheduler": Solver(lms, sigma_rules=True),
    "EulerDiscreteScheduler": Solver(euler, sigma_rules=True, timesteps=True, sigmas=True),
    "EulerAncestralDiscreteScheduler": Solver(euler_ancestral),
    "HeunDiscreteScheduler": Solver(heun, sigma_rules=True, timesteps=True),
    "KDPM2DiscreteScheduler": Solver(dpm2, sigma_rules=True),
    "KDPM2AncestralDiscreteScheduler": Solver(dpm2_ancestral, sigma_rules=True),
    "DPMSolverMultistepScheduler": Solver(dpmsolver_multistep, sigma_rules=True, timesteps=True),
    "DPMSolverSinglestepScheduler": Solver(dpmsolver_singlestep, sigma_rules=True, timesteps=True),
    "UniPCMultistepScheduler": Solver(unipc, sigma_rules=True),
    "DEISMultistepScheduler": Solver(deis, sigma_rules=True),
    "LCMScheduler": Solver(lcm, timesteps=True),
    "TCDScheduler": Solver(tcd, timesteps=True),
}

_SAMPLERS: Mapping[str, ShortName] = {
    "ddim": ShortName("DDIMScheduler"),
    "ddpm": ShortName("DDPMScheduler"),
    "pndm": ShortName("PNDMScheduler", {"skip_prk_steps": True}),
    "lms": ShortName("LMSDiscreteScheduler"),
    "euler": ShortName("EulerDiscreteScheduler"),
    "euler_a": ShortName("EulerAncestralDiscreteScheduler"),
    "heun": ShortName("HeunDiscreteScheduler"),
    "dpm2": ShortName("KDPM2DiscreteScheduler"),
    "dpm2_a": ShortName("KDPM2AncestralDiscreteScheduler"),
    "dpmpp_2m": ShortName(
        "DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "solver_order": 2}
    ),
    "dpmpp_2m_sde": ShortName(
        "DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++", "solver_order": 2}
    ),
    "dpmpp_2s": ShortName(
        "DPMSolverSinglestepScheduler", {"algorithm_type": "dpmsolver++", "solver_order": 2}
    ),
    "unipc": ShortName("UniPCMultistepScheduler"),
    "deis": ShortName("DEISMultistepScheduler", {"algorithm_type": "deis"}),
    "lcm": ShortName("LCMScheduler"),
    "tcd": ShortName("TCDScheduler"),
}

_BROWNIAN = "its noise comes from a Brownian tree over the sigmas and not from one draw a row"
_ADAPTIVE = "it chooses its steps while it runs, so there is no table beforehand"
_NOT_DIFFUSION = "it belongs to models that are not Stable Diffusion"
REFUSED: Mapping[str, str] = {
    "DPMSolverSDEScheduler": _BROWNIAN,
    "CosineDPMSolverMultistepScheduler": _BROWNIAN,
    "dpmpp_sde": _BROWNIAN,
    "dpm_adaptive": _ADAPTIVE,
    "dpm_fast": _ADAPTIVE,
    "EDMEulerScheduler": _NOT_DIFFUSION,
    "FlowMatchEulerDiscreteScheduler": _NOT_DIFFUSION,
    "FlowMatchHeunDiscreteScheduler": _NOT_DIFFUSION,
    "FlowMatchLCMScheduler": _NOT_DIFFUSION,
}


def _with_sigma_rules() -> Mapping[str, ShortName]:
    named: dict[str, ShortName] = {}
    for name, sampler in _SAMPLERS.items():
        named[name] = sampler
        if not SOLVERS[sampler.scheduler].sigma_rules:
            continue
        for suffix, chosen in (("", None), *((f"_{rule}", rule) for rule in RULES)):
            flags = {f"use_{rule}_sigmas": rule == chosen for rule in RULES}
            named[name + suffix] = ShortName(sampler.scheduler, {**sampler.changes, **flags})
    return named


SHORT_NAMES = _with_sigma_rules()


def names() -> tuple[str, ...]:
    """Every short name, with the suffixes for sigma rules where the scheduler takes them."""
    return tuple(SHORT_NAMES)


def solver(scheduler: str) -> Solver:
    """The solver of a diffusers class; RequestError for one that is unknown or refused."""
    if scheduler not in SOLVERS:
        raise _unknown(scheduler)
    return SOLVERS[scheduler]


def select(name: str, config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The configuration after diffusers' `Class.from_config(config, **changes)`.

    `name` is a diffusers class name, which keeps all settings, or one of `names()`, which also fixes the settings
    that the name speaks of: the solver's kind and order, and the sigma rule. Raises RequestError for other names.
    """
    assumed = {*config.get("_use_default_values", ()), "_use_default_values"}
    kept = {key: value for key, value in config.items() if key not in assumed}
    if name in SOLVERS:
        return {**kept, "_class_name": name}
    if name not in SHORT_NAMES:
        raise _unknown(name)
    return {**kept, **SHORT_NAMES[name].changes, "_class_name": SHORT_NAMES[name].scheduler}


def _unknown(name: str) -> RequestError:
    offered = f"the short names are {', '.join(_SAMPLERS)}"
    if name in REFUSED:
        return RequestError(f"scheduler {name!r} is not offered: {REFUSED[name]}", offered)
    nearest = get_close_matches(name, (*SHORT_NAMES, *SOLVERS), n=1, cutoff=0.0)[0]
    return RequestError(f"unknown scheduler {name!r}", f"did you mean {nearest!r}? Otherwise {offered}")
