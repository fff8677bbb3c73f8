"""The parent's side of a worker: start it, let it draw, and tell why it could not."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any

from calotype_bench.environments import PeerError, reason, variables
from calotype_bench.jobs import Drawn, Engine, Job, Ready

TIMEOUT = 3600.0  # seconds that an engine may take to load, or to draw one job, unless another limit is given
_PATIENCE = 30.0  # seconds until a process that was told to end is killed


class Worker:
    """A running process with one engine. It does nothing while nobody asks it to draw.

    It is killed where an answer takes longer than `timeout` seconds.
    """

    def __init__(self, engine: Engine, python: str = sys.executable, timeout: float = TIMEOUT) -> None:
        """PeerError where it cannot be loaded."""
        self.engine = engine
        self._timeout = timeout
        self._said = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115  (closed with the worker)
        self._process = subprocess.Popen(
            [python, "-m", "calotype_bench.worker"], env=variables(python),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, text=True,
        )  # fmt: skip
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        try:
            answer = self._ask({"engine": dataclasses.asdict(engine), "started": time.time()})
        except BaseException:  # also where the user interrupts
            self.close()
            raise
        self.ready = Ready(**answer)

    def draw(self, job: Job, save: str = "") -> Drawn:
        """Let it draw one job. PeerError."""
        return Drawn(**self._ask({"job": dataclasses.asdict(job), "save": save}))

    @property
    def ended(self) -> bool:
        """Whether the process is gone, by itself or killed."""
        return self._process.poll() is not None

    def close(self) -> None:
        """Let the process end."""
        with contextlib.suppress(BrokenPipeError):
            self._stdin.close()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._stdout.close()
        self._said.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        with contextlib.suppress(BrokenPipeError):  # the answer below tells why
            self._stdin.write(json.dumps(message) + "\n")
            self._stdin.flush()
        begun = time.monotonic()
        line = self._line()
        in_time = time.monotonic() - begun < self._timeout
        answer = json.loads(line) if line.endswith("\n") else {"failure": self._last_words(in_time)}
        if "failure" in answer:
            raise PeerError(f"{self.engine.label}: {answer['failure']}")
        return answer

    def _line(self) -> str:
        """What it says next; the process is killed where that takes too long, and what it said may be cut short."""
        late = threading.Timer(self._timeout, self._process.kill)
        late.start()
        try:
            return self._stdout.readline()
        finally:  # also where the user interrupts
            late.cancel()

    def _last_words(self, in_time: bool) -> str:
        status = self._process.wait()
        if not in_time:
            return f"no answer within {self._timeout:g} s (--timeout), and it was ended"
        self._said.seek(0)
        return reason(self._said.read(), status)
