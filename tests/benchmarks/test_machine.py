"""What results say of a machine, and how the command ends on it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from calotype_bench import machine


def test_time_that_others_got_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([(100, 10_000), (125, 11_000)])
    monkeypatch.setattr(machine, "_ticks", lambda: next(ticks))
    assert machine.Watch().describe()["stolen"] == 0.025


def test_a_system_that_tells_no_ticks_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_ticks", lambda: (0, 0))
    found = machine.Watch().describe()
    assert found["stolen"] is None
    assert len(found["load_before"]) == 3


def test_ticks_are_of_all_cores_and_each_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last two are of guests, which are in the first two as well."""
    monkeypatch.setattr(Path, "read_text", lambda *_: "cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1\n")
    assert machine._ticks() == (8, 36)


def test_the_load_before_is_that_of_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    loads = iter([[1.0] * 3, [2.0] * 3])
    monkeypatch.setattr(machine, "_load", lambda: next(loads))
    found = machine.Watch().describe()
    assert (found["load_before"], found["load"]) == ([1.0] * 3, [2.0] * 3)


@pytest.mark.skipif(not Path("/proc/stat").is_file(), reason="no /proc")
def test_ticks_are_the_systems() -> None:
    stolen, total = machine._ticks()
    assert 0 <= stolen < total


def test_a_commit_is_of_the_checkout_that_the_code_belongs_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for words in ("init -q", "-c user.name=x -c user.email=x@y commit -q --allow-empty -m x"):
        subprocess.run(["git", *words.split()], cwd=tmp_path, check=True)
    place = tmp_path / "lib" / "machine.py"  # as of a virtual environment within somebody's repository
    place.parent.mkdir()
    place.touch()
    monkeypatch.setattr(machine, "__file__", str(place))
    assert machine.describe()["commit"] == ""
    subprocess.run(["git", "add", "."], cwd=tmp_path, check=True)
    commit = ["git", "-c", "user.name=x", "-c", "user.email=x@y", "commit", "-qm", "x"]
    subprocess.run(commit, cwd=tmp_path, check=True)
    found = machine.describe()["commit"]
    assert len(found) == 12 and "+" not in found
    place.write_text("x = 1")
    assert machine.describe()["commit"] == f"{found}+"


_WAITING = """
import signal, sys, tempfile, time
from calotype_bench import cli, commands

signal.signal(signal.SIGINT, signal.default_int_handler)  # shells have it ignored by what runs behind them

def wait(options):
    with tempfile.TemporaryDirectory(dir=sys.argv[1]) as folder:
        print(folder, flush=True)
        time.sleep(60)

commands.tables = wait
sys.exit(cli.main(["tables", "x.md"]))
"""


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_command_in_order(tmp_path: Path, sent: signal.Signals, status: int) -> None:
    command = [sys.executable, "-c", _WAITING, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert Path(process.stdout.readline().strip()).is_dir()
        process.send_signal(sent)
        assert process.wait(30) == status
    assert not [*tmp_path.iterdir()]
