"""What a command's options make of its rows, their turns and the reference."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from calotype.bundle import Bundle
from calotype.errors import RequestError
from calotype_bench import commands, comparing, rows
from calotype_bench.cli import _parser, main
from calotype_bench.fidelity import Fidelity
from calotype_bench.jobs import Engine
from calotype_bench.measurement import Row
from calotype_bench.order import Order
from tests.bundles import bundle, checkpoint


def test_options_of_the_order_reach_it() -> None:
    words = ("latency", "bundle", "--runs", "4", "--openings", "2", "--timeout", "9")
    assert commands._order(_parser().parse_args(words)) == Order(4, 2, False, 9.0)
    alone = _parser().parse_args((*words, "--one-at-a-time"))
    assert commands._order(alone) == Order(4, 2, True, 9.0)


@pytest.mark.parametrize(("against", "drawn"), [("eager-bf16", 1), ("compile", 1), ("eager", 0)])
def test_eager_diffusers_in_float32_draws_a_reference_where_it_is_no_row(against: str, drawn: int) -> None:
    words = ("latency", str(bundle("plain")), "--backend", "onnxruntime", "--against", against)
    options = _parser().parse_args((*words, "--checkpoint", str(checkpoint("plain"))))
    engines = rows.engines(options, [Bundle.open(bundle("plain"))])
    found = rows.exact(options, engines)
    assert [(each.name, each.dtype, each.timed) for each in found] == [("eager", "fp32", False)] * drawn


def test_the_weights_of_every_bundle_are_checked(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"weights")
    digests = {
        b"weights": hashlib.sha256(b"weights").hexdigest(),
        b"other": hashlib.sha256(b"other").hexdigest(),
    }
    opened = Bundle.open(bundle("plain"))

    def made_of(content: bytes) -> Bundle:
        source = {"sha256": {"weights": digests[content]}}
        return dataclasses.replace(opened, manifest=dataclasses.replace(opened.manifest, source=source))

    rows.check_same([made_of(b"weights")] * 2, tmp_path)
    with pytest.raises(RequestError, match=f"expected sha256 {digests[b'other']}"):
        rows.check_same([made_of(b"weights"), made_of(b"other")], tmp_path)


def test_a_comparison_is_given_the_time_that_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[float] = []

    def compared(*arguments: object) -> Iterator[comparing.Outcome]:
        given.extend(each for each in arguments if isinstance(each, float))
        return iter(())

    monkeypatch.setattr(comparing, "compare", compared)
    main(["compare", str(bundle("plain")), "--against", str(checkpoint("plain")), "--timeout", "9"])
    assert given == [9.0]


@pytest.mark.parametrize(("dtype", "faithful"), [("fp32", False), ("fp16", True), ("bf16", True)])
def test_a_row_is_judged_by_its_own_precision(dtype: str, faithful: bool) -> None:
    near = Fidelity(1e-2, 1.0, 50.0, 1.0, 3)
    assert Row(Engine("eager", "x", dtype=dtype), None, None, (), "", near).faithful is faithful
