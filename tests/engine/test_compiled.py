"""Plans fit one library and one kind of machine: every field, changed one at a time, is refused by name."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from calotype import compiled
from calotype.compiled import Compiled, Machine, Plan, Requirements
from calotype.errors import BackendError, BundleError
from calotype.manifest import FileSpec, ProgramSpec, TensorSpec
from calotype.version import __version__

HERE = Machine("1.7.1", "Linux-x86_64", "13.0", "13.1", "A GPU", "8.9", 76, 16 * 2**30)
ALL = tuple(field.name for field in dataclasses.fields(Machine) if field.name != "driver")
ONE_MACHINE = Requirements(exact=ALL)
SEVERAL = Requirements(exact=("library",), capabilities="compute_capabilities")
OTHER: dict[str, Any] = {
    "library": "1.7.2", "system": "Windows-AMD64", "cuda": "12.9", "gpu": "Another", "compute_capability": "12.0",
    "multiprocessors": 40, "memory": 8 * 2**30, "processor": "Another",
}  # fmt: skip
LATENTS = TensorSpec("latents", "float32", (1, 4, 64, 64))
PICTURE = TensorSpec("picture", "float32", (1, 3, 512, 512))
SPEC = ProgramSpec(
    "vae_decoder", 1, "fp32", (LATENTS,), (PICTURE,),
    (FileSpec("onnx/vae_decoder.onnx", 10, "a" * 64), FileSpec("onnx/vae_decoder.data", 99, "b" * 64)),
)  # fmt: skip


def built(**changes: Any) -> Compiled:
    plan = Plan(
        "vae_decoder", 1, ("a" * 64, "b" * 64), (LATENTS,), (PICTURE,), (FileSpec("vae_decoder_1.plan", 4, "c" * 64),),
        1.5, 1000, 99, 2, ("attention 1",), {"kgen": 3}, {"Float": 3},
    )  # fmt: skip
    options = {"compute_capabilities": ["8.6", "8.9"], "optimization_level": None}
    return dataclasses.replace(Compiled("tensorrt_rtx", HERE, options, (plan,)), **changes)


def write(root: Path, one: Compiled, name: str = "0123") -> Path:
    folder = root / "compiled" / name
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(one.to_json(), "utf-8")
    return folder


def test_a_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    folder = write(tmp_path, built())
    assert Compiled.read(folder / "manifest.json").to_json() == built().to_json()


def test_the_plan_that_fits_is_found_among_several(tmp_path: Path) -> None:
    write(tmp_path, built(machine=dataclasses.replace(HERE, gpu="Another")), "0000")
    write(tmp_path, built(backend="tensorrt"), "1111")
    folder = write(tmp_path, built(), "2222")
    path, plan = compiled.find(tmp_path, "tensorrt_rtx", SPEC, HERE, ONE_MACHINE)
    assert (path, plan.activation_bytes) == (folder, 1000)


def test_the_newest_of_several_plans_that_fit_is_taken(tmp_path: Path) -> None:
    folders = [write(tmp_path, built(), name) for name in ("0000", "1111", "2222")]
    for folder, seconds in zip(folders, (1, 3, 2), strict=True):
        os.utime(folder / "manifest.json", (seconds, seconds))
    assert compiled.find(tmp_path, "tensorrt_rtx", SPEC, HERE, ONE_MACHINE)[0] == folders[1]


def test_a_plan_that_is_a_link_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path, built())
    (folder / "vae_decoder_1.plan").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match=r"'vae_decoder_1\.plan' is no plain file"):
        Compiled.read(folder / "manifest.json")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"files": ()}, "vae_decoder .batch 1. has no files"),
        ({"files": (FileSpec("../../secret", 4, "c" * 64),)}, "'../../secret' is no plain file beside the manifest"),
        ({"files": (FileSpec("/dev/zero", 4, "c" * 64),)}, "'/dev/zero' is no plain file"),
        ({"layers": {"kgen": "three"}}, "layers and precisions are counts"),
        ({"inputs": (dataclasses.replace(LATENTS, dtype="float64"),)}, "found .'float64'."),
    ],
)  # fmt: skip
def test_a_manifest_with_what_cannot_be_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    (plan,) = built().plans
    folder = write(tmp_path, built(plans=(dataclasses.replace(plan, **changes),)))
    with pytest.raises(BundleError, match=message):
        Compiled.read(folder / "manifest.json")


def test_another_backends_manifest_does_not_matter(tmp_path: Path) -> None:
    write(tmp_path, built(), "2222")
    odd = tmp_path / "compiled" / "1111" / "manifest.json"
    odd.parent.mkdir()
    odd.write_text('{"format_version": 99, "backend": "another"}')
    broken = tmp_path / "compiled" / "0000" / "manifest.json"
    broken.parent.mkdir()
    broken.write_text('{"backend": "tens')
    unfinished = tmp_path / "compiled" / ".3333.partial" / "manifest.json"
    unfinished.parent.mkdir()
    unfinished.write_text("{")

    assert compiled.backends(tmp_path) == ("another", "tensorrt_rtx")
    compiled.find(tmp_path, "tensorrt_rtx", SPEC, HERE, ONE_MACHINE)
    with pytest.raises(BundleError, match="format_version: expected 4, found 99"):
        compiled.find(tmp_path, "another", SPEC, HERE, ONE_MACHINE)
    told = [one for path, one in compiled.every(tmp_path) if path == broken]
    assert "is not JSON" in str(told[0])


def test_a_manifest_of_another_form_does_not_hide_one_that_fits(tmp_path: Path) -> None:
    for name in ("1111", "3333"):
        path = write(tmp_path, built(), name) / "manifest.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": 1}))
    write(tmp_path, built(), "2222")
    folder, plan = compiled.find(tmp_path, "tensorrt_rtx", SPEC, HERE, ONE_MACHINE)
    assert (folder.name, plan.name) == ("2222", SPEC.name)


def test_settings_are_of_one_backend_and_older_manifests_have_none(tmp_path: Path) -> None:
    plan = dataclasses.replace(built().plans[0], settings={"prefer_nhwc": "1"})
    path = write(tmp_path, built(backend=compiled.FUSED, plans=(plan,)), "1111") / "manifest.json"
    assert dict(Compiled.read(path).plans[0].settings) == {"prefer_nhwc": "1"}
    text = path.read_text()
    path.write_text(text.replace(compiled.FUSED, "onnxruntime"))
    with pytest.raises(BundleError, match=r"expected settings of \(\), found .*prefer_nhwc"):
        Compiled.read(path)
    older = json.loads(text)
    del older["plans"][0]["settings"]
    path.write_text(json.dumps(older))
    assert not Compiled.read(path).plans[0].settings


def test_plans_of_another_calotype_are_refused(tmp_path: Path) -> None:
    write(tmp_path, built(calotype="0.0.1"))
    with pytest.raises(
        BackendError, match=rf"calotype: built with '0\.0\.1', found '{re.escape(__version__)}'"
    ):
        compiled.find(tmp_path, "tensorrt_rtx", SPEC, HERE, ONE_MACHINE)


@pytest.mark.parametrize("field", ALL)
def test_another_machine_is_refused_by_the_field_that_differs(tmp_path: Path, field: str) -> None:
    write(tmp_path, built())
    other = dataclasses.replace(HERE, **{field: OTHER[field]})
    with pytest.raises(
        BackendError, match=rf"{field}: built with {getattr(HERE, field)!r}, found {OTHER[field]!r}"
    ):
        compiled.find(tmp_path, "tensorrt_rtx", SPEC, other, ONE_MACHINE)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"files": (FileSpec("onnx/x.onnx", 10, "a" * 64), FileSpec("onnx/x.data", 9, "d" * 64))},
            "sources: ",
        ),
        ({"inputs": (dataclasses.replace(LATENTS, dtype="float16"),)}, "inputs: "),
        ({"outputs": (dataclasses.replace(PICTURE, shape=(1, 3, 768, 768)),)}, "outputs: "),
        ({"batch": 2}, r"no plan of vae_decoder \(batch 2\)"),
    ],
)
def test_another_program_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write(tmp_path, built())
    with pytest.raises(BackendError, match=message):
        compiled.find(tmp_path, "tensorrt_rtx", dataclasses.replace(SPEC, **changes), HERE, ONE_MACHINE)


def test_a_driver_must_know_the_cuda_of_the_build_but_for_its_minor_version(tmp_path: Path) -> None:
    cuda = dataclasses.replace(HERE, cuda="13.5")
    write(tmp_path, built(machine=cuda))
    newer, minor, older = (dataclasses.replace(cuda, driver=driver) for driver in ("14.0", "13.0", "12.9"))
    for fitting in (newer, minor):
        assert compiled.find(tmp_path, "tensorrt_rtx", SPEC, fitting, ONE_MACHINE)[1].name == SPEC.name
    with pytest.raises(BackendError, match=r"driver: built with CUDA 13\.5, this driver knows 12\.9"):
        compiled.find(tmp_path, "tensorrt_rtx", SPEC, older, ONE_MACHINE)


def test_plans_for_several_capabilities_run_on_each_and_no_other(tmp_path: Path) -> None:
    write(tmp_path, built())
    ampere, turing = (dataclasses.replace(HERE, gpu="X", compute_capability=one) for one in ("8.6", "7.5"))
    assert compiled.find(tmp_path, "tensorrt_rtx", SPEC, ampere, SEVERAL)[1].name == SPEC.name
    with pytest.raises(BackendError, match=r"compute_capability: built for 8\.6, 8\.9, found 7\.5"):
        compiled.find(tmp_path, "tensorrt_rtx", SPEC, turing, SEVERAL)


def test_a_bundle_that_was_not_compiled_says_how(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"was not compiled for tensorrt\n\nhint: calotype-export compile"):
        compiled.find(tmp_path, "tensorrt", SPEC, HERE, ONE_MACHINE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 9}, "format_version: expected 4, found 9"),
        ({"plans": None}, "expected list, found None"),
        ({"surprise": 1}, r"unknown fields \['surprise'\]"),
    ],
)
def test_a_manifest_of_another_form_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    folder = write(tmp_path, built())
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(BundleError, match=message):
        compiled.find(tmp_path, "tensorrt_rtx", SPEC, HERE, ONE_MACHINE)


@pytest.mark.parametrize("field", [*ALL, "driver"])
def test_the_identity_depends_on_every_field_of_the_machine(field: str) -> None:
    other = dataclasses.replace(HERE, **{field: OTHER.get(field, "13.2")})
    assert compiled.identity("tensorrt", other, {}, [SPEC]) != compiled.identity("tensorrt", HERE, {}, [SPEC])


def test_the_identity_depends_on_backend_options_and_programs() -> None:
    changed = dataclasses.replace(SPEC, files=(SPEC.files[0],))
    found = {
        compiled.identity("tensorrt", HERE, {}, [SPEC]),
        compiled.identity("tensorrt_rtx", HERE, {}, [SPEC]),
        compiled.identity("tensorrt", HERE, {"tf32": False}, [SPEC]),
        compiled.identity("tensorrt", HERE, {}, [changed]),
        compiled.identity("tensorrt", HERE, {}, [dataclasses.replace(SPEC, inputs=())]),
    }
    assert len(found) == 5
