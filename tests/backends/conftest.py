"""Fixtures of the contract suite: a backend with a precision, and programs loaded on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from calotype.backends import Program
from tests.backends import step_programs
from tests.backends.contract_cases import VENDORS, Case, Make, available, load_spec


@pytest.fixture(params=[("fake", "fp32"), *VENDORS], ids="-".join)
def case(request: pytest.FixtureRequest) -> Case:
    return available(request.param)


@pytest.fixture(params=VENDORS, ids="-".join)
def vendor(request: pytest.FixtureRequest) -> Case:
    return available(request.param)


@pytest.fixture
def make(case: Case, tmp_path: Path) -> Make:
    """`make(precision=..., batch=...)` loads a step program on the backend of the case."""

    def load(precision: str = case[1], batch: int = 2) -> Program:
        spec = step_programs.write(tmp_path / precision, precision, batch)
        return load_spec(case[0], tmp_path / precision, spec)

    return load
