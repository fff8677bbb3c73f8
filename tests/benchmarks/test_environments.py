"""Environments of peers: made once, told when they cannot be."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import pytest

from calotype_bench import environments, latency, peers
from calotype_bench.environments import PeerError
from calotype_bench.jobs import Engine, Job
from calotype_bench.order import Order, Reports

PEERS = peers.PEERS  # before `conftest.py` lets diffusers run here


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return []


def test_an_environment_is_made_once(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[Sequence[str]] = []
    monkeypatch.setattr(environments, "_run", lambda command, *_: commands.append(command))
    first = environments.python("peer", ("torch", "thing==1"), ("unwanted",), said.append)
    again = environments.python("peer", ("torch", "thing==1"), ("unwanted",), said.append)
    other = environments.python("peer", ("torch", "thing==2"), (), said.append)
    whole = environments.python("peer", ("torch", "thing==1"), (), said.append)
    both = environments.python("peer", ("torch", "thing==1", "unwanted"), (), said.append)

    assert first == again
    assert len({first, other, whole, both}) == 4
    assert said == [
        "installing torch, thing==1 in an environment of its own",
        "installing torch, thing==2 in an environment of its own",
        "installing torch, thing==1 in an environment of its own",
        "installing torch, thing==1, unwanted in an environment of its own",
    ]
    create, install, remove, *_ = commands
    assert create[1:3] == ["-m", "venv"]
    assert install[2:4] == ["pip", "install"]
    assert install[4].startswith("torch==2")  # this environment's own
    assert "+" not in install[4]
    assert remove[-1] == "unwanted"
    assert len(commands) == 3 + 2 + 2 + 2


def test_another_python_has_an_environment_of_its_own(
    said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environments, "_run", lambda *_: None)
    first = environments.python("peer", ("thing==1",), (), said.append)
    monkeypatch.setattr(sys, "version_info", (3, 99, 0))
    second = environments.python("peer", ("thing==1",), (), said.append)
    monkeypatch.setattr(sys, "base_prefix", "elsewhere")
    assert len({first, second, environments.python("peer", ("thing==1",), (), said.append)}) == 3


def test_a_package_that_cannot_be_installed_is_a_row_that_says_so(
    said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(vars(peers), "PEERS", {"eager": peers.Peer(("calotype-no-such-package",))})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    *_, (found,) = latency.measure(
        [Engine("eager", "x")], [Job("x", 1, 0)], Order(1), Reports(say=said.append)
    )
    assert found.rows[0].failure.startswith("eager cannot be installed: ")
    assert "calotype-no-such-package" in found.rows[0].failure


def test_an_export_that_does_not_end_is_ended(
    said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environments, "AT_MOST", 5.0)
    monkeypatch.setattr(environments, "PACKAGE", tmp_path / "calotype_bench")
    environments.PACKAGE.mkdir()
    (environments.PACKAGE / "__init__.py").touch()
    held = tmp_path / "held"
    sleeping = "import fcntl, sys, time; fcntl.flock(open(sys.argv[1], 'w'), fcntl.LOCK_EX); time.sleep(600)"
    starting = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {sleeping!r}, {str(held)!r}])"
    (environments.PACKAGE / "endless.py").write_text(starting)
    (tmp_path / "checkpoint").mkdir()
    begun = time.monotonic()
    with pytest.raises(PeerError, match=r"peer cannot export .*: it was not done within 5 s, and was ended"):
        environments.exported("peer", sys.executable, "endless", [tmp_path / "checkpoint"], said.append)
    assert time.monotonic() - begun < 60
    with held.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError while what it started lives


@pytest.mark.parametrize(
    ("engine", "expected"),
    [
        (Engine("eager", "x"), "diffusers"),
        (Engine("compile", "x", dtype="bf16"), "diffusers"),
        (Engine("stable-diffusion.cpp", "x"), "stable-diffusion.cpp"),
        (Engine("eager", "x", timed=False), sys.executable),
        (Engine("eager", "x", device="cuda"), sys.executable),
        (Engine("calotype", "x"), sys.executable),
    ],
)
def test_peers_run_in_environments_of_their_own(
    engine: Engine, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(vars(peers), "PEERS", PEERS)
    monkeypatch.setattr(environments, "python", lambda name, *_: name)
    assert peers.prepare(engine, lambda _: None) == (expected, "x")


def test_a_peer_on_a_gpu_has_the_packages_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted: list[tuple[str, ...]] = []
    monkeypatch.setattr(environments, "python", lambda _, packages, *__: wanted.append(packages) or "python")
    monkeypatch.setattr(environments, "exported", lambda *_: "model")
    for device in ("cpu", "cuda:1"):
        peers.prepare(Engine("optimum-onnx", "x", device=device), lambda _: None)
        peers.prepare(Engine("optimum-intel", "x", device=device), lambda _: None)
    assert ["onnxruntime-gpu" in " ".join(each) for each in wanted] == [False, False, True, False]


def test_diffusers_is_the_one_that_is_exported_from(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    installed: list[str] = []
    monkeypatch.setattr(
        environments,
        "_run",
        lambda command, *_: installed.extend(command[4:] if "install" in command else ()),
    )
    environments.python("diffusers", PEERS["eager"].packages, (), said.append)
    assert installed == [
        f"{name}=={metadata.version(name).partition('+')[0]}" for name in PEERS["eager"].packages
    ]


@pytest.mark.usefixtures("said")
def test_other_interpreters_find_this_package_and_nothing_beside_it() -> None:
    variables, again = (environments.variables("another/python") for _ in range(2))
    assert variables == again
    place = variables["PYTHONPATH"].split(":")[0]
    assert [path.name for path in Path(place).iterdir()] == ["calotype_bench"]
    said = "import sys, calotype_bench; print(calotype_bench.__file__, '' in sys.path)"
    command = [sys.executable, "-c", said]
    run = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
    assert run.stdout.split() == [str(Path(place) / "calotype_bench" / "__init__.py"), "False"]


def test_this_interpreter_needs_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert environments.variables(sys.executable)["PYTHONPATH"].split(":")[0] == str(
        environments.PACKAGE.parent
    )
    assert not (tmp_path / "cache").exists()


def test_threads_are_not_those_of_this_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch alone would read them."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("KMP_BLOCKTIME", "0")
    monkeypatch.setenv("OPENVINO_LOG_LEVEL", "1")
    variables = environments.variables(sys.executable)
    assert not {"OMP_NUM_THREADS", "KMP_BLOCKTIME"} & variables.keys()
    assert variables["OPENVINO_LOG_LEVEL"] == "1"


def test_a_model_is_exported_once_for_each_checkpoint(
    said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    (checkpoint / "weights").write_text("1")
    monkeypatch.setattr(environments, "_run", lambda command, *_: Path(command[-1]).mkdir())

    def export(interpreter: str = sys.executable) -> str:
        return environments.exported("peer", interpreter, "draw_peer", [checkpoint], said.append)

    found = [export(), export("another/python")]
    assert export() == found[0]
    (checkpoint / "weights").write_text("2 and more")
    found.append(export())
    os.utime(checkpoint / "weights", ns=(1, 1))  # as many bytes, of another moment
    found.append(export())
    assert len({*found}) == len(said) == 4


def test_an_export_that_fails_leaves_nothing(said: list[str], tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    with pytest.raises(PeerError, match=r"peer cannot export .*no_such_module"):
        environments.exported("peer", sys.executable, "no_such_module", [checkpoint], said.append)
    assert not [path for path in (environments.cache() / "models").iterdir() if path.is_dir()]


@pytest.mark.parametrize(
    ("said", "status", "expected"),
    [
        ("a warning\n", -9, "it was ended by SIGKILL"),
        ("ERROR: no such thing\n[notice] A new release\n", 1, "ERROR: no such thing"),
        ("Traceback\nValueError: x\nbye\n", 1, "ValueError: x"),
        ("bye\n", 1, "bye"),
        ("", 3, "status 3"),
    ],
)
def test_the_reason_is_the_line_that_tells(said: str, status: int, expected: str) -> None:
    assert environments.reason(said, status) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("eager", ("eager", "fp32")),
        ("eager-bf16", ("eager", "bf16")),
        ("optimum-intel", ("optimum-intel", "fp32")),
        ("optimum-intel-bf16", ("optimum-intel", "bf16")),
        ("stable-diffusion.cpp-fp16", ("stable-diffusion.cpp", "fp16")),
    ],
)
def test_names_carry_a_precision(name: str, expected: tuple[str, str]) -> None:
    assert name in peers.names()
    assert peers.split(name) == expected
