"""Picture files: PNG, JPEG and WEBP in, within limits; PNG out, with how it was made in its metadata."""

from __future__ import annotations

import io
import json
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, PngImagePlugin

from calotype.errors import RequestError
from calotype.files import placed

Source = str | Path | bytes | Image.Image | NDArray[Any]

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_BYTES = 64 * 2**20
MAX_PIXELS = 2**26  # 8192 x 8192, 192 MiB decoded

_UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError, struct.error)
_IPTC = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_XMP = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\
<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" \
Iptc4xmpExt:DigitalSourceType="{}"/></rdf:RDF></x:xmpmeta>"""


def load_image(source: Source) -> Image.Image:
    """One picture as RGB, a file upright by its EXIF orientation. A PIL image stays as it lies, as diffusers has it.

    `source` is a path, a file's bytes, a PIL image, or an array (h, w) or (h, w, 1, 3 or 4) of uint8 or of
    floats in [0, 1]. Transparency is dropped (as diffusers' `load_image` does), 16-bit grey keeps its high
    byte. RequestError when the file is missing, too large, damaged or of another format; its size in bytes
    and in pixels is checked before anything is decoded.
    """
    return _converted(open_picture(source), "RGB")


def open_picture(source: Source) -> Image.Image:
    """As `load_image`, but of the mode that it has (masks are resized in it, as diffusers does)."""
    if isinstance(source, Image.Image):
        _check_pixels(source.size, "picture")
        _load(source, "picture")
        return source
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, (str, Path)):
        return _decoded(_read(Path(source)), str(source))
    if isinstance(source, bytes):  # pyright: ignore[reportUnnecessaryIsInstance]
        return _decoded(source, "picture")
    raise RequestError(
        f"picture: expected a path, bytes, a PIL image or an array, found {type(source).__name__}",
        "open it with PIL.Image.open, or give its path",
    )


def save_png(image: Image.Image, path: str | Path, parameters: Mapping[str, Any]) -> None:
    """Write `image` with how it was made, beside `path` and then renamed into place.

    Chunk `calotype` holds `parameters` as JSON, `parameters` the line that other tools read, `Software` the
    program's name, and the XMP IPTC's mark of AI-generated media. OutputError when it cannot be written,
    RequestError for another ending than .png.
    """
    target = Path(path)
    if target.suffix.lower() != ".png":
        raise RequestError(
            f"{target}: pictures are written as PNG, found the ending {target.suffix!r}", "use .png"
        )
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("Software", "Calotype")
    chunks.add_text("calotype", json.dumps(dict(parameters)))
    chunks.add_text("parameters", _infotext(parameters))
    edited = "mask_image" in parameters or "mask_prompt" in parameters
    kind = "compositeWithTrainedAlgorithmicMedia" if edited else "trainedAlgorithmicMedia"
    chunks.add_itxt("XML:com.adobe.xmp", _XMP.format(_IPTC + kind))
    with placed(target, "the picture") as partial, partial.open("xb") as file:
        image.save(file, format="PNG", pnginfo=chunks)


def read_parameters(path: str | Path) -> dict[str, Any]:
    """What `save_png` wrote into the picture at `path`; RequestError when there is nothing of it."""
    with _opened(_read(Path(path)), str(path)) as image:
        text = image.info.get("calotype")
    if not isinstance(text, str):
        raise RequestError(
            f"{path}: no generation parameters in this picture", "other tools may have removed them"
        )
    try:
        parameters = json.loads(text)
    except ValueError as error:
        raise RequestError(f"{path}: the generation parameters are no JSON: {error}") from error
    if not isinstance(parameters, dict):
        raise RequestError(f"{path}: the generation parameters should be a JSON object, found {text[:40]!r}")
    return parameters


def _read(path: Path) -> bytes:
    try:
        _check_bytes(path.stat().st_size, str(path))
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)  # a pipe or a device does not tell its size
    except (OSError, ValueError) as error:  # ValueError: a path that holds NUL
        reason = getattr(error, "strerror", None) or error
        raise RequestError(f"{path}: the picture could not be read: {reason}") from error


def _opened(data: bytes, name: str) -> Image.Image:
    """The picture of a file's bytes with its header read and its limits checked, not yet decoded."""
    _check_bytes(len(data), name)
    expected = ", ".join(FORMATS)
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        found = re.search(r"\d+", str(error))
        raise RequestError(
            f"{name}: expected at most {MAX_PIXELS} pixels, found {found[0] if found else 'more'}",
            "make it smaller",
        ) from error
    except _UNREADABLE as error:
        raise RequestError(
            f"{name}: expected a picture in {expected}, found {len(data)} bytes that begin {data[:8]!r}",
            "convert it to PNG",
        ) from error
    _check_pixels(image.size, name)
    return image


def _decoded(data: bytes, name: str) -> Image.Image:
    image = _opened(data, name)
    _load(image, name)
    try:
        return ImageOps.exif_transpose(image)
    except _UNREADABLE as error:
        raise RequestError(f"{name}: the picture's EXIF data is damaged: {error}") from error


def _load(image: Image.Image, name: str) -> None:
    """Decode what was opened and not yet decoded."""
    try:
        image.load()
    except _UNREADABLE as error:
        raise RequestError(f"{name}: the {image.format} picture is truncated or damaged: {error}") from error


def _check_bytes(size: int, name: str) -> None:
    if size > MAX_BYTES:
        raise RequestError(
            f"{name}: expected a file of at most {MAX_BYTES} bytes, found {size}", "make it smaller"
        )


def _check_pixels(size: tuple[int, int], name: str) -> None:
    width, height = size
    if not 0 < width * height <= MAX_PIXELS:
        raise RequestError(
            f"{name}: expected 1 to {MAX_PIXELS} pixels, found {width}x{height} = {width * height}",
            "make it smaller" if width * height else "give a picture that is not empty",
        )


def _from_array(array: NDArray[Any]) -> Image.Image:
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.ndim not in (2, 3) or channels not in (1, 3, 4):
        raise RequestError(
            f"picture array: expected shape (h, w) or (h, w, 1, 3 or 4), found {array.shape}",
            "channels come last; give a list for several pictures",
        )
    _check_pixels((array.shape[1], array.shape[0]), "picture array")
    if array.dtype == np.bool_:
        array = array.astype(np.float32)
    if array.dtype != np.uint8:
        check_range(array, 0.0)
        array = np.rint(array * 255.0).astype(np.uint8)
    return Image.fromarray(array if array.ndim == 2 or channels > 1 else array[..., 0])


def check_range(array: NDArray[Any], lowest: float) -> None:
    """RequestError unless `array` holds floats from `lowest` to 1."""
    if not np.issubdtype(array.dtype, np.floating):
        raise RequestError(f"picture array: expected uint8 or floats, found {array.dtype}")
    least, most = (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
    if not lowest <= least <= most <= 1.0:
        raise RequestError(
            f"picture array: expected floats from {lowest:g} to 1, found {least:g} to {most:g}",
            "divide by 255, or give uint8",
        )


def _converted(image: Image.Image, mode: str) -> Image.Image:
    """`image` in `mode`; Pillow would clip 16-bit grey at 255, here it keeps its high byte."""
    if image.mode.startswith("I"):
        image = Image.fromarray((np.clip(np.asarray(image), 0, 65535) // 256).astype(np.uint8))
    return image.convert(mode)


def _infotext(parameters: Mapping[str, Any]) -> str:
    """The text of AUTOMATIC1111's `parameters` chunk: prompt, negative prompt, settings."""
    found = {name: value for name, value in parameters.items() if not isinstance(value, (list, tuple, dict))}
    names = {
        "num_inference_steps": "Steps", "scheduler": "Sampler", "guidance_scale": "CFG scale", "seed": "Seed",
        "strength": "Denoising strength", "eta": "Eta",
    }  # fmt: skip
    settings = [f"{label}: {found[name]}" for name, label in names.items() if found.get(name) is not None]
    if "width" in found and "height" in found:
        settings.append(f"Size: {found['width']}x{found['height']}")
    if found.get("clip_skip"):
        settings.append(f"Clip skip: {found['clip_skip'] + 1}")  # counted from 1 there
    lines = [str(found.get("prompt", ""))]
    if found.get("negative_prompt"):
        lines.append(f"Negative prompt: {found['negative_prompt']}")
    text = "\n".join([*lines, ", ".join([*settings, "Version: Calotype"])])
    return text.encode("utf-8", "replace").decode()
