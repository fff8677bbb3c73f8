"""What all tests of benchmarks have in common."""

from __future__ import annotations

import pytest

from calotype_bench import peers
from calotype_bench.peers import Peer


@pytest.fixture(autouse=True)
def diffusers_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Diffusers draws with this environment's packages: installing torch once more would take gigabytes.

    `test_environments.py` has what is done without this.
    """
    here = dict.fromkeys(("eager", "compile", "compile-reduce-overhead"), Peer())
    monkeypatch.setitem(vars(peers), "PEERS", {**peers.PEERS, **here})
