"""Pictures inside a report: maps of differences as PNG, curves as SVG."""

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


def difference(expected: str, found: str) -> str:
    """Of two PNG files in base64: how far each pixel value is apart, amplified, as a PNG file in base64."""
    left, right = (_decode(each).astype(int) for each in (expected, found))
    apart = np.clip(np.abs(left - right) * AMPLIFIED, 0, 255).astype(np.uint8)
    encoded = io.BytesIO()
    Image.fromarray(apart).save(encoded, "PNG", optimize=True)
    return base64.b64encode(encoded.getvalue()).decode()


def curves(lines: Mapping[str, Sequence[tuple[float, float]]], along: str) -> str:
    """Median seconds (y) by engine along `along` (x), as an SVG element that grows with the page."""
    figure = Figure(figsize=(4.4, 3.2), layout="constrained")
    axes = figure.add_subplot()
    for label, points in lines.items():
        axes.plot([x for x, _ in points], [y for _, y in points], marker="o", label=label)
    axes.set_xlabel(along)
    axes.set_ylabel("median seconds")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    written = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "calotype"}):
        FigureCanvasSVG(figure).print_svg(written, metadata={"Date": None})
    text = written.getvalue()
    return text[text.index("<svg") :]


def _decode(picture: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB"))
