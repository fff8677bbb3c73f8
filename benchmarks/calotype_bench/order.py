"""How often engines draw, in how many processes, and who is told of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from calotype_bench.conversation import TIMEOUT
from calotype_bench.environments import Say

WARM_UPS = 2  # pictures: the second run of a program in ONNX Runtime is slow too; on a GPU a graph is recorded with it


@dataclass(frozen=True, slots=True)
class Order:
    """How often every engine draws a job, and in how many processes.

    A process keeps to a speed that another of the same engine does not have: how its memory lies is drawn by lot.
    `runs` are shared among `openings` of every engine. `alone`: each is opened for every run anew, and warmed up with
    single steps (on a GPU as otherwise), so that one model is in memory. An engine that does not load, or draw a job,
    within `timeout` seconds is ended.
    """

    runs: int
    openings: int = 1
    alone: bool = False
    timeout: float = TIMEOUT

    def rounds(self) -> list[int]:
        """How many runs there are in each opening; the first ones have one more where they cannot be equal."""
        openings = self.runs if self.alone else min(self.openings, self.runs)
        return [self.runs // openings + (number < self.runs % openings) for number in range(openings)]

    def warm_up(self, device: str) -> str:
        """What every process draws that is not counted, in words."""
        if self.alone and device == "cpu":
            return "two pictures of one step before each run, in a process of its own"
        return "two pictures of each job in every process"


@dataclass(frozen=True, slots=True)
class Reports:
    """Who is told how many pictures of how many are drawn, the last of them, and what is done meanwhile."""

    progress: Callable[[int, int, str], None] = lambda *_: None
    say: Say = lambda _: None


SILENT = Reports()
