"""Options of the whole test suite."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--parity",
        choices=("brief", "full"),
        default="brief",
        help="full: every scheduler and way of drawing on the demo checkpoints too",
    )
    parser.addoption("--rehearse", action="store_true", help="run what needs a GPU on the stand-in for one")
