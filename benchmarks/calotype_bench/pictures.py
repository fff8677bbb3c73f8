"""Pictures inside a report: lossless WebP, maps of differences among them, and curves as SVG."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from PIL import Image

AMPLIFIED = 16  # times, in a map of differences


def encode(picture: Image.Image) -> str:
    """A picture as a lossless WebP file in base64."""
    written = io.BytesIO()
    picture.save(written, "WEBP", lossless=True, quality=100, method=6)
    return base64.b64encode(written.getvalue()).decode()


def decode(picture: str) -> Image.Image:
    """What `encode` was given."""
    return Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")


def difference(expected: str, found: str) -> str:
    """Of two encoded pictures: how far each pixel value is apart, amplified, as one more."""
    left, right = (np.asarray(decode(each)).astype(int) for each in (expected, found))
    return encode(Image.fromarray(np.clip(np.abs(left - right) * AMPLIFIED, 0, 255).astype(np.uint8)))


def curves(lines: Mapping[str, Sequence[tuple[float, float]]], along: str) -> str:
    """Median seconds (y) by engine along `along` (x), as an SVG element that grows with the page."""
    figure = Figure(figsize=(4.4, 3.2 + 0.12 * len(lines)), layout="constrained")
    axes = figure.add_subplot()
    for label, points in lines.items():
        axes.plot([x for x, _ in points], [y for _, y in points], marker="o", label=label)
    axes.set_xlabel(along)
    axes.set_ylabel("median seconds")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    figure.legend(fontsize="small", loc="outside lower center", ncols=2)  # covers no point
    written = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "calotype"}):
        FigureCanvasSVG(figure).print_svg(written, metadata={"Date": None})
    text = written.getvalue()
    return text[text.index("<svg") :]
