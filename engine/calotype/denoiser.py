"""The loop: a schedule's rows, one after the other, through the `unet_step` programs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calotype.backends import Program, Row, Value
from calotype.errors import BackendError, RequestError
from calotype.features import guidance_features, time_features
from calotype.manifest import Manifest, batches_for
from calotype.reading import finite
from calotype.schedule import Schedule
from calotype.text import Embeddings, Encoded

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Conditions:
    """What stays the same from the first row to the last, a row a picture.

    `guidance_scale` mixes the two predictions (Ho and Salimans 2022), `guidance_rescale` follows Lin et al.
    2023, section 3.4. `extras` are further inputs of the step by name (`mask`, `masked_latents`, `depth`,
    `keep`, `original`, `original_noise`), each (n, ...); what is left out is zeros.
    """

    embeddings: Embeddings | Encoded
    guidance_scale: float = 7.5
    guidance_rescale: float = 0.0
    extras: Mapping[str, Array] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Job:
    """Latents (n, C, H, W) to take through a schedule; `draws` holds the noise of the rows that take some."""

    schedule: Schedule
    latents: Array
    conditions: Conditions
    draws: Mapping[int, Array]


@dataclass(frozen=True, slots=True)
class Hooks:
    """`before(row)` may raise to stop; `after(row, latents, first)` may return other latents. None: nobody looks.

    A chunk of pictures goes through all rows before the next one does: `latents` (b, C, H, W) are those of the
    request's pictures from number `first` on. Where nobody looks, all rows of a chunk are handed over at once.
    """

    before: Callable[[int], None] | None = None
    after: Callable[[int, Array, int], Array | None] | None = None


class Denoiser:
    """The step programs of a bundle, one a batch size, with their state carried in the backend."""

    def __init__(self, manifest: Manifest, programs: Mapping[int, Program]) -> None:
        self._manifest = manifest
        self._programs = programs
        self._running = False
        for program in programs.values():
            program.carry("next_state", "state")

    def run(self, job: Job, hooks: Hooks) -> list[Row]:
        """Final latents (C, H, W) of each picture, where the programs run; see `read`. RequestError from `hooks`."""
        self._refuse_within_a_run()
        self._running = True
        try:
            return self._run(job, hooks)
        finally:
            self._running = False

    def _run(self, job: Job, hooks: Hooks) -> list[Row]:
        done: list[Row] = []
        for pictures, batch in self._chunks(len(job.latents)):
            program, count = self._programs[batch], len(job.latents[pictures])
            self._prepare(program, self.state(job.latents[pictures]), job.conditions, pictures)
            noise = {row: drawn[pictures] for row, drawn in job.draws.items()}
            rows = [self._row(program, job.schedule, row, noise.get(row)) for row in range(len(job.schedule))]
            if hooks.before is None and hooks.after is None:
                program.sweep(rows)
            else:
                _step_by_step(program, rows, hooks, pictures.start, count)
            done.extend(program.keep("state", index, 0) for index in range(count))
        return done

    def state(self, latents: Array) -> Array:
        """The state (n, S, C, H, W) that a schedule begins with: `latents` in slot 0, the other slots empty.

        RequestError for latents of another shape than the bundle's.
        """
        _check_shape("latents", latents, self._manifest.latent_shape)
        state = np.zeros((len(latents), self._manifest.state_slots, *latents.shape[1:]), np.float32)
        state[:, 0] = latents
        return state

    def step(
        self, schedule: Schedule, row: int, state: Array, conditions: Conditions, noise: Array | None
    ) -> Array:
        """One row of the schedule on a host copy of the state (n, S, C, H, W): the state after it.

        RequestError from within a run's hooks, whose state is in the programs, and for a row or a shape that is not
        the schedule's or the bundle's.
        """
        self._refuse_within_a_run()
        if not 0 <= row < len(schedule):
            raise RequestError(f"`row`: this schedule has rows 0 to {len(schedule) - 1}, found {row}")
        if schedule.draws[row] and noise is None:
            raise RequestError(
                f"row {row} of this {schedule.name} takes noise, found none", "draw some and pass it"
            )
        _check_shape("state", state, (self._manifest.state_slots, *self._manifest.latent_shape))
        if noise is not None:
            _check_shape("noise", noise, self._manifest.latent_shape, len(state))
        shapes = {each.name: each.shape[1:] for each in next(iter(self._programs.values())).spec.inputs}
        for name, value in conditions.extras.items():
            _check_shape(name, value, shapes.get(name, np.shape(value)[1:]), len(state))
        done: list[Array] = []
        for pictures, batch in self._chunks(len(state)):
            program = self._programs[batch]
            self._prepare(program, state[pictures], conditions, pictures)
            program.run(self._row(program, schedule, row, None if noise is None else noise[pictures]))
            done.extend(program.get("state", index) for index in range(len(state[pictures])))
        return np.stack(done)

    def _refuse_within_a_run(self) -> None:
        if self._running:
            raise RequestError(
                "the pipeline was asked to denoise by a callback of a request that it is denoising",
                "call it or its `step` when the request is done, or load a second pipeline; "
                "`decode_latents` may be called at any time",
            )

    def _chunks(self, count: int) -> Iterator[tuple[slice, int]]:
        """Pictures and a batch size, until all are covered."""
        start = 0
        for batch in batches_for(count, [*self._programs]):
            yield slice(start, start + batch), batch
            start += batch

    def _prepare(self, program: Program, state: Array, conditions: Conditions, pictures: slice) -> None:
        """Bind everything but the numbers of a row. Rows past the pictures are padding and hold zeros."""
        rows = {name: value[pictures] for name, value in conditions.extras.items()} | {"state": state}
        if self._manifest.guided:
            rows["guidance"] = np.full(len(state), conditions.guidance_scale)
            rows["guidance_rescale"] = np.full(len(state), conditions.guidance_rescale)
        if self._manifest.timestep_cond:
            row = guidance_features(conditions.guidance_scale, self._manifest.timestep_cond)
            rows["timestep_cond"] = np.repeat(row[None], len(state), axis=0)
        names = [spec.name for spec in program.spec.inputs]
        unknown = [name for name in rows if name not in names]
        if unknown:
            raise RequestError(
                f"unet_step of this bundle takes no `{unknown[0]}`; it takes {', '.join(names)}"
            )
        constants: dict[str, Value] = {
            spec.name: _padded(rows.get(spec.name), (program.spec.batch, *spec.shape[1:]))
            for spec in program.spec.inputs
            if spec.name != "embeddings"
        }
        constants["embeddings"] = self._embeddings(program, conditions, pictures, len(state))
        program.bind(constants)

    def _embeddings(self, program: Program, conditions: Conditions, pictures: slice, count: int) -> list[Row]:
        """Rows (T, D) of the pictures, those of the negative prompts (if the step is guided) first. Padding repeats."""
        given = conditions.embeddings
        sides = [given.prompt]
        if self._manifest.guided:
            sides = [given.prompt if given.negative is None else given.negative, given.prompt]
        rows: list[Row] = []
        for side in sides:
            chunk = [*side][pictures][:count]
            if len(chunk) != count:
                wanted = pictures.start + count
                raise RequestError(
                    f"`embeddings`: expected a row a picture, {wanted} or more, found {len(side)}"
                )
            rows += chunk + chunk[-1:] * (program.spec.batch - count)
        return [row if row.dtype == np.float32 else np.asarray(row, np.float32) for row in rows]

    def _row(self, program: Program, schedule: Schedule, row: int, noise: Array | None) -> dict[str, Array]:
        """The inputs that change with every row: a few numbers, and noise where some is drawn."""
        features = time_features(float(schedule.timesteps[row]), self._manifest.time_embedding)
        rows = {"read": schedule.read[row], "write": schedule.write[row], "time_features": features}
        if not self._manifest.conditioning:
            rows["blend"] = schedule.blend[row]
        batch = program.spec.batch
        inputs = {
            name: np.repeat(value[None].astype(np.float32), batch, axis=0) for name, value in rows.items()
        }
        if noise is not None:
            inputs["noise"] = _padded(noise, program.spec.input("noise").shape)
        return inputs


def _step_by_step(
    program: Program, rows: list[dict[str, Array]], hooks: Hooks, first: int, count: int
) -> None:
    for row, inputs in enumerate(rows):
        if hooks.before is not None:
            hooks.before(row)
        program.run(inputs)
        if hooks.after is not None:
            _replace_latents(program, hooks.after(row, _latents(program, count), first))


def _check_shape(name: str, array: Array, shape: tuple[int, ...], count: int | None = None) -> None:
    """RequestError unless `array` has `shape` behind a first axis, which is `count` long or at least one."""
    found = np.shape(array)
    if found[1:] != shape or len(found) != len(shape) + 1 or not found[0] or count not in (None, found[0]):
        sides = ", ".join(str(side) for side in (count or "n", *shape))
        raise RequestError(f"`{name}`: expected shape ({sides}), found {found}")


def _padded(rows: Array | None, shape: tuple[int, ...]) -> Array:
    """`rows` as contiguous float32, with zero rows behind them to fill `shape`."""
    padded = np.zeros(shape, np.float32)
    if rows is not None:
        padded[: len(rows)] = rows
    return padded


def read(latents: Sequence[Row], embeddings: Encoded) -> Array:
    """Final latents (n, C, H, W) on the host. BackendError when they are not finite, or else the `embeddings`."""
    try:
        return finite(latents, "unet_step: the latents hold")
    except BackendError:
        embeddings.read()  # which may be to blame
        raise


def _latents(program: Program, count: int) -> Array:
    return np.stack([program.get("state", index)[0] for index in range(count)])


def _replace_latents(program: Program, latents: Array | None) -> None:
    for index, replaced in enumerate(() if latents is None else latents):
        state = program.get("state", index)
        state[0] = replaced
        program.put("state", index, state)
