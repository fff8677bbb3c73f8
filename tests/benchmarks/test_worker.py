"""Workers that end, hang or fail, and what becomes of their rows."""

from __future__ import annotations

import dataclasses
import io
import json
import signal
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("torch")

from calotype_bench.conversation import PeerError, Worker
from calotype_bench.jobs import Drawn, Job
from calotype_bench.order import Order, Reports
from calotype_bench.worker import _reason, _serve
from tests.benchmarks.test_latency import CALOTYPE, JOB, measured


def test_a_worker_that_is_killed_says_by_what() -> None:
    with Worker(CALOTYPE) as worker:
        worker._process.kill()
        with pytest.raises(PeerError, match="it was ended by SIGKILL"):
            worker.draw(JOB)


def test_a_worker_ends_where_the_user_interrupts_while_it_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[Worker] = []

    def interrupted(self: Worker, _: object) -> Any:
        begun.append(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(Worker, "_ask", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Worker(CALOTYPE)
    assert begun[0].ended


def test_a_worker_that_fails_while_it_draws_tells_why() -> None:
    with Worker(CALOTYPE) as worker, pytest.raises(PeerError, match="num_inference_steps"):
        worker.draw(Job("x", 0, 0))


def test_a_reason_is_told_in_one_line_with_its_cause() -> None:
    assert _reason(RuntimeError("it failed:\n\n   since  this")) == "RuntimeError: it failed: since this"
    assert len(_reason(RuntimeError("x" * 1000))) == 400


def test_importing_and_loading_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    first = {"engine": dataclasses.asdict(CALOTYPE), "started": time.time() - 1}
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(first) + "\n"))
    drawer = SimpleNamespace(backend="onnxruntime", versions={})
    module = SimpleNamespace(library=lambda _: time.sleep(0.2), load=lambda _: drawer)
    monkeypatch.setattr("importlib.import_module", lambda _: module)
    answers = io.StringIO()
    _serve(answers)
    ready = json.loads(answers.getvalue())
    assert ready["import_seconds"] > 1.2  # since the process was started
    assert ready["load_seconds"] < 0.2


def test_a_worker_that_hangs_is_ended() -> None:
    with Worker(CALOTYPE) as worker:
        worker._timeout = 0.2
        worker._process.send_signal(signal.SIGSTOP)
        with pytest.raises(PeerError, match=r"calotype onnxruntime fp32: no answer within 0\.2 s"):
            worker.draw(JOB)


def test_an_engine_that_does_not_load_in_time_is_a_row_that_says_so() -> None:
    (found,) = measured([CALOTYPE], [JOB], Order(1, timeout=0.05))
    assert "no answer within 0.05 s" in found.rows[0].failure


def test_an_engine_that_was_ended_at_one_job_draws_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    draw, hung = Worker.draw, list[Job]()

    def hang(self: Worker, job: Job, save: str = "") -> Drawn:
        if job.steps == 2 and not hung:
            hung.append(job)
            self._timeout = 0.2
            self._process.send_signal(signal.SIGSTOP)
        return draw(self, job, save)

    monkeypatch.setattr(Worker, "draw", hang)
    first, second = measured([CALOTYPE], [JOB, dataclasses.replace(JOB, steps=3)], Order(2, 2))
    assert "no answer within 0.2 s" in first.rows[0].failure
    assert [row.samples for row in first.rows] == [()]
    assert (len(second.rows[0].samples), second.rows[0].failure) == (2, "")


def test_an_engine_that_fails_at_every_job_is_not_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    def fail(*_: Any) -> Drawn:
        raise PeerError("it cannot")

    monkeypatch.setattr(Worker, "draw", fail)
    (found,) = measured([CALOTYPE], [JOB], Order(2, 2), Reports(say=said.append))
    assert found.rows[0].failure == "it cannot"
    assert said == ["loading calotype onnxruntime fp32"]


def test_an_interrupted_wait_leaves_no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    with Worker(CALOTYPE) as worker:
        monkeypatch.setattr(worker, "_stdout", Interrupted())
        with pytest.raises(KeyboardInterrupt):
            worker.draw(JOB)
        monkeypatch.undo()
    timers = [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]
    assert all(timer.finished.is_set() for timer in timers)


class Interrupted:
    """A pipe that the user's Ctrl-C reaches."""

    def readline(self) -> str:
        raise KeyboardInterrupt
