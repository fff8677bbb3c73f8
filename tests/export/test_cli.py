"""The `calotype-export` command: options, exit status, what goes to which stream."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from calotype.errors import CheckpointError
from calotype.lora import LoraFile
from calotype_export import build, cli, console, synthetic, verify
from calotype_export import compile as compiling
from calotype_export.adapters import EmbeddingFile
from calotype_export.build import BuildOptions
from calotype_export.progress import Progress
from calotype_export.tensorrt_builder import BuilderOptions


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[BuildOptions]:
    """What `build` was called with."""
    calls: list[BuildOptions] = []

    def record(options: BuildOptions, progress: Progress) -> Path:
        calls.append(options)
        progress("export", 1, 1)
        return options.output

    monkeypatch.setattr(build, "build", record)
    return calls


def test_every_option_of_build_arrives(built: list[BuildOptions]) -> None:
    text = (
        "build owner/name -o out --size 768x512 --batch 4,1,2 --precision fp16 --vae-precision fp32 "
        "--scheduler euler --unguided --revision main --config configs --segmenter seg "
        "--lora a.safetensors:0.5 --lora b.safetensors "
        "--embedding c.safetensors:<dog> --embedding d.safetensors"
    )
    assert cli.main(text.split()) == 0
    assert built == [
        BuildOptions(
            checkpoint="owner/name",
            output=Path("out"),
            size=(512, 768),
            batches=(1, 2, 4),
            precision="fp16",
            vae_precision="fp32",
            scheduler="euler",
            unguided=True,
            segmenter=Path("seg"),
            loras=(LoraFile(Path("a.safetensors"), 0.5), LoraFile(Path("b.safetensors"))),
            embeddings=(EmbeddingFile(Path("c.safetensors"), "<dog>"), EmbeddingFile(Path("d.safetensors"))),
            revision="main",
            config=Path("configs"),
        )
    ]


def test_without_options_the_defaults_are_those_of_build(built: list[BuildOptions]) -> None:
    assert cli.main(["build", "folder", "-o", "out"]) == 0
    assert built == [BuildOptions("folder", Path("out"))]


def test_every_option_of_compile_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(compiling, "compile_bundle", lambda *given: calls.append(given[:3]) or Path("out"))
    text = (
        "compile bundle --backend tensorrt_rtx --compute-capability 12.0,8.9 --optimization-level 4 --refittable "
        "--timing-cache timings --device cuda:1"
    )
    assert cli.main(text.split()) == 0
    options = BuilderOptions(("8.9", "12.0"), 4, Path("timings"), refittable=True, gpu=1)
    assert calls == [(Path("bundle"), "tensorrt_rtx", options)]


def test_a_device_that_is_no_gpu_is_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["compile", "bundle", "--backend", "tensorrt", "--device", "cpu"])
    assert "expected cuda or cuda:<number>, found 'cpu'" in capsys.readouterr().err


def test_the_result_goes_to_stdout_and_progress_to_stderr(
    built: list[BuildOptions], capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main(["build", "folder", "-o", "out"])
    assert tuple(capsys.readouterr()) == ("out\n", "export: 1/1\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "500x512"], "expected multiples of 8, found 500x512; 496x512 would do"),
        (["--size", "512"], "expected WIDTHxHEIGHT in pixels, such as 512x512, found '512'"),
        (["--batch", "1,x"], "expected positive numbers such as 1,2,4, found '1,x'"),
        (["--batch", "0"], "expected positive numbers such as 1,2,4, found '0'"),
        (["--lora", "a.safetensors:much"], "expected FILE[:WEIGHT], where 'much' is no number"),
        (["--lora", "a.safetensors:nan"], "expected FILE[:WEIGHT], where 'nan' is not finite"),
        (["--precision", "int8"], "invalid choice: 'int8'"),
        (["--scheduler", "eulr"], "unknown scheduler 'eulr'; did you mean 'euler'?"),
        (["--scheduler", "dpm_fast"], "scheduler 'dpm_fast' is not offered"),
    ],
)
def test_bad_usage_is_named_and_exits_with_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["build", "folder", "-o", "out", *arguments])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (CheckpointError("no such thing", "try another"), 1, "no such thing\n\nhint: try another"),
        (PermissionError(13, "Permission denied", "/there"), 1, "/there: Permission denied"),
        (OSError("no file named config.json"), 1, "no file named config.json"),
        (KeyboardInterrupt(), 130, "interrupted; nothing was left behind"),
    ],
)
def test_a_failure_is_told_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    status: int,
    message: str,
) -> None:
    def fail(options: BuildOptions, progress: Progress) -> Path:
        raise error

    monkeypatch.setattr(build, "build", fail)
    assert cli.main(["build", "folder", "-o", "out"]) == status
    assert tuple(capsys.readouterr()) == ("", f"calotype-export: {message}\n")


def test_verify_prints_the_record(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[Any] = []

    def record(*arguments: Any) -> dict[str, int]:
        calls.append(arguments[:3])
        return {"seconds": 1}

    monkeypatch.setattr(build, "opened", lambda options, progress: options.checkpoint)
    monkeypatch.setattr(verify, "verify", record)
    assert cli.main(["verify", "bundle", "--against", "folder", "--backend", "openvino"]) == 0
    assert calls == [(Path("bundle"), "folder", "openvino")]
    assert capsys.readouterr().out == '{\n "seconds": 1\n}\n'


def test_verify_opens_the_checkpoint_with_what_was_merged_into_it(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[BuildOptions] = []
    monkeypatch.setattr(build, "opened", lambda options, _: opened.append(options))
    monkeypatch.setattr(verify, "verify", lambda *_: {})
    text = "verify bundle --against a --revision v1 --config c --segmenter s --lora l:0.5 --embedding e"
    assert cli.main(text.split()) == 0
    loras, embeddings = (LoraFile(Path("l"), 0.5),), (EmbeddingFile(Path("e")),)
    named: dict[str, Any] = {"segmenter": Path("s"), "revision": "v1", "config": Path("c")}
    assert opened == [BuildOptions("a", Path(), loras=loras, embeddings=embeddings, **named)]


@pytest.mark.parametrize(
    ("options", "seed", "dtype"), [((), 0, "fp32"), (("--seed", "3", "--dtype", "bf16"), 3, "bf16")]
)
def test_every_option_of_synthetic_arrives(
    monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], seed: int, dtype: str
) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(synthetic, "write", lambda *given, **named: calls.append((*given, named)))
    assert cli.main(["synthetic", "tiny-sd15", "-o", "out", *options]) == 0
    ((name, folder, named),) = calls
    assert (name, folder, named["seed"], named["dtype"]) == ("tiny-sd15", Path("out"), seed, dtype)


def test_synthetic_writes_a_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "new"
    assert cli.main(["synthetic", "tiny-sd15", "-o", str(target), "--dtype", "fp16", "--seed", "3"]) == 0
    assert (target / "model_index.json").is_file()
    output = capsys.readouterr()
    assert output.out == f"{target}\n"
    assert "writing unet" in output.err


def test_help_names_every_synthetic_checkpoint(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["synthetic", "--help"])
    text = capsys.readouterr().out.replace("\n", " ")
    assert all(name in text for name in synthetic.NAMES if not name.startswith("tiny-"))


def without_the_extra(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in a process in which only the runtime's own libraries can be imported."""
    missing = ("torch", "diffusers", "transformers", "onnx", "huggingface_hub", "safetensors", "tqdm", "peft")
    code = (
        f"import sys\nsys.modules.update(dict.fromkeys({missing}))\n"
        f"from calotype_export.cli import main\nsys.exit(main({list(arguments)}))"
    )
    environment = {"PYTHONPATH": ":".join(path for path in sys.path if path)}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )


def test_help_does_without_torch() -> None:
    done = without_the_extra("build", "--help")
    assert done.returncode == 0, done.stderr
    assert "--precision" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [("build", "folder", "-o", "out", "--lora", "a.safetensors"), ("synthetic", "tiny-sd15", "-o", "out")],
)
def test_without_torch_a_command_says_what_to_install(arguments: tuple[str, ...]) -> None:
    done = without_the_extra(*arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("calotype-export: ")
    assert done.stderr.endswith(" is not installed\n\nhint: pip install 'calotype[export]'\n")


def test_lines_come_at_the_start_the_end_and_every_ten_seconds() -> None:
    stream, times = io.StringIO(), iter([0.0, 1.0, 11.0, 12.0, 13.0])
    report = console._Lines(stream, lambda: next(times))
    for done in range(5):
        report("export", done, 4)
    assert stream.getvalue() == "export: 0/4\nexport: 2/4\nexport: 4/4\n"


def test_a_terminal_gets_bars() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    report = console.reporter(stream)
    for done in (1, 2):
        report("export", done, 2)
    report("compare", 1, 2)
    assert "export: 100%" in stream.getvalue()
    assert "2/2" in stream.getvalue()
