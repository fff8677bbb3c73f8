"""The contact sheet of `make demo`: the demo checkpoints are compiled, drawn with in all four ways, and timed.

`python demo/sheet.py [--output FOLDER] [--backend NAME] [--steps N]` writes FOLDER/sheet.png.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from calotype import Pipeline
from calotype.images import save_png
from calotype_export.console import silence_libraries
from papercut.bundles import open_bundle
from papercut.drawing import GUIDANCE
from papercut.masks import box_around
from papercut.rendering import Render, render
from papercut.scenes import CENTRES, RADII, Item, Scene

HERE: Final = Path(__file__).resolve().parent
BUNDLES: Final = HERE / ".cache" / "bundles"
NAMES: Final = ("text-to-image", "inpainting", "depth")
CELL: Final = 224
MARGIN: Final = 12
CAPTION: Final = 44
INK: Final = (40, 44, 52)
PROMPTS: Final = (
    "a large red heart in the centre on a cream background",
    "a large yellow star at the top on a navy background",
    "a small blue circle on the left on a mint background",
    "a large striped green square on the right on a cream background",
    "a red circle to the left of a blue square on a sky background",
    "a yellow crescent above a white ring on a charcoal background",
)
SCHEDULERS: Final = ("ddim", "euler_a", "heun", "dpmpp_2m", "unipc", "lms")


@dataclass(frozen=True, slots=True)
class Cell:
    """A picture with the words below it."""

    picture: Image.Image
    caption: str


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the sheet."""

    title: str
    cells: tuple[Cell, ...]


class Artist:
    """Draws on loaded bundles, and adds up where the time goes."""

    def __init__(self, backend: str, steps: int) -> None:
        self.steps = steps
        self.seconds: dict[str, float] = {}
        self.pipelines = {name: self._loaded(name, backend) for name in NAMES}

    def draw(self, name: str, prompt: str, **request: Any) -> Image.Image:
        """One picture by the bundle `name`."""
        arguments = {"num_inference_steps": self.steps, "guidance_scale": GUIDANCE, "seed": 7} | request
        result = self.pipelines[name](prompt, **arguments)
        for stage, seconds in result.timings.items():
            self.spend(f"draw: {stage}", seconds)
        print(f"drew: {prompt}", file=sys.stderr, flush=True)
        return result.images[0]

    def spend(self, stage: str, seconds: float) -> None:
        """Add `seconds` to a stage."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    def _loaded(self, name: str, backend: str) -> Pipeline:
        begun = time.perf_counter()
        print(f"compiling: {name}", file=sys.stderr, flush=True)
        folder = open_bundle(HERE / name, BUNDLES)
        exported = time.perf_counter()
        pipeline = Pipeline.load(folder, backend)
        self.spend("compile", exported - begun)
        self.spend("load", time.perf_counter() - exported)
        return pipeline


def main() -> None:
    """Draw the sheet and say how long it took."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=HERE / "out", help="folder for the pictures")
    parser.add_argument("--backend", default="auto", help="onnxruntime, openvino, … (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=20, help="inference steps (default: %(default)s)")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    silence_libraries()
    begun = time.perf_counter()
    artist = Artist(options.backend, options.steps)
    scene = render(_scene(), 512)
    rows = (
        _prompts(artist),
        _schedulers(artist),
        _image_to_image(artist, scene),
        _inpainting(artist, scene),
        _depth(artist, scene),
    )
    path = options.output / "sheet.png"
    save_png(contact_sheet(rows), path, {"prompts": list(PROMPTS), "steps": options.steps})
    _print_times(artist.seconds, time.perf_counter() - begun)
    print(path)


def _prompts(artist: Artist) -> Row:
    return Row(
        "text to image", tuple(Cell(artist.draw("text-to-image", prompt), prompt) for prompt in PROMPTS)
    )


def _schedulers(artist: Artist) -> Row:
    prompt = PROMPTS[0]
    cells = [
        Cell(artist.draw("text-to-image", prompt, scheduler=name, seed=3), f"{name}, seed 3")
        for name in SCHEDULERS
    ]
    return Row(f"one seed, several schedulers: {prompt}", tuple(cells))


def _image_to_image(artist: Artist, scene: Render) -> Row:
    original, prompt = Image.fromarray(scene.picture), "a large red star in the centre on a cream background"
    cells = [Cell(original, "given")]
    for strength in (0.2, 0.4, 0.6, 0.8, 1.0):
        drawn = artist.draw("text-to-image", prompt, image=original, strength=strength)
        cells.append(Cell(drawn, f"strength {strength}"))
    return Row(f"image to image: {prompt}", tuple(cells))


def _inpainting(artist: Artist, scene: Render) -> Row:
    original = Image.fromarray(scene.picture)
    mask = Image.fromarray(box_around(scene.masks[0], 24).astype(np.uint8) * 255)
    cells = [Cell(original, "given"), Cell(mask, "mask: white is drawn anew")]
    for words in (
        "a large red star",
        "a large green circle",
        "a large purple cross",
        "a large orange square",
    ):
        prompt = f"{words} in the centre on a mint background"
        cells.append(Cell(artist.draw("inpainting", prompt, image=original, mask_image=mask), words))
    return Row("inpainting", tuple(cells))


def _depth(artist: Artist, scene: Render) -> Row:
    original = Image.fromarray(scene.picture)
    shown = Image.fromarray((scene.depth / scene.depth.max() * 255).astype(np.uint8))
    cells = [Cell(original, "given"), Cell(shown, "its depth: lighter is nearer")]
    for colour, ground in (("red", "cream"), ("yellow", "navy"), ("white", "charcoal"), ("pink", "lavender")):
        prompt = f"a large {colour} heart in the centre on a {ground} background"
        cells.append(Cell(artist.draw("depth", prompt, image=original, strength=1.0), prompt))
    return Row("depth to image", tuple(cells))


def _scene() -> Scene:
    heart = Item("heart", "blue", "plain", "large", CENTRES["centre"][0], RADII["large"])
    return Scene("mint", "centre", (heart,))


def contact_sheet(rows: Sequence[Row]) -> Image.Image:
    """The rows as one picture, each cell with its caption."""
    columns = max(len(row.cells) for row in rows)
    line = CELL + CAPTION + 3 * MARGIN + 10
    sheet = Image.new("RGB", (columns * (CELL + MARGIN) + MARGIN, len(rows) * line + MARGIN), (250, 250, 248))
    drawing, font, title = ImageDraw.Draw(sheet), ImageFont.load_default(12), ImageFont.load_default(16)
    for index, row in enumerate(rows):
        top = MARGIN + index * line
        drawing.text((MARGIN, top), row.title, INK, title)
        for column, cell in enumerate(row.cells):
            left = MARGIN + column * (CELL + MARGIN)
            small = cell.picture.convert("RGB").resize((CELL, CELL), Image.Resampling.LANCZOS)
            sheet.paste(small, (left, top + 24))
            drawing.multiline_text(
                (left, top + 28 + CELL), _wrapped(cell.caption, font), INK, font, spacing=2
            )
    return sheet


def _wrapped(text: str, font: Any) -> str:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) > CELL:
            lines.append(word)
        else:
            lines[-1] = longer
    return "\n".join(lines)


def _print_times(seconds: Mapping[str, float], total: float) -> None:
    for stage, spent in seconds.items():
        print(f"{stage:24} {spent:8.2f} s")
    print(f"{'everything':24} {total:8.2f} s")


if __name__ == "__main__":
    main()
