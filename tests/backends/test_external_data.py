"""A graph may read the bundle's own data files, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper

from calotype.backends import _external_data
from calotype.errors import BundleError
from calotype.manifest import FileSpec, ProgramSpec
from tests.backends.step_programs import external

WEIGHT: np.ndarray[Any, Any] = np.zeros((2, 2), np.float32)


def model(*weights: TensorProto, **parts: Any) -> ModelProto:
    graph = helper.make_graph([], "graph", [], [], [*weights])
    return helper.make_model(graph, **parts)


def spec(*files: str) -> ProgramSpec:
    return ProgramSpec("vae_decoder", 1, "fp32", (), (), tuple(FileSpec(file, 0, "") for file in files))


def save(root: Path, found: ModelProto) -> ProgramSpec:
    """The model and its data below `root/onnx`, listed as a manifest would."""
    (root / "onnx").mkdir()
    (root / "onnx" / "model.onnx").write_bytes(found.SerializeToString())
    (root / "onnx" / "model.data").write_bytes(WEIGHT.tobytes())
    return spec("onnx/model.onnx", "onnx/model.data")


def test_data_in_a_listed_file_beside_the_graph_is_accepted(tmp_path: Path) -> None:
    _external_data.check(tmp_path, save(tmp_path, model(external("weight", WEIGHT, "model.data"))))


def test_a_graph_without_external_data_is_accepted(tmp_path: Path) -> None:
    save(tmp_path, model(onnx.numpy_helper.from_array(WEIGHT, "weight")))
    _external_data.check(tmp_path, spec("onnx/model.onnx"))


@pytest.mark.parametrize(
    "location",
    [
        "../onnx/model.data",
        "../../secret",
        "/etc/passwd",
        "./model.data",
        "sub/../model.data",
        "other.data",
        "",
        "..",
    ],
)
def test_any_other_location_is_refused_by_name(tmp_path: Path, location: str) -> None:
    found = save(tmp_path, model(external("weight", WEIGHT, location)))
    message = f"onnx/model.onnx: its weights lie in '{location}'; expected onnx/model.data"
    with pytest.raises(BundleError, match=message):
        _external_data.check(tmp_path, found)


def test_an_absolute_path_to_the_right_file_is_refused_too(tmp_path: Path) -> None:
    location = str(tmp_path / "onnx" / "model.data")
    found = save(tmp_path, model(external("weight", WEIGHT, location)))
    with pytest.raises(BundleError, match=location):
        _external_data.check(tmp_path, found)


def test_a_graph_that_should_have_no_data_file_reads_none(tmp_path: Path) -> None:
    save(tmp_path, model(external("weight", WEIGHT, "model.data")))
    with pytest.raises(BundleError, match=r"'model.data'; expected no file"):
        _external_data.check(tmp_path, spec("onnx/model.onnx"))


def test_the_last_of_two_locations_of_one_tensor_does_not_hide_the_first(tmp_path: Path) -> None:
    weight = external("weight", WEIGHT, "../secret")
    weight.external_data.add(key="location", value="model.data")
    with pytest.raises(BundleError, match=r"'../secret'"):
        _external_data.check(tmp_path, save(tmp_path, model(weight)))


def test_a_link_in_place_of_the_data_is_refused(tmp_path: Path) -> None:
    found = save(tmp_path, model(external("weight", WEIGHT, "model.data")))
    data = tmp_path / "onnx" / "model.data"
    data.rename(tmp_path / "elsewhere")
    data.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match=r"model.onnx: its weights onnx/model.data are no plain file"):
        _external_data.check(tmp_path, found)


def test_missing_data_is_refused(tmp_path: Path) -> None:
    found = save(tmp_path, model(external("weight", WEIGHT, "model.data")))
    (tmp_path / "onnx" / "model.data").unlink()
    with pytest.raises(BundleError, match=r"no plain file"):
        _external_data.check(tmp_path, found)


def test_tensors_are_found_wherever_a_model_can_hold_one() -> None:
    def weight(location: str) -> TensorProto:
        return external(location, WEIGHT, location)

    def sparse(location: str) -> onnx.SparseTensorProto:
        return onnx.SparseTensorProto(values=weight(location), indices=weight(f"{location} indices"))

    branch = helper.make_graph([], "branch", [], [], [weight("branch")])
    node = helper.make_node("If", ["condition"], [], then_branch=branch, else_branch=branch)
    node.attribute.append(helper.make_attribute("value", weight("constant")))
    node.attribute.append(helper.make_attribute("values", [weight("list")]))
    node.attribute.append(helper.make_attribute("graphs", [branch]))
    node.attribute.append(onnx.AttributeProto(name="sparse", sparse_tensor=sparse("sparse")))
    node.attribute.append(onnx.AttributeProto(name="sparses", sparse_tensors=[sparse("sparses")]))
    inner = helper.make_node("Constant", [], ["value"], value=weight("function"))
    default = helper.make_attribute("default", weight("function attribute"))
    function = helper.make_function("calotype", "f", [], [], [inner], [], attribute_protos=[default])
    found = model(weight("initializer"), functions=[function])
    found.graph.node.append(node)
    found.graph.sparse_initializer.append(sparse("sparse initializer"))
    training = found.training_info.add()
    training.initialization.CopyFrom(helper.make_graph([], "t", [], [], [weight("initialization")]))
    training.algorithm.CopyFrom(helper.make_graph([], "t", [], [], [weight("algorithm")]))

    places = {"initializer", "branch", "constant", "list", "function", "function attribute", "initialization"}
    sparses = {"sparse", "sparses", "sparse initializer"}
    expected = places | {"algorithm"} | sparses | {f"{place} indices" for place in sparses}
    assert set(_external_data.locations(memoryview(found.SerializeToString()))) == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x3a\x05abc", "it ends in the middle of a field"),
        (b"\x3a\xff\xff", "it ends in the middle of a number"),
        (b"\x3b", "unknown wire type 3"),
        (b"\x3d\x00", "it ends in the middle of a field"),
    ],
)
def test_what_is_no_protobuf_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(BundleError, match=f"model.onnx is no ONNX graph: {message}"):
        _external_data.check(tmp_path, spec("model.onnx"))


def test_a_missing_graph_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"model.onnx is no ONNX graph: .*No such file"):
        _external_data.check(tmp_path, spec("model.onnx"))
