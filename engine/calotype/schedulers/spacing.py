"""Which timesteps and sigmas a request visits: timestep spacings, sigma rules, and the two grids made of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from calotype.errors import RequestError
from calotype.schedule import ScheduleOptions, Table
from calotype.schedulers.beta_quantile import beta_quantile
from calotype.schedulers.levels import Float32, as_float32, train_sigmas, train_steps
from calotype.schedulers.settings import Settings

SPACINGS = ("linspace", "leading", "trailing")


@dataclass(frozen=True, slots=True)
class Grid:
    """The discretisation of a request: N timesteps, and N + 1 sigmas of which the last is where it ends."""

    timesteps: Table
    sigmas: Table

    def __len__(self) -> int:
        return len(self.timesteps)


@dataclass(frozen=True, slots=True)
class SigmaRule:
    """How the sigmas lie between the highest and the lowest; `name` is none, karras, exponential, beta or lu.

    `lowest` and `highest` replace the schedule's own where the configuration names them.
    """

    name: str
    lowest: float | None
    highest: float | None

    def __call__(self, sigmas: Table | Float32, steps: int) -> Table:
        """`steps` falling sigmas from sigmas[0] to sigmas[-1]."""
        highest = float(sigmas[0]) if self.highest is None else self.highest
        lowest = float(sigmas[-1]) if self.lowest is None else self.lowest
        ramp = np.linspace(0, 1, steps)
        if self.name == "karras":  # Karras et al. 2022 (2206.00364), equation 5 with rho = 7
            return (highest ** (1 / 7) + ramp * (lowest ** (1 / 7) - highest ** (1 / 7))) ** 7
        if self.name == "lu":  # uniform in the float32 logarithms
            first, last = float(np.log(sigmas[0])), float(np.log(sigmas[-1]))
            return np.exp(first + ramp * (last - first))
        if self.name == "exponential":
            return np.exp(np.linspace(math.log(highest), math.log(lowest), steps))
        return lowest + beta_quantile(1 - ramp) * (highest - lowest)  # Lee et al. 2024 (2407.12173)


NO_RULE = SigmaRule("none", None, None)


def sigma_rule(settings: Settings) -> SigmaRule:
    """The sigma rule of a configuration; RequestError when it names two."""
    chosen = [
        name for name in ("karras", "exponential", "beta") if settings.flag(f"use_{name}_sigmas", False)
    ]
    if len(chosen) > 1:
        raise RequestError(
            f"{settings.scheduler}: expected at most one sigma rule, found {' and '.join(chosen)}",
            "leave one of use_karras_sigmas, use_exponential_sigmas and use_beta_sigmas set",
        )
    lowest, highest = settings.optional_number("sigma_min"), settings.optional_number("sigma_max")
    return SigmaRule(chosen[0] if chosen else "none", lowest, highest)


def timesteps_of(sigmas: Table, log_sigmas: Float32) -> Table:
    """The fractional timesteps whose training levels the sigmas are, linear in the logarithm."""
    log_sigma = np.log(np.maximum(sigmas, 1e-10))
    below = np.cumsum(log_sigma - log_sigmas[:, np.newaxis] >= 0, axis=0).argmax(axis=0)
    low = below.clip(max=len(log_sigmas) - 2)
    share = (log_sigmas[low] - log_sigma) / (log_sigmas[low] - log_sigmas[low + 1])
    share = np.clip(share, 0, 1)
    return (1 - share) * low + share * (low + 1)


def spaced_timesteps(settings: Settings, steps: int, default: str) -> Table:
    """`steps` falling timesteps of 0..T-1 (2305.08891, table 2); linspace is not rounded."""
    train, offset = train_steps(settings), settings.integer("steps_offset", 0)
    spacing = settings.choice("timestep_spacing", default, SPACINGS)
    if spacing == "linspace":
        return np.linspace(0, train - 1, steps, dtype=np.float64)[::-1]
    if spacing == "leading":
        return np.arange(steps, dtype=np.float64)[::-1] * (train // steps) + offset
    return np.arange(train, 0, -train / steps, dtype=np.float64).round() - 1


def inner_timesteps(settings: Settings, steps: int, last: int) -> Table:
    """`steps` falling timesteps of 0..last-1, one point more being spaced out and the lowest left away."""
    train, offset = train_steps(settings), settings.integer("steps_offset", 0)
    spacing = settings.choice("timestep_spacing", "linspace", SPACINGS)
    if spacing == "linspace":
        return np.linspace(0, last - 1, steps + 1, dtype=np.float64).round()[::-1][:-1]
    if spacing == "leading":
        return np.arange(steps + 1, dtype=np.float64)[::-1][:-1] * (last // (steps + 1)) + offset
    return np.arange(last, 0, -train / steps, dtype=np.float64).round() - 1


def custom_timesteps(settings: Settings, options: ScheduleOptions, rule: SigmaRule) -> Table | None:
    """The request's own timesteps; RequestError where the sigma rule leaves no room for them."""
    if options.timesteps is None:
        return None
    if rule.name != "none":
        raise RequestError(
            f"{settings.scheduler}: timesteps cannot be given where {rule.name} sigmas decide them",
            "leave out timesteps, or choose the scheduler without the sigma rule",
        )
    return np.array(options.timesteps, dtype=np.float64)


def descending_timesteps(settings: Settings, options: ScheduleOptions) -> Table | None:
    """The request's own timesteps, which have to fall and to be below T."""
    if options.timesteps is None:
        return None
    timesteps = np.array(options.timesteps, dtype=np.float64)
    train = train_steps(settings)
    if (np.diff(timesteps) >= 0).any() or timesteps[0] >= train:
        raise RequestError(
            f"{settings.scheduler}: timesteps must fall and stay below {train}, found {list(options.timesteps)}",
            "sort the timesteps from the highest to the lowest",
        )
    return timesteps


def exploding_grid(settings: Settings, options: ScheduleOptions, alphas: Float32, rule: SigmaRule) -> Grid:
    """The grid of the k-diffusion family: the rule spans the sigmas that the spacing gives, and 0 is the end."""
    timesteps = custom_timesteps(settings, options, rule)
    if timesteps is None:
        timesteps = spaced_timesteps(settings, options.num_inference_steps, "linspace")
    timesteps = as_float32(timesteps)
    train = train_sigmas(alphas)
    sigmas = np.interp(timesteps, np.arange(len(train)), train)
    if rule.name != "none":
        sigmas = rule(sigmas, options.num_inference_steps)
        timesteps = as_float32(timesteps_of(sigmas, np.log(train)))
    return Grid(timesteps, as_float32(np.append(sigmas, 0.0)))


def preserved_grid(timesteps: Table, alphas: Float32, rule: SigmaRule, steps: int) -> Grid:
    """The grid of the exponential integrators: the rule spans all training sigmas, and the lowest is the end.

    Timesteps that follow from a rule are cut to whole numbers by the caller.
    """
    train = train_sigmas(alphas)
    if rule.name == "none":
        sigmas = np.interp(timesteps, np.arange(len(train)), train)
    else:
        sigmas = rule(train[::-1], steps)
        timesteps = timesteps_of(sigmas, np.log(train))
    return Grid(timesteps, as_float32(np.append(sigmas, train[0])))


def initial_sigma(settings: Settings, sigmas: Table) -> float:
    """init_noise_sigma of the k-diffusion family."""
    highest = float(sigmas.max())
    spacing = settings.choice("timestep_spacing", "linspace", SPACINGS)
    return (highest**2 + 1) ** 0.5 if spacing == "leading" else highest
