"""Opening bundles: whatever is not as the manifest says is refused by name."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from calotype import Bundle, BundleError
from calotype.manifest import FileSpec, Manifest, ProgramSpec, TensorSpec, TimeEmbedding

GRAPH = b"graph"


def manifest(**changes: Any) -> Manifest:
    file = FileSpec("onnx/text_encoder.onnx", len(GRAPH), hashlib.sha256(GRAPH).hexdigest())
    tensor = TensorSpec("input_ids", "int64", (1, 77))
    made = Manifest(
        family="sd1",
        height=512,
        width=768,
        latent_channels=4,
        vae_scale_factor=8,
        batches=(1,),
        precision="fp32",
        guided=True,
        conditioning=(),
        state_slots=5,
        time_embedding=TimeEmbedding(320, True, 0.0),
        timestep_cond=0,
        max_length=77,
        programs=(ProgramSpec("text_encoder", 1, "fp32", (tensor,), (), (file,)),),
        files=(),
        source={"name": "made up"},
    )
    return dataclasses.replace(made, **changes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "text_encoder.onnx").write_bytes(GRAPH)
    (tmp_path / "manifest.json").write_text(manifest().to_json(), "utf-8")
    return tmp_path


def edit(folder: Path, **changes: Any) -> None:
    data = json.loads((folder / "manifest.json").read_text("utf-8"))
    (folder / "manifest.json").write_text(json.dumps(data | changes), "utf-8")


def edit_program(folder: Path, **changes: Any) -> None:
    (program,) = json.loads((folder / "manifest.json").read_text("utf-8"))["programs"]
    edit(folder, programs=[program | changes])


def refused(folder: Path) -> str:
    with pytest.raises(BundleError) as caught:
        Bundle.open(folder)
    return str(caught.value)


def test_a_manifest_survives_writing_and_reading(folder: Path) -> None:
    assert Bundle.open(folder).manifest == manifest()


def test_latent_shape_follows_from_the_pictures_size() -> None:
    assert manifest().latent_shape == (4, 64, 96)


def test_a_program_is_found_by_name_and_batch(folder: Path) -> None:
    bundle = Bundle.open(folder)

    assert bundle.program("text_encoder").input("input_ids").shape == (1, 77)
    assert bundle.has("text_encoder")
    assert not bundle.has("segmenter")


def test_an_absent_program_is_an_error_that_lists_the_present(folder: Path) -> None:
    with pytest.raises(
        BundleError, match=r"no program unet_step for batch 4; it has text_encoder \(batch 1\)"
    ):
        Bundle.open(folder).program("unet_step", 4)


def test_a_folder_without_manifest_is_no_bundle(tmp_path: Path) -> None:
    assert "is no bundle" in refused(tmp_path)


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "onnx" / "text_encoder.onnx").unlink()

    assert "onnx/text_encoder.onnx is missing" in refused(folder)


def test_a_truncated_file_is_named_with_both_sizes(folder: Path) -> None:
    (folder / "onnx" / "text_encoder.onnx").write_bytes(GRAPH[:3])

    assert "expected 5 bytes, found 3" in refused(folder)


def test_a_changed_file_is_named_with_both_digests(folder: Path) -> None:
    (folder / "onnx" / "text_encoder.onnx").write_bytes(b"grapf")

    assert f"expected sha256 {hashlib.sha256(GRAPH).hexdigest()}, found" in refused(folder)


def test_a_newer_format_is_refused_with_the_way_out(folder: Path) -> None:
    edit(folder, format_version=99)

    message = refused(folder)

    assert "format_version: expected 3, found 99" in message
    assert "hint: upgrade calotype" in message


@pytest.mark.parametrize("place", ["..", "{absolute}", "onnx/../.."])
def test_a_file_outside_the_folder_is_refused(folder: Path, place: str) -> None:
    secret = folder.parent / "secret"
    secret.write_bytes(b"x")
    path = place.format(absolute=folder.parent) + "/secret"
    edit(folder, files=[{"path": path, "size": 1, "sha256": hashlib.sha256(b"x").hexdigest()}])

    assert f"{path} lies outside the bundle" in refused(folder)


@pytest.mark.parametrize("linked", ["onnx/text_encoder.onnx", "onnx"])
def test_a_linked_file_is_refused(folder: Path, linked: str) -> None:
    (folder / linked).rename(folder / "elsewhere")
    (folder / linked).symlink_to(folder / "elsewhere")

    assert "is a link" in refused(folder)


def test_files_for_cuda_alone_are_checked_too(folder: Path) -> None:
    edit_program(folder, cuda_files=[{"path": "onnx/absent.onnx", "size": 1, "sha256": "0"}])

    assert "onnx/absent.onnx is missing" in refused(folder)


def test_a_weight_beyond_the_end_of_its_file_is_refused(folder: Path) -> None:
    files = [
        dataclasses.asdict(file)
        for file in (*manifest().programs[0].files, FileSpec("onnx/weights", 16, "0"))
    ]
    weight = {
        "name": "w",
        "initializer": "w",
        "dtype": "float32",
        "shape": [4],
        "transposed": False,
        "offset": 4,
    }
    edit_program(folder, files=files, parameters=[weight])

    assert "bytes 4 to 20 lie outside of its data file" in refused(folder)


def test_a_manifest_that_is_not_json_is_refused(folder: Path) -> None:
    (folder / "manifest.json").write_text("{", "utf-8")

    assert "is not JSON" in refused(folder)


def test_missing_and_unknown_fields_are_named(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    del manifest["programs"][0]["batch"]
    (folder / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    assert "programs[0]: missing fields ['batch'], unknown fields []" in refused(folder)

    edit(folder, programs=[], surprise=1)
    assert "missing fields [], unknown fields ['surprise']" in refused(folder)


def test_a_bundle_from_before_a_field_was_added_is_read(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    for program in manifest["programs"]:
        del program["cuda_files"]
    (folder / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    assert not any(program.cuda_files for program in Bundle.open(folder).manifest.programs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"height": "512"}, "height: expected int, found '512'"),
        ({"guided": 1}, "guided: expected bool, found 1"),
        ({"batches": 1}, "batches: expected list, found 1"),
        ({"time_embedding": 3}, "time_embedding: expected an object, found 3"),
    ],
)
def test_a_field_of_another_type_is_named(folder: Path, change: dict[str, Any], message: str) -> None:
    edit(folder, **change)

    assert message in refused(folder)


def test_json_of_the_bundle_that_cannot_be_read_is_named(folder: Path) -> None:
    with pytest.raises(BundleError, match=r"scheduler\.json cannot be read"):
        Bundle.open(folder).json("scheduler.json")


def test_a_manifest_that_is_no_text_is_refused(folder: Path) -> None:
    (folder / "manifest.json").write_bytes(b"\x80\xff\x00")

    assert "manifest.json cannot be read: 'utf-8' codec" in refused(folder)


def test_a_file_that_is_no_text_is_refused_when_it_is_read(folder: Path) -> None:
    (folder / "scheduler.json").write_bytes(b"\x80\xff\x00")

    with pytest.raises(BundleError, match=r"scheduler\.json cannot be read: 'utf-8' codec"):
        Bundle.open(folder).json("scheduler.json")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batches": []}, "batches: expected sizes of at least 1, found []"),
        ({"height": -8}, "height: expected at least 1, found -8"),
    ],
)
def test_sizes_that_cannot_be_are_refused(folder: Path, changes: dict[str, Any], message: str) -> None:
    edit(folder, **changes)

    assert message in refused(folder)


def test_a_program_without_files_is_refused(folder: Path) -> None:
    edit_program(folder, files=[])

    assert "program text_encoder has no files" in refused(folder)


def test_a_file_is_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "picture").write_bytes(b"")

    with pytest.raises(BundleError, match="is no bundle: expected a folder, found a file"):
        Bundle.open(tmp_path / "picture")


def test_a_json_file_that_holds_no_object_is_refused(folder: Path) -> None:
    (folder / "list.json").write_text("[1]")

    with pytest.raises(BundleError, match=r"list.json: expected an object, found \[1\]"):
        Bundle.open(folder).json("list.json")
