"""The Python of the README and of docs/ is run as it stands, on a tiny bundle; links of all pages lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calotype.schedulers import catalogue
from tests.bundles import ROOT, bundle

PAGES = [
    path for folder in (".", "docs", "benchmarks", "demo") for path in sorted((ROOT / folder).glob("*.md"))
]


def blocks(page: str) -> list[str]:
    text = (ROOT / page).read_text("utf-8")
    return [
        block.replace("BUNDLE", str(bundle("plain")))
        for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    ]


def test_both_examples_run_and_draw_the_same_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    called: dict[str, Any] = {}
    by_hand: dict[str, Any] = {}
    for block, names in zip(blocks("README.md"), (called, by_hand), strict=True):
        exec(block, names)

    drawn = np.asarray(called["result"].images[0])
    np.testing.assert_array_equal(drawn, np.round(by_hand["picture"][0] * 255).astype(np.uint8))
    assert (tmp_path / "flooble.png").is_file()


def test_ways_to_draw_change_what_they_are_given_and_the_server_draws_what_a_call_does() -> None:
    ways: dict[str, Any] = {}
    server: dict[str, Any] = {}
    for block, names in zip(blocks("docs/drawing.md"), (ways, server), strict=True):
        exec(block, names)

    first, kept = np.asarray(ways["first"]), np.asarray(ways["mask"]) == 0
    assert not np.array_equal(first, np.asarray(ways["winter"]))
    assert kept.any() and not np.array_equal(first, np.asarray(ways["painted"]))
    assert server["status"] == 200
    np.testing.assert_array_equal(first, np.asarray(server["picture"]))
    assert not server["worker"].is_alive()


def test_the_schedulers_that_docs_name_are_all_there_are() -> None:
    (told,) = re.findall(
        r"^Schedulers are (.*?) or diffusers'", (ROOT / "docs/drawing.md").read_text("utf-8"), re.S | re.M
    )
    plain = [name for name in catalogue.names() if not name.endswith(("_karras", "_exponential", "_beta"))]
    assert re.findall(r"`(\w+)`", told) == plain


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if target.startswith("https://"):
            continue
        name, _, heading = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), target
        assert not heading or heading in anchors(file), target


def anchors(page: Path) -> list[str]:
    """Of its headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads]
