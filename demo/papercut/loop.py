"""The training loop of every stage. In: a module and its loss at a step; out: the averaged weights, loaded into it."""

from __future__ import annotations

import copy
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

_SECONDS_BETWEEN_CHECKPOINTS = 120.0
_STEPS_BETWEEN_LOG_LINES = 50


@dataclass(frozen=True, slots=True)
class Schedule:
    """Steps of a stage; the learning rate warms up, stays, and decays along a cosine over the last `decay` share."""

    steps: int
    learning_rate: float
    warmup: int = 100
    decay: float = 1.0
    average: float = 0.995

    def learning_rate_at(self, step: int) -> float:
        """The learning rate of `step`, counted from 0."""
        start = self.steps * (1 - self.decay)
        progress = max(0.0, step - start) / max(1.0, self.steps - start)
        return (
            self.learning_rate
            * min(1.0, (step + 1) / self.warmup)
            * (0.01 + 0.99 * math.cos(progress * math.pi / 2) ** 2)
        )


def fit(
    module: nn.Module, loss_at: Callable[[int], torch.Tensor], schedule: Schedule, checkpoint: Path
) -> None:
    """Train `module` in place, resuming from `checkpoint` if it exists; ends with the moving average's weights.

    `loss_at(step)` must depend on nothing but the step and the weights, so that a resumed run repeats itself.
    """
    average = copy.deepcopy(module).requires_grad_(False)
    optimiser = torch.optim.AdamW(
        module.parameters(), lr=schedule.learning_rate, betas=(0.9, 0.99), weight_decay=0.01
    )
    start = _resume(checkpoint, module, average, optimiser)
    progress = tqdm(
        range(start, schedule.steps), initial=start, total=schedule.steps, desc=checkpoint.stem, disable=None
    )
    saved, smooth = time.monotonic(), math.nan
    for step in progress:
        for group in optimiser.param_groups:
            group["lr"] = schedule.learning_rate_at(step)
        loss = loss_at(step)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimiser.step()
        _update_average(average, module, min(schedule.average, (1 + step) / (10 + step)))
        smooth = loss.item() if math.isnan(smooth) else 0.97 * smooth + 0.03 * loss.item()
        _report(progress, checkpoint.stem, step, smooth)
        if time.monotonic() - saved > _SECONDS_BETWEEN_CHECKPOINTS or step + 1 == schedule.steps:
            _save(checkpoint, module, average, optimiser, step + 1)
            saved = time.monotonic()
    module.load_state_dict(average.state_dict())


def _update_average(average: nn.Module, module: nn.Module, decay: float) -> None:
    with torch.no_grad():
        torch._foreach_lerp_(list(average.parameters()), list(module.parameters()), 1 - decay)  # pyright: ignore[reportPrivateUsage]


def _report(progress: tqdm[Any], name: str, step: int, loss: float) -> None:
    progress.set_postfix(loss=f"{loss:.4f}", refresh=False)
    if progress.disable and (step + 1) % _STEPS_BETWEEN_LOG_LINES == 0:
        print(
            f"{time.strftime('%H:%M:%S')} {name} step {step + 1} loss {loss:.4f}", file=sys.stderr, flush=True
        )


def _save(
    path: Path, module: nn.Module, average: nn.Module, optimiser: torch.optim.Optimizer, step: int
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    state = {
        "module": module.state_dict(),
        "average": average.state_dict(),
        "optimiser": optimiser.state_dict(),
        "step": step,
    }
    torch.save(state, partial)
    partial.replace(path)


def _resume(path: Path, module: nn.Module, average: nn.Module, optimiser: torch.optim.Optimizer) -> int:
    if not path.exists():
        return 0
    state = torch.load(path, map_location="cpu", weights_only=True)
    module.load_state_dict(state["module"])
    average.load_state_dict(state["average"])
    optimiser.load_state_dict(state["optimiser"])
    return int(state["step"])
