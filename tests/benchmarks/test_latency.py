"""Engines in processes of their own, drawing in turn."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

pytest.importorskip("torch")

from calotype_bench import latency, report_text
from calotype_bench.conversation import PeerError, Worker
from calotype_bench.jobs import Drawn, Engine, Job
from calotype_bench.measurement import Measurement, compare
from calotype_bench.order import Order, Reports
from tests.bundles import bundle, checkpoint

JOB = Job("a red circle", 2, 0, width=128, height=128)
CALOTYPE = Engine("calotype", str(bundle("plain")), "onnxruntime", threads=1)
EAGER = Engine("eager", str(checkpoint("plain")), threads=1)


def measured(
    engines: Sequence[Engine], jobs: Sequence[Job], order: Order, reports: Reports | None = None
) -> tuple[Measurement, ...]:
    """What is known after the last opening."""
    *_, last = latency.measure(engines, jobs, order, reports or Reports())
    return last


def test_engines_draw_in_turn_and_the_same_picture() -> None:
    seen: list[tuple[int, int, str]] = []
    more = dataclasses.replace(JOB, steps=3, batch=2)
    found = measured(
        [CALOTYPE, EAGER], [JOB, more], Order(3), Reports(lambda *progress: seen.append(progress))
    )

    assert [told[:2] for told in seen] == [(done, 20) for done in (*range(1, 20), 19, 20)]
    assert seen[0][2].startswith("calotype onnxruntime fp32 0.")
    for measurement, evaluations in zip(found, (2, 3), strict=True):
        calotype, eager = measurement.rows
        assert measurement.reference == "eager fp32"
        for row in measurement.rows:
            assert len(row.samples) == 3
            assert row.ready is not None
            assert row.first is not None
            assert row.ready.import_seconds > 0
            for sample in row.samples:
                assert sample.evaluations == evaluations
                assert sample.resident_bytes > 2**20
                assert sum(sample.parts.values()) == pytest.approx(sample.seconds, rel=0.2)
                assert sample.parts["unet_step"] > 0
                assert sample.device_parts == {}
                assert 0 < sample.measuring_seconds < 0.01 * sample.seconds
        assert eager.fidelity is not None
        assert calotype.fidelity is not None
        assert eager.fidelity.latents == 0
        assert eager.fidelity.psnr is None
        assert calotype.fidelity.latents is not None
        assert 0 < calotype.fidelity.latents < 1e-4
        assert calotype.fidelity.ssim > 0.9999
        assert compare(measurement.rows)[1].value > 0


def test_an_engine_that_cannot_be_loaded_is_a_row_that_says_why() -> None:
    missing = Engine("calotype", str(bundle("plain")), "tensorrt", device="cuda")
    (found,) = measured([CALOTYPE, missing], [JOB], Order(1))

    assert found.reference == "calotype onnxruntime fp32"
    assert len(found.rows[0].samples) == 1
    assert not found.rows[1].samples
    assert "tensorrt: its library is not installed" in found.rows[1].failure
    assert compare(found.rows) == {}


def test_nothing_is_compared_where_the_reference_that_was_asked_for_fails() -> None:
    missing = Engine("eager", "no-such-checkpoint", threads=1)
    other = dataclasses.replace(CALOTYPE, backend="openvino")
    *_, (found,) = latency.measure([CALOTYPE, other], [JOB], Order(1), references=[missing])

    assert found.reference == ""
    assert [row.fidelity for row in found.rows] == [None] * 3
    assert compare(found.rows) == {}
    text = report_text.table(found)
    assert "latents and pictures beside nothing" in text
    assert "eager fp32".ljust(32) + "could not be measured: eager fp32: " in text


@pytest.fixture
def most(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many workers were open with each that was opened; none is in the end."""
    open_now: list[Worker] = []
    most: list[int] = []
    start, close = Worker.__init__, Worker.close

    def opened(self: Worker, *arguments: Any) -> None:
        start(self, *arguments)
        open_now.append(self)
        most.append(len(open_now))

    def closed(self: Worker) -> None:
        close(self)
        open_now.remove(self)

    monkeypatch.setattr(Worker, "__init__", opened)
    monkeypatch.setattr(Worker, "close", closed)
    yield most
    assert open_now == []


def test_one_engine_at_a_time_is_in_memory(most: list[int]) -> None:
    (found,) = measured([CALOTYPE, EAGER], [JOB], Order(2, alone=True))

    assert most == [1] * 4
    for row in found.rows:
        assert row.openings == [0, 1]
        assert [sample.evaluations for sample in row.samples] == [2, 2]
        assert row.first is not None
        assert row.first.evaluations == 1
        assert row.fidelity is not None
        assert row.fidelity.latents is not None
        assert row.fidelity.latents < 1e-4


def test_runs_are_shared_among_openings_of_every_engine(most: list[int]) -> None:
    found = measured([CALOTYPE, EAGER], [JOB, JOB], Order(3, 2))

    assert most == [1, 2, 1, 2]
    for measurement, starts in zip(found, (2, 0), strict=True):
        for row in measurement.rows:
            assert row.openings == [0, 0, 1]
            assert row.fidelity is not None
            assert len(row.starts) == starts  # a process starts once, with the first job


def test_what_is_only_compared_with_is_gone_before_others_are_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    draw, close = Worker.draw, Worker.close

    def drawing(self: Worker, job: Job, save: str = "") -> Drawn:
        done.append(f"{self.engine.name} draws")
        return draw(self, job, save)

    def closing(self: Worker) -> None:
        done.append(f"{self.engine.name} ends")
        close(self)

    monkeypatch.setattr(Worker, "draw", drawing)
    monkeypatch.setattr(Worker, "close", closing)
    *_, found = latency.measure([CALOTYPE], [JOB, JOB], Order(2, 2), references=[EAGER])

    opening = [*["calotype draws"] * 6, "calotype ends"]
    assert done == ["eager draws", "eager draws", "eager ends", *opening, *opening]
    assert [measurement.reference for measurement in found] == ["eager fp32"] * 2


def test_what_is_known_is_told_after_each_opening() -> None:
    told = [
        [[len(row.samples) for row in each.rows] for each in found]
        for found in latency.measure([CALOTYPE, EAGER], [JOB, JOB], Order(3, 2))
    ]
    assert told == [[[2, 2], [2, 2]], [[3, 3], [3, 3]]]


def test_an_engine_that_fails_at_one_job_is_measured_at_the_others() -> None:
    impossible = dataclasses.replace(JOB, scheduler="pndm", steps=0)
    found = measured([CALOTYPE, EAGER], [impossible, JOB], Order(2, 2))
    assert [(len(row.samples), bool(row.failure)) for row in found[0].rows] == [(0, True)] * 2
    assert [(len(row.samples), row.failure) for row in found[1].rows] == [(2, "")] * 2
    assert 1 in compare(found[1].rows)


@pytest.mark.parametrize(
    ("order", "rounds"),
    [
        (Order(10), [10]),
        (Order(12, 6), [2] * 6),
        (Order(10, 6), [2, 2, 2, 2, 1, 1]),
        (Order(2, 6), [1, 1]),
        (Order(3, alone=True), [1, 1, 1]),
    ],
)
def test_openings_are_as_even_as_can_be(order: Order, rounds: list[int]) -> None:
    assert order.rounds() == rounds


def test_an_engine_that_fails_between_openings_keeps_its_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Engine] = []
    start = Worker.__init__

    def once(self: Worker, engine: Engine, python: str, timeout: float) -> None:
        if engine in opened:
            raise PeerError("it is gone")
        opened.append(engine)
        start(self, engine, python, timeout)

    monkeypatch.setattr(Worker, "__init__", once)
    (found,) = measured([CALOTYPE, EAGER], [JOB], Order(2, 2))
    assert [(len(row.samples), row.failure) for row in found.rows] == [(1, "it is gone")] * 2


def test_pictures_of_another_size_are_a_failure_and_no_crash() -> None:
    smaller = Engine("eager", str(checkpoint("plain")), threads=1)
    (found,) = measured([CALOTYPE, smaller], [dataclasses.replace(JOB, width=64)], Order(1))
    assert found.rows[0].failure == "pictures: expected (1, 128, 64, 3), found (1, 128, 128, 3)"
    text = report_text.table(found)
    assert "could not be measured: pictures: expected" in text
    assert "not compared" in text.splitlines()[3]
    assert "no base to compare with" in text.splitlines()[4]


def test_what_warms_up_is_told() -> None:
    assert "two pictures of one step" in Order(2, alone=True).warm_up("cpu")
    assert Order(2).warm_up("cpu") == "two pictures of each job in every process"
    assert Order(2, alone=True).warm_up("cuda") == Order(2).warm_up("cuda")
