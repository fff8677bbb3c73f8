"""What the exponential integrators share: the exact solution over one interval of lambda, term by term.

With the model's converted output written as a polynomial in lambda, the diffusion ODE and SDE have closed
solutions (2206.00927, proposition 3.1; 2211.01095, proposition 4.1): one weight for the sample and one for each
derivative of the output.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from calotype.errors import RequestError
from calotype.schedulers.algebra import LATENTS, PREDICTION, Vector
from calotype.schedulers.levels import Float32, Level
from calotype.schedulers.settings import Settings

ALGORITHMS = ("dpmsolver", "dpmsolver++", "sde-dpmsolver", "sde-dpmsolver++")
FEW_STEPS = 15  # below this many steps lower_order_final has a meaning


@dataclass(frozen=True, slots=True)
class Interval:
    """The weights for a step from level `start` to level `end`.

    The names ending in ++ hold the original constant, the others the noise; sde- adds noise on the way.
    """

    end: Level
    start: Level
    algorithm: str

    @property
    def length(self) -> np.float64:
        """h, the step in lambda."""
        return self.end.log_snr - self.start.log_snr

    @property
    def exponent(self) -> np.float64:
        """g, over which the output's exponential kernel runs."""
        factor = {"dpmsolver": 1, "sde-dpmsolver": 1, "dpmsolver++": -1, "sde-dpmsolver++": -2}[
            self.algorithm
        ]
        return factor * self.length

    @property
    def scale(self) -> np.float64:
        """What all weights of the output are measured in."""
        if self.algorithm.endswith("++"):
            return self.end.alpha
        return self.end.sigma * (2 if self.algorithm == "sde-dpmsolver" else 1)

    @property
    def carry(self) -> np.float64:
        """The weight of the sample."""
        if not self.algorithm.endswith("++"):
            return self.end.alpha / self.start.alpha
        decay = self.end.sigma / self.start.sigma
        return decay * np.exp(-self.length) if self.algorithm.startswith("sde") else decay

    @property
    def constant(self) -> np.float64:
        """The weight of the output itself."""
        return -self.scale * np.expm1(self.exponent)

    @property
    def midpoint(self) -> np.float64:
        """The weight of the first difference as the midpoint rule has it."""
        return self.constant / 2

    @property
    def linear(self) -> np.float64:
        """The weight of the first difference, integrated exactly (Heun)."""
        return self.scale * (1 - np.expm1(self.exponent) / self.exponent)

    @property
    def quadratic(self) -> np.float64:
        """The weight of the second difference, integrated exactly.

        For sde-dpmsolver++ the sign of the half is diffusers', where the derivation has the opposite one.
        """
        half = -0.5 if self.algorithm == "sde-dpmsolver++" else 0.5
        return -self.scale * ((np.expm1(self.exponent) - self.exponent) / self.exponent**2 - half)

    @property
    def spread(self) -> np.float64:
        """The weight of the noise."""
        if self.algorithm == "sde-dpmsolver++":
            return self.end.sigma * np.sqrt(-np.expm1(-2 * self.length))
        if self.algorithm == "sde-dpmsolver":
            return self.end.sigma * np.sqrt(np.expm1(2 * self.length))
        return np.float64(0.0)


def converted(level: Level, algorithm: str, prediction_type: str) -> Vector:
    """The prediction as the quantity that the algorithm holds constant: original for ++, noise otherwise."""
    if algorithm.endswith("++"):
        return level.original(LATENTS, PREDICTION, prediction_type)
    return level.epsilon(LATENTS, PREDICTION, prediction_type)


def algorithm_of(settings: Settings, offered: Sequence[str]) -> str:
    """algorithm_type; DEIS's name stands for dpmsolver++, but does not end at sigma zero, as in diffusers."""
    if settings.values.get("variance_type") in ("learned", "learned_range"):
        raise settings.wrong("variance_type", "null: a UNet that predicts its variance is not offered")
    algorithm = settings.choice("algorithm_type", "dpmsolver++", (*offered, "deis"))
    if not algorithm.endswith("++") and final_sigma_of(settings) == "zero":
        raise RequestError(
            f"{settings.scheduler}: {algorithm} cannot end at sigma zero",
            "set final_sigmas_type to sigma_min, or algorithm_type to dpmsolver++",
        )
    return "dpmsolver++" if algorithm == "deis" else algorithm


def solver_type_of(settings: Settings) -> str:
    """midpoint or heun; the names that other solvers have there stand for midpoint, as in diffusers."""
    name = settings.choice("solver_type", "midpoint", ("midpoint", "heun", "logrho", "bh1", "bh2"))
    return name if name == "heun" else "midpoint"


def order_of(settings: Settings) -> int:
    """solver_order, from 1 to 3."""
    order = settings.integer("solver_order", 2)
    if order not in (1, 2, 3):
        raise settings.wrong("solver_order", "1, 2 or 3")
    return order


def final_sigma_of(settings: Settings) -> str:
    """final_sigmas_type: whether the last step goes to zero, or to the lowest sigma."""
    return settings.choice("final_sigmas_type", "zero", ("zero", "sigma_min"))


def clipped_levels(settings: Settings, alphas: Float32) -> int:
    """How many of the noisiest training levels lambda_min_clipped cuts off."""
    lambdas = np.log(np.sqrt(alphas)) - np.log(np.sqrt(1 - alphas))
    return int(np.searchsorted(lambdas[::-1], settings.number("lambda_min_clipped", -np.inf)))
