"""A schedule for people: its table as text, its noise levels as a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from calotype.errors import BackendError, RequestError
from calotype.files import placed
from calotype.schedule import Schedule

FORMATS = ("png", "svg", "pdf")


def table(schedule: Schedule) -> str:
    """The schedule as lines of text: timestep, sigma, and the weights that a row reads and writes latents with."""
    lines = [
        f"{schedule.name}: {len(schedule)} UNet evaluations, starting from noise times {schedule.init_noise_sigma:.6g}",
        "row  step   timestep        sigma  read | write latents: slots, prediction, noise",
    ]
    for row, (timestep, sigma) in enumerate(zip(schedule.timesteps, schedule.sigmas, strict=True)):
        read = " ".join(f"{weight:.5g}" for weight in schedule.read[row])
        write = " ".join(f"{weight:.5g}" for weight in schedule.write[row, 0])
        lines.append(f"{row:3d} {schedule.steps[row]:5d} {timestep:10.3f} {sigma:12.5f}  {read} | {write}")
    return "\n".join(lines)


def plot_schedule(schedule: Schedule, path: Path) -> None:
    """Draw the noise level of each row into the picture `path`.

    RequestError for an ending that is none of `FORMATS`, BackendError without matplotlib, OutputError where the
    picture cannot be written.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise RequestError(
            f"{path}: a plot is written as {', '.join(FORMATS)}, found the ending {path.suffix!r}", "use .png"
        )
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise BackendError("a plot needs matplotlib", "pip install 'calotype[plot]'") from error
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(np.arange(len(schedule)), schedule.sigmas, marker="o", markersize=3)
    axes.set_yscale("log")
    axes.set_xlabel("UNet evaluation")
    axes.set_ylabel("noise level sigma")
    axes.set_title(f"{schedule.name}, {len(schedule)} evaluations")
    with placed(path, "the plot") as partial:
        figure.savefig(partial, format=kind, dpi=150)
