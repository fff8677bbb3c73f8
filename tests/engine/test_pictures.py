"""Pictures that are read: formats, limits, and what is refused."""

from __future__ import annotations

import io
import os
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from calotype import images, pictures
from calotype.errors import RequestError
from tests.engine.random_pictures import picture

Array = NDArray[Any]


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(b"\x00" * 64)
    chunks = [(b"IHDR", header), (b"IDAT", data), (b"IEND", b"")]
    parts = [struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


class TestLoading:
    @pytest.mark.parametrize("kind", pictures.FORMATS)
    def test_files_bytes_paths_and_strings_give_the_same_picture(self, tmp_path: Path, kind: str) -> None:
        data = encoded(picture(), kind)
        path = tmp_path / "picture"
        path.write_bytes(data)
        loaded = [np.asarray(images.load_image(source)) for source in (data, path, str(path))]
        assert loaded[0].shape == (24, 40, 3)
        assert all(np.array_equal(loaded[0], each) for each in loaded)

    def test_a_picture_is_turned_upright_by_its_exif_orientation(self) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6  # turned by a quarter, clockwise
        data = encoded(picture(), "PNG", exif=exif)
        turned = images.load_image(data)
        assert np.array_equal(np.asarray(turned), np.rot90(np.asarray(picture()), -1))
        with Image.open(io.BytesIO(data)) as opened:  # whose pixels a mask may have been made of
            assert np.array_equal(np.asarray(images.load_image(opened)), np.asarray(picture()))

    @pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK"])
    def test_every_mode_becomes_rgb(self, mode: str) -> None:
        assert images.load_image(picture().convert(mode)).mode == "RGB"

    def test_transparency_is_dropped(self) -> None:
        clear = picture()
        clear.putalpha(0)
        assert np.array_equal(np.asarray(images.load_image(clear)), np.asarray(picture()))

    def test_sixteen_bit_grey_keeps_its_high_byte(self) -> None:
        grey = np.arange(0, 65536, 1024, dtype=np.uint16).reshape(8, 8)
        loaded = images.load_image(encoded(Image.fromarray(grey), "PNG"))
        assert np.array_equal(np.asarray(loaded)[..., 0], grey // 256)

    @pytest.mark.parametrize("dtype", ["uint8", "float32"])
    def test_arrays_are_pictures(self, dtype: str) -> None:
        pixels = np.asarray(picture())
        given = pixels if dtype == "uint8" else (pixels / 255).astype(np.float32)
        assert np.array_equal(np.asarray(images.load_image(given)), pixels)
        assert images.load_image(given[..., 0]).mode == "RGB"

    def test_lists_and_batches_give_one_picture_each(self) -> None:
        batch = np.stack([np.asarray(picture(seed=seed)) for seed in range(3)])
        assert len(images.load_images(batch)) == len(images.load_images(list(batch))) == 3
        assert len(images.load_images(picture())) == 1

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(RequestError, match=r"absent\.png: the picture could not be read: No such file"):
            images.load_image(tmp_path / "absent.png")

    @pytest.mark.parametrize("data", [b"", b"GIF89a" + bytes(40), b"<svg></svg>", encoded(picture(), "BMP")])
    def test_an_unknown_format_is_named(self, data: bytes) -> None:
        with pytest.raises(
            RequestError, match=rf"expected a picture in PNG, JPEG, WEBP, found {len(data)} bytes"
        ):
            images.load_image(data)

    @pytest.mark.parametrize("kind", pictures.FORMATS)
    def test_a_truncated_file_is_named(self, kind: str) -> None:
        data = encoded(picture(200, 200), kind)
        with pytest.raises(
            RequestError, match=rf"the {kind} picture is truncated or damaged|expected a picture in"
        ):
            images.load_image(data[: len(data) // 2])

    def test_a_truncated_file_that_was_opened_already_is_named(self) -> None:
        data = encoded(picture(200, 200), "PNG")
        with (
            Image.open(io.BytesIO(data[: len(data) // 2])) as opened,
            pytest.raises(RequestError, match="picture: the PNG picture is truncated or damaged"),
        ):
            images.load_image(opened)

    def test_a_path_that_no_file_can_have_is_named(self) -> None:
        with pytest.raises(RequestError, match="the picture could not be read: embedded null byte"):
            images.load_image("a\0b")

    @pytest.mark.parametrize("size", [(9000, 9000), (12000, 12000), (60000, 60000)])
    def test_a_picture_bomb_is_refused_before_it_is_decoded(self, size: tuple[int, int]) -> None:
        with pytest.raises(RequestError, match=rf"expected (1 to|at most) {pictures.MAX_PIXELS} pixels"):
            images.load_image(png_header(*size))

    def test_too_many_bytes_are_refused_unread(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "large.png"
        with path.open("wb") as file:
            file.truncate(pictures.MAX_BYTES + 1)
        monkeypatch.setattr(Path, "open", lambda *_: pytest.fail("it was opened"))
        with pytest.raises(
            RequestError, match=rf"at most {pictures.MAX_BYTES} bytes, found {pictures.MAX_BYTES + 1}"
        ):
            images.load_image(path)

    def test_no_more_than_that_is_read_of_what_tells_no_size(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pictures, "MAX_BYTES", 1000)
        with pytest.raises(
            RequestError, match="/dev/zero: expected a file of at most 1000 bytes, found 1001"
        ):
            images.load_image("/dev/zero")

    def test_a_picture_is_read_from_a_pipe(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        with ThreadPoolExecutor(1) as thread:
            thread.submit((tmp_path / "pipe").write_bytes, encoded(picture(), "PNG"))
            loaded = images.load_image(tmp_path / "pipe")
        assert np.array_equal(np.asarray(loaded), np.asarray(picture()))

    def test_damaged_exif_data_is_named(self) -> None:
        with pytest.raises(RequestError, match="picture: the picture's EXIF data is damaged"):
            images.load_image(encoded(picture(), "PNG", exif=b"Exif\x00\x00no TIFF"))

    def test_an_empty_picture_is_refused(self) -> None:
        with pytest.raises(RequestError, match=r"expected 1 to .* pixels, found 0x4 = 0"):
            images.load_image(Image.new("RGB", (0, 4)))

    @pytest.mark.parametrize("source", [None, 3, {"image": 1}])
    def test_what_is_no_picture_is_named(self, source: Any) -> None:
        with pytest.raises(RequestError, match=f"a PIL image or an array, found {type(source).__name__}"):
            images.load_image(source)

    @pytest.mark.parametrize("shape", [(4,), (4, 4, 2), (2, 4, 4, 3)])
    def test_an_array_of_another_layout_is_named(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(
            RequestError, match=r"expected shape \(h, w\) or \(h, w, 1, 3 or 4\), found \(4|found \(2"
        ):
            images.load_image(np.zeros(shape, np.uint8))

    @pytest.mark.parametrize(
        ("value", "found"), [(255.0, "0 to 255"), (-0.5, "-0.5 to 0"), (np.nan, "nan to nan")]
    )
    def test_an_array_of_other_numbers_is_named(self, value: float, found: str) -> None:
        array = np.zeros((4, 4, 3), np.float32)
        array[1] = value
        with pytest.raises(RequestError, match=f"expected floats from 0 to 1, found {found}"):
            images.load_image(array)

    def test_an_array_of_integers_is_named(self) -> None:
        with pytest.raises(RequestError, match="expected uint8 or floats, found int64"):
            images.load_image(np.zeros((4, 4, 3), np.int64))

    def test_no_picture_at_all_is_refused(self) -> None:
        with pytest.raises(RequestError, match="expected at least one, found none"):
            images.load_images([])
