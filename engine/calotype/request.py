"""What a user asks for: one frozen record with diffusers' names and defaults, checked when it is made."""

from __future__ import annotations

import dataclasses
import difflib
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from calotype.errors import RequestError

Array = NDArray[Any]
Picture = Any  # PIL.Image.Image, array, path, bytes, or a list of those
Callback = Callable[[Any, int, float, dict[str, Array]], Mapping[str, Array] | None]
Progress = Callable[[int, int], None]  # (rows done, rows) before each row of each chunk

OUTPUT_TYPES = ("pil", "np", "latent")
_ARRAYS = (
    "masked_image_latents", "depth_map", "latents", "prompt_embeds", "negative_prompt_embeds", "timesteps", "sigmas",
)  # fmt: skip

# What diffusers' pipelines take and this one does not, and what to do in its place.
_OF_DIFFUSERS: Final[Mapping[str, str]] = {
    "generator": "give `seed`: it draws what torch.Generator().manual_seed(seed) would",
    "steps": "did you mean `num_inference_steps`?",
    "return_dict": "a `Result` is always returned; its pictures are `.images`",
    "cross_attention_kwargs": "weights of LoRA files are set with `pipeline.set_lora`",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One call of the pipeline, for all four ways of drawing.

    The names, meanings and defaults are those of diffusers' `StableDiffusionPipeline`, its image-to-image,
    inpainting and depth-to-image siblings. Beyond them: `seed` (one int is one generator that draws the
    whole request, a list is one a picture), `scheduler` (a diffusers class name or a short one),
    `mask_prompt` (the mask in words), `noise_source` (`cpu` or `cuda`), `cancel` (an event that stops the
    request between two steps) and `progress` (called with rows done and rows). RequestError says what contradicts what.

    `callback_on_step_end(pipeline, row, timestep, values)` is called after each row of each chunk: pictures beyond the
    bundle's largest batch go through all rows after the ones before them. `values` holds the chunk's `latents`
    (b, C, H, W), which it may change in place or return others of, and `pictures` (b,), their numbers in the request.
    """

    prompt: str | Sequence[str] | None = None
    negative_prompt: str | Sequence[str] | None = None
    image: Picture = None
    mask_image: Picture = None
    mask_prompt: str | None = None
    padding_mask_crop: int | None = None
    masked_image_latents: Array | None = None  # (n, C, H, W), scaled
    depth_map: Array | None = None  # (n, h, w), nearer is larger
    strength: float | None = None  # None: 1.0 with a mask, 0.8 with an image otherwise
    height: int | None = None
    width: int | None = None
    num_inference_steps: int = 50
    timesteps: Sequence[int] | None = None
    sigmas: Sequence[float] | None = None
    guidance_scale: float | None = None  # None: 7.5, or no guidance where the bundle has none
    guidance_rescale: float = 0.0
    num_images_per_prompt: int = 1
    eta: float = 0.0
    clip_skip: int | None = None
    latents: Array | None = None  # (n, C, H, W), unit variance
    prompt_embeds: Array | None = None  # (prompts, T, D)
    negative_prompt_embeds: Array | None = None
    output_type: str = "pil"
    callback_on_step_end: Callback | None = None
    seed: int | Sequence[int] | None = None
    scheduler: str | None = None
    noise_source: str = "cpu"
    cancel: threading.Event | None = None
    progress: Progress | None = None

    @classmethod
    def build(cls, arguments: Mapping[str, Any]) -> Request:
        """A request from keyword arguments; an unknown one is an error that suggests the nearest name."""
        names = [field.name for field in dataclasses.fields(cls)]
        for name in arguments:
            if name not in names:
                near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
                hint = f"did you mean `{near[0]}`?" if near else f"the arguments are {', '.join(names)}"
                raise RequestError(f"the pipeline takes no argument `{name}`", _OF_DIFFUSERS.get(name, hint))
        return cls(**arguments)

    def __post_init__(self) -> None:
        _check_arrays(self)
        _check_texts(self)
        _check_numbers(self)
        _check_pictures(self)
        _check_callables(self)

    @property
    def prompt_count(self) -> int:
        """How many prompts there are; each is drawn `num_images_per_prompt` times."""
        if self.prompt_embeds is not None:
            return len(self.prompt_embeds)
        return 1 if isinstance(self.prompt, str) else len(self.prompt or ())

    @property
    def image_count(self) -> int:
        """How many pictures the request draws."""
        return self.prompt_count * self.num_images_per_prompt

    @property
    def has_mask(self) -> bool:
        """Whether only a part of the picture is to be drawn."""
        return self.mask_image is not None or self.mask_prompt is not None

    @property
    def guidance(self) -> float:
        """`guidance_scale`, with diffusers' default."""
        return 7.5 if self.guidance_scale is None else self.guidance_scale

    @property
    def noise_share(self) -> float:
        """`strength`, with the default of the diffusers pipeline that would draw this request."""
        if self.strength is not None:
            return self.strength
        return 1.0 if self.image is None or self.has_mask else 0.8


def described(array: Array) -> str:
    """What messages say of an array that was expected to be finite and of another shape."""
    finite = array.dtype.kind not in "fc" or bool(np.isfinite(array).all())
    return f"shape {array.shape}" + ("" if finite else " with numbers that are not finite")


def _check_callables(request: Request) -> None:
    for name in ("callback_on_step_end", "progress"):
        value = getattr(request, name)
        if value is not None and not callable(value):
            raise RequestError(f"`{name}`: expected a function, found {value!r}")
    if request.cancel is not None and not callable(getattr(request.cancel, "is_set", None)):
        raise RequestError(f"`cancel`: expected a threading.Event, found {request.cancel!r}")
    scheduler: Any = request.scheduler
    if scheduler is not None and not isinstance(scheduler, str):
        raise RequestError(f"`scheduler`: expected a name, found {scheduler!r}")


def _check_arrays(request: Request) -> None:
    for name in _ARRAYS:
        value = getattr(request, name)
        if value is None:
            continue
        try:
            found = np.asarray(value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise RequestError(f"`{name}`: expected an array of numbers: {error}") from error
        if found.dtype.kind in "OSUMmc" or not found.ndim or not found.size:
            raise RequestError(
                f"`{name}`: expected an array of numbers, found {type(value).__name__} "
                f"of shape {found.shape} and type {found.dtype}"
            )
        least = {"timesteps": 1, "sigmas": 2}.get(name)  # the last of the sigmas is where the last step ends
        if least and (found.ndim > 1 or len(found) < least or not (np.isfinite(found) & (found >= 0)).all()):
            raise RequestError(f"`{name}`: expected {least} or more numbers from 0 on, found {value!r}")


def _check_texts(request: Request) -> None:
    if (request.prompt is None) == (request.prompt_embeds is None):
        found = "neither" if request.prompt is None else "both"
        raise RequestError(f"expected either `prompt` or `prompt_embeds`, found {found}", "give exactly one")
    if request.negative_prompt is not None and request.negative_prompt_embeds is not None:
        raise RequestError("`negative_prompt` and `negative_prompt_embeds` exclude each other", "give either")
    for name in ("prompt", "negative_prompt"):
        texts = getattr(request, name)
        listed = (
            isinstance(texts, Sequence) and len(texts) > 0 and all(isinstance(text, str) for text in texts)
        )
        if texts is not None and not isinstance(texts, str) and not listed:
            raise RequestError(f"`{name}`: expected a string or a list of strings, found {texts!r}")
    negative = request.negative_prompt
    if negative is not None and not isinstance(negative, str) and len(negative) != request.prompt_count:
        raise RequestError(
            f"`negative_prompt`: expected {request.prompt_count} strings, one a prompt, found {len(negative)}",
            "give one string for all prompts, or one each",
        )


def _check_numbers(request: Request) -> None:
    _whole(request, "num_inference_steps", 1)
    _whole(request, "num_images_per_prompt", 1)
    _whole(request, "clip_skip", 0)
    _whole(request, "padding_mask_crop", 0)
    if request.guidance_scale is not None:
        _finite(request, "guidance_scale")
    for name in ("guidance_rescale", "eta", "strength"):
        value = getattr(request, name)
        if value is not None and not 0.0 <= _finite(request, name) <= 1.0:
            raise RequestError(f"`{name}`: expected a number from 0 to 1, found {value!r}")
    for name in ("height", "width"):
        value = getattr(request, name)
        if value is not None and (not isinstance(value, (int, np.integer)) or value <= 0 or value % 8):
            raise RequestError(f"`{name}`: expected a positive multiple of 8, found {value!r}")
    if request.output_type not in OUTPUT_TYPES:
        raise RequestError(
            f"`output_type`: expected one of {', '.join(OUTPUT_TYPES)}, found {request.output_type!r}",
            "wrap the array of `np` or `latent` yourself where you need another type",
        )
    listed: Any = request.seed
    seeds: list[Any] = list(listed) if isinstance(listed, Sequence) else [listed]
    if isinstance(listed, Sequence) and len(seeds) != request.image_count:
        raise RequestError(
            f"`seed`: expected one int, or a list of {request.image_count}, one a picture; found {len(seeds)}"
        )
    for value in seeds:
        if value is not None and (not isinstance(value, (int, np.integer)) or isinstance(value, bool)):
            raise RequestError(f"`seed`: expected an int or a list of ints, found {value!r}")
    if request.timesteps is not None and request.sigmas is not None:
        raise RequestError("`timesteps` and `sigmas` exclude each other", "give one of them")


def _check_pictures(request: Request) -> None:
    if request.mask_image is not None and request.mask_prompt is not None:
        raise RequestError("`mask_image` and `mask_prompt` exclude each other", "give one of them")
    if request.has_mask and request.image is None:
        raise RequestError("a mask was given, but no `image` to keep a part of", "give `image` too")
    if request.strength is not None and request.image is None:
        raise RequestError("`strength` was given, but no `image` to start from", "give `image` too")
    if request.masked_image_latents is not None and not request.has_mask:
        raise RequestError("`masked_image_latents` was given, but no mask", "give `mask_image` too")
    if request.padding_mask_crop is not None and (request.mask_image is None or request.output_type != "pil"):
        raise RequestError('`padding_mask_crop` needs `mask_image` and `output_type="pil"`')
    if request.image is not None and request.latents is not None and not request.has_mask:
        raise RequestError("`image` and `latents` exclude each other without a mask", "give one of them")


def _finite(request: Request, name: str) -> float:
    value = getattr(request, name)
    number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    plain = value.item() if isinstance(value, np.generic) else value
    if not (number and abs(plain) <= sys.float_info.max):
        raise RequestError(f"`{name}`: expected a finite number, found {value!r}")
    return float(value)


def _whole(request: Request, name: str, least: int) -> None:
    value = getattr(request, name)
    if value is None and name in ("clip_skip", "padding_mask_crop"):
        return
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise RequestError(f"`{name}`: expected a whole number of at least {least}, found {value!r}")
