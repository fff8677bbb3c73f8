"""Progress for people: bars on a terminal, plain lines in a pipe, both on stderr."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TextIO

from calotype_export.progress import Progress

_EVERY = 10.0  # seconds between two lines about one stage


def reporter(stream: TextIO) -> Progress:
    """Bars where `stream` is a terminal, else a line when a stage begins, ends, and every ten seconds between."""
    return _Bars(stream) if stream.isatty() else _Lines(stream, time.monotonic)


def silence_libraries() -> None:
    """Keep what torch and transformers say of packages that nobody needs here off the terminal."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)


def silence_diffusers() -> None:
    """The same for diffusers, which not every command needs."""
    logging.getLogger("diffusers").setLevel(logging.ERROR)
    import diffusers.utils.logging

    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()


class _Lines:
    def __init__(self, stream: TextIO, clock: Callable[[], float]) -> None:
        self._stream = stream
        self._clock = clock
        self._stage = ""
        self._said = 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:
        now = self._clock()
        if stage != self._stage or done >= total or now - self._said >= _EVERY:
            self._stage, self._said = stage, now
            self._stream.write(f"{stage}: {done}/{total}\n")
            self._stream.flush()


class _Bars:
    def __init__(self, stream: TextIO) -> None:
        from tqdm import tqdm

        self._new = lambda stage, total: tqdm(desc=stage, total=total, file=stream, leave=True)
        self._stage = ""
        self._bar = None

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage != self._stage or self._bar is None:
            self._close()
            self._stage, self._bar = stage, self._new(stage, total)
        self._bar.total = total
        self._bar.update(done - self._bar.n)
        if done >= total:
            self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
