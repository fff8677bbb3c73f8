"""Image processors and the safety decision: sizes, records, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from calotype.errors import BundleError, CheckpointError
from calotype.processors import ImageProcessor, center_crop, flagged

CLIP = {"image_processor_type": "CLIPImageProcessor"}
DPT = {"image_processor_type": "DPTImageProcessor"}
VIT = {"image_processor_type": "ViTImageProcessor"}


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    for config in (CLIP, DPT, VIT, {**DPT, "do_normalize": False, "do_rescale": False, "do_resize": False}):
        made = ImageProcessor.from_config(config)
        (tmp_path / "record.json").write_text(json.dumps({**made.to_json(), "special_thresholds": [1.0]}))
        assert ImageProcessor.load(tmp_path / "record.json") == made


def test_older_configs_with_one_number_for_a_size_mean_the_same() -> None:
    older = {"feature_extractor_type": "CLIPFeatureExtractor", "size": 224, "crop_size": 224}
    assert ImageProcessor.from_config(older) == ImageProcessor.from_config(CLIP)
    older = {"feature_extractor_type": "DPTFeatureExtractor", "size": 384}
    assert ImageProcessor.from_config(older) == ImageProcessor.from_config(DPT)


@pytest.mark.parametrize(
    ("config", "size", "expected"),
    [
        (CLIP, (100, 333), (224, 224)),
        (DPT, (100, 333), (384, 384)),
        ({**VIT, "size": 352}, (100, 333), (352, 352)),
        ({**DPT, "keep_aspect_ratio": True, "ensure_multiple_of": 32}, (480, 640), (384, 512)),
        ({**DPT, "do_resize": False}, (31, 47), (31, 47)),
        ({**CLIP, "do_center_crop": False}, (100, 333), (224, 745)),
    ],
)
def test_pixel_values_have_the_size_that_was_announced(
    config: dict[str, Any], size: tuple[int, int], expected: tuple[int, int]
) -> None:
    processor = ImageProcessor.from_config(config)
    values = processor(Image.new("L", (size[1], size[0])))
    assert processor.output_size(*size) == expected
    assert (values.shape, values.dtype) == ((1, 3, *expected), np.float32)


def test_steps_that_are_left_out_leave_pixels_as_they_are() -> None:
    config = {**DPT, "do_resize": False, "do_rescale": False, "do_normalize": False}
    pixels = np.random.default_rng(0).integers(0, 256, (8, 9, 3), np.uint8)
    values = ImageProcessor.from_config(config)(Image.fromarray(pixels))
    assert np.array_equal(values[0], pixels.transpose(2, 0, 1))


def test_a_crop_larger_than_the_picture_has_zeros_around() -> None:
    cropped = center_crop(np.ones((3, 10, 1), np.uint8), 6, 4)
    assert cropped[..., 0].tolist() == [[0] * 4, [0] * 4, [1] * 4, [1] * 4, [1] * 4, [0] * 4]


@pytest.mark.parametrize("content", [None, "{", "\x00"])
def test_a_record_that_cannot_be_read_is_named(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "record.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(BundleError, match=r"record\.json: the image processor could not be read"):
        ImageProcessor.load(path)


@pytest.mark.parametrize("content", ["[]", '{"height": 1, "width": 1}'])
def test_a_record_without_its_fields_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "record.json").write_text(content)
    with pytest.raises(BundleError, match=r"this image processor has no .*resample, crop, rescale_factor"):
        ImageProcessor.load(tmp_path / "record.json")


@pytest.mark.parametrize(
    ("config", "found"),
    [({}, "no class name"), ({"image_processor_type": "BlipImageProcessor"}, "BlipImageProcessor")],
)
def test_another_class_is_named(config: dict[str, Any], found: str) -> None:
    with pytest.raises(CheckpointError, match=f"expected the class of CLIP, DPT, ViT, found {found}"):
        ImageProcessor.from_config(config)


def test_padding_is_refused() -> None:
    with pytest.raises(CheckpointError, match="expected `do_pad` false, found true"):
        ImageProcessor.from_config({**DPT, "do_pad": True})


@pytest.mark.parametrize("size", [{"longest_edge": 4}, "224", {"shortest_edge": 1, "longest_edge": 4}])
def test_a_size_of_another_kind_is_named(size: Any) -> None:
    with pytest.raises(CheckpointError, match="expected a size of height and width or shortest_edge, found"):
        ImageProcessor.from_config({**CLIP, "size": size})


def test_a_crop_without_height_and_width_is_named() -> None:
    with pytest.raises(
        CheckpointError, match=r"expected a crop of height and width, found \{'shortest_edge': 5\}"
    ):
        ImageProcessor.from_config({**CLIP, "crop_size": {"shortest_edge": 5}})


def decided(special: list[float], concepts: list[float]) -> bool:
    thresholds = np.full(len(special), 0.2), np.full(len(concepts), 0.2)
    return bool(flagged(np.array([special]), np.array([concepts]), *thresholds)[0])


def test_a_concept_over_its_threshold_is_flagged() -> None:
    assert decided([0.1, 0.1], [0.1, 0.21])
    assert not decided([0.1, 0.1], [0.1, 0.19])


def test_half_a_thousandth_over_the_threshold_is_rounded_away() -> None:
    assert not decided([0.1], [0.2004])
    assert decided([0.1], [0.2006])


def test_a_special_concept_lowers_the_other_thresholds() -> None:
    assert decided([0.21, 0.1], [0.195])
    assert not decided([0.21, 0.1], [0.185])


def test_pictures_are_judged_one_by_one() -> None:
    special, concepts = np.array([[0.3], [0.1]]), np.array([[0.195], [0.195]])
    assert flagged(special, concepts, np.array([0.2]), np.array([0.2])).tolist() == [True, False]
