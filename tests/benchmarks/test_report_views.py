"""What a page and the terminal are given to show, figure by figure."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from PIL import Image

from calotype_bench import report_html, report_text
from calotype_bench.pictures import decode, encode
from calotype_bench.rates import Rates
from calotype_bench.results import Pair
from tests.benchmarks import made


def test_a_bar_has_its_interval_and_its_floor_on_the_scale_of_the_longest() -> None:
    found = report_html._latency(made.latency())
    ours = found["measurements"][0]["bars"][
        0
    ]  # 0.9 to 1.1 s where the longest goes to 2.2 s; its floor is 0.4 s
    shown = [ours[name] for name in ("from", "width", "to", "floor_at")]
    assert shown == pytest.approx([100 * seconds / 2.2 for seconds in (0.9, 1.0, 1.1, 0.4)])
    assert found["rates"] == {"fp32": (1.0, 2.0)}  # products, and convolutions


def test_stages_share_what_was_told_and_not_all_of_a_picture() -> None:
    row = made.latency().measurements[0].rows[0]
    told = [
        dataclasses.replace(each, parts={"unet_step": 0.6 * each.seconds, "vae_decoder": 0.2 * each.seconds})
        for each in row.samples
    ]
    stages = report_html._stages(dataclasses.replace(row, samples=tuple(told)), {"unet_step": 0.3})
    assert {stage["name"]: stage["share"] for stage in stages} == {
        "unet_step": pytest.approx(75), "vae_decoder": pytest.approx(25),
    }  # fmt: skip
    assert [stage["floor"] for stage in stages] == ["50%", "-"]


def test_curves_are_at_the_smallest_of_what_they_do_not_go_along() -> None:
    found = report_html._latency(made.latency())["curves"]
    assert [(curve["along"], curve["fixed"], curve["at"]) for curve in found] == [
        ("steps", "batch", 1), ("batch", "steps", 10),
    ]  # fmt: skip


def test_a_picture_stands_beside_the_reference_of_its_own_request() -> None:
    one, two = (encode(Image.new("RGB", (16, 16), (value,) * 3)) for value in (0, 200))
    pairs = tuple(
        Pair(request, "a prompt", 1, "calotype openvino fp32", made.NEAR, found)
        for request, found in ((1, two), (0, two))
    )
    found = report_html._comparison(dataclasses.replace(made.comparison(), expected=(one, two), pairs=pairs))
    assert [view["expected"] for view in found["pairs"]] == [two, one]
    assert [np.asarray(decode(view["map"])).max() for view in found["pairs"]] == [0, 255]


def test_the_terminal_tells_each_figure_in_its_column() -> None:
    first = made.latency().measurements[0]
    head, ours = report_text.table(first).splitlines()[1:3]
    figures = ours.removeprefix("calotype openvino fp32").split()
    columns = dict(zip(head.replace(" s", "").split()[1:], figures, strict=False))
    assert (columns["runs"], columns["min"], columns["median"]) == ("5", "0.900", "1.000")
    start = report_text.starts(first.rows).splitlines()[1]
    assert (
        "0.50, 1.00, 2.00 (20); 256 MiB, 0 MiB; 0.001%" in start
    )  # import, load, first picture; of the last sample
    floors = {"fp32": {"unet_step": 0.35, "total": 0.4}}
    floor = report_text.least(first.rows, floors, {"fp32": Rates(1e12, 2e12)}).splitlines()
    assert "products at 1.00 TFLOP/s, convolutions at 2.00" in floor[0]
    assert floor[3].split()[-2:] == ["50%", "40%"]  # of the medians, 0.7 and 1.0 s
