"""The page about results, looked at in a headless browser."""

from __future__ import annotations

import shutil
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

from calotype_bench import results
from calotype_bench.cli import main
from tests.benchmarks import made

ROOT = Path(__file__).parent.parent.parent
BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
PHONE, DESKTOP = (390, 844), (1280, 900)


@pytest.fixture
def made_page(tmp_path: Path) -> Path:
    results.write(made.latency(), tmp_path / "latency.json")
    results.write(made.comparison(), tmp_path / "comparison.json")
    results.write(made.techniques(), tmp_path / "techniques.json")
    return written(tmp_path, tmp_path.glob("*.json"))


@pytest.fixture
def own_page(tmp_path: Path) -> Path:
    """Of what the project itself has measured."""
    return written(tmp_path, (ROOT / "benchmarks" / "results").glob("*.json"))


def written(folder: Path, files: Iterable[Path]) -> Path:
    output = folder / "report.html"
    assert main(["report", *map(str, sorted(files)), "-o", str(output)]) == 0
    return output


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Generator[Any]:
    if BROWSER is None or DRIVER is None:
        pytest.skip("there is no chromium with chromedriver here (Debian: chromium, chromium-driver)")
    options: Any = Options()
    options.binary_location = BROWSER
    for argument in (
        "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path_factory.mktemp('browser')}",
    ):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver: Any = webdriver.Chrome(options, Service(DRIVER))
    yield driver
    driver.quit()


def show(browser: Any, page: Path, size: tuple[int, int]) -> None:
    browser.set_window_size(*size)
    browser.get(page.as_uri())


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_a_browser_shows_every_figure_within_the_window(
    browser: Any, made_page: Path, size: tuple[int, int]
) -> None:
    show(browser, made_page, size)

    assert browser.get_log("browser") == []
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    figures = browser.execute_script(
        "return [...document.querySelectorAll('figure')].map(f => {"
        " const box = f.getBoundingClientRect();"
        " return [f.className, box.left, box.right, box.height, f.querySelector('figcaption code').innerText] })"
    )
    kinds = {"latency", "beside", "stages-of", "waterfall", "curve", "operators", "fidelity", "pair"}
    assert {kind for kind, *_ in figures} == kinds
    width = browser.execute_script("return window.innerWidth")
    assert width == size[0]
    for _, left, right, height, command in figures:
        assert left >= 0
        assert right <= width
        assert height > 20
        assert command.startswith("calotype-bench ")
    pictures = browser.execute_script(
        "return [...document.images].map(i => [i.naturalWidth, i.getBoundingClientRect().width])"
    )
    assert len(pictures) == 3
    assert all(natural == 16 and shown > 50 for natural, shown in pictures)


def test_bars_are_as_long_as_what_they_stand_for(browser: Any, made_page: Path) -> None:
    show(browser, made_page, DESKTOP)
    widths = browser.execute_script(
        "return [...document.querySelector('.latency').querySelectorAll('.bar')]"
        ".map(b => b.getBoundingClientRect().width)"
    )
    medians = [row.summary().median for row in made.latency().measurements[0].rows if row.samples]
    assert [width / widths[0] for width in widths] == pytest.approx(
        [each / medians[0] for each in medians], rel=0.02
    )


def test_what_was_lost_looks_other_than_what_was_gained(browser: Any, made_page: Path) -> None:
    show(browser, made_page, DESKTOP)
    bars = browser.execute_script(
        "return [...[...document.querySelectorAll('.waterfall')].pop().querySelectorAll('.bar')].map(b =>"
        " [b.getBoundingClientRect().left, b.getBoundingClientRect().width, getComputedStyle(b).backgroundColor])"
    )
    (gained, width, green), (lost, less, red) = bars
    assert gained == pytest.approx(lost)  # both end where the program was fastest
    assert less == pytest.approx(width / 10, rel=0.02)
    assert green != red


def test_a_phone_shows_tables_of_pictures_without_scrolling(browser: Any, own_page: Path) -> None:
    show(browser, own_page, PHONE)
    widths = browser.execute_script(
        "return [...document.querySelectorAll('.fidelity .scroll')].map(e => [e.scrollWidth, e.clientWidth])"
    )
    assert widths
    assert all(whole <= shown for whole, shown in widths)
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")


def test_no_legend_covers_a_curve(browser: Any, own_page: Path) -> None:
    show(browser, own_page, DESKTOP)
    boxes = browser.execute_script(
        "return [...document.querySelectorAll('.curve svg')].map(s => ['#axes_1', '#legend_1']"
        ".map(name => s.querySelector(name).getBoundingClientRect()).map(box => [box.top, box.bottom]))"
    )
    assert boxes
    assert all(legend[0] >= axes[1] for axes, legend in boxes)


def test_a_part_or_kind_has_one_colour_in_every_bar(browser: Any, own_page: Path) -> None:
    browser.get(own_page.as_uri())
    bars = browser.execute_script(
        "return [...document.querySelectorAll('.stages')].map(bar => [...bar.children]"
        ".map(span => [span.title, getComputedStyle(span).backgroundColor]))"
    )
    assert bars
    for bar in bars:
        assert len({colour for _, colour in bar}) == len(bar)
    everywhere = {(title, colour) for bar in bars for title, colour in bar}
    assert len(everywhere) == len({title for title, _ in everywhere})
