"""The one pipeline: prompt -> tokens -> embeddings -> latents -> picture, whichever way of drawing it is."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from calotype import conditioning, denoiser, images, lora, prompts, weights
from calotype.backends import Array, BackendOptions, Row
from calotype.bundle import Bundle
from calotype.conditioning import Start
from calotype.denoiser import Conditions, Job
from calotype.draws import Draws
from calotype.errors import RequestError
from calotype.hooks import hooks
from calotype.loading import Loaded, load
from calotype.lora import LoraFile
from calotype.manifest import Manifest
from calotype.noise import Generator
from calotype.parameters import describe
from calotype.planning import plan
from calotype.request import Request
from calotype.result import Meter, Result
from calotype.schedule import Schedule
from calotype.text import Embeddings, Encoded
from calotype.tokenizer import Tokens


class Pipeline:
    """A bundle, loaded on one backend. Overlapping calls from several threads queue; pipelines are independent."""

    def __init__(self, bundle: Bundle, loaded: Loaded) -> None:
        self.bundle = bundle
        self._loaded = loaded
        self._loras: tuple[LoraFile, ...] = ()
        self._lock = threading.RLock()

    @classmethod
    def load(
        cls,
        bundle: str | Path | Bundle,
        backend: str = "auto",
        *,
        batches: Sequence[int] | None = None,
        device: str = "cpu",
        threads: int | None = None,
        graphs: bool = True,
    ) -> Pipeline:
        """Open `bundle`, check its files and load its programs.

        `batches` chooses among the bundle's step programs (None: all of them, and each takes memory);
        `threads` None leaves their number to the backend; without `graphs` a GPU is given every kernel one by one.
        BundleError, BackendError.
        """
        opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
        return cls(opened, load(opened, backend, batches, BackendOptions(device, threads, graphs)))

    @property
    def manifest(self) -> Manifest:
        """What the bundle says about itself."""
        return self.bundle.manifest

    @property
    def backend(self) -> str:
        """The backend that runs the programs."""
        return self._loaded.backend

    def __call__(self, prompt: str | Sequence[str] | Request | None = None, **arguments: Any) -> Result:
        """Draw. `arguments` are the fields of `Request`, with diffusers' names and defaults.

        RequestError says what the request contradicts; CancelledError comes from its `cancel` event; BackendError
        where the programs give NaN or black.
        """
        if isinstance(prompt, Request):
            if arguments:
                raise RequestError(
                    f"a Request was given, and `{next(iter(arguments))}` beside it",
                    "dataclasses.replace(request, ...) makes another request",
                )
            request = prompt
        else:
            request = Request.build(arguments if prompt is None else {"prompt": prompt, **arguments})
        with self._lock:
            return self._draw(request)

    def tokenize(self, prompt: str | Sequence[str]) -> list[Tokens]:
        """The token ids (T,) of each prompt, and what fell off past the model's length. RequestError for no text."""
        return self._loaded.text.tokenize(prompts.listed(prompt))

    def encode_prompt(
        self,
        prompt: str | Sequence[str],
        negative_prompt: str | Sequence[str] | None = None,
        *,
        num_images_per_prompt: int = 1,
        clip_skip: int | None = None,
    ) -> Embeddings:
        """Embeddings (n, T, D) of the prompts, each repeated `num_images_per_prompt` times in a row. RequestError."""
        request = Request(
            prompt=prompt,
            negative_prompt=negative_prompt,
            num_images_per_prompt=num_images_per_prompt,
            clip_skip=clip_skip,
        )
        settled = prompts.settle(request, self.manifest)
        with self._lock:
            return prompts.embeddings(settled, self.manifest, self._loaded.text).read()

    def encode_image(self, image: Any, generator: Generator | None = None) -> Array:
        """Latents (n, C, H, W) of pictures: a sample of the VAE's posterior, or its mean without a generator.

        RequestError where a picture cannot be read.
        """
        source: Any = generator
        if source is not None and not isinstance(source, Generator):
            raise RequestError(
                f"`generator`: expected a Generator, found {source!r}", "calotype.noise.generator(seed)"
            )
        pixels = images.to_model(image, self.manifest.height, self.manifest.width)
        with self._lock:
            moments = self._loaded.senses.vae.encode(pixels)
        return moments.mean if generator is None else moments.sample(generator.normal(moments.mean.shape))

    def decode_latents(self, latents: Array) -> Array:
        """Pictures (n, height, width, 3) in [0, 1] from latents (n, C, H, W). BackendError for NaN or black."""
        with self._lock:
            return self._loaded.senses.vae.decode(latents)

    def estimate_depth(self, image: Any) -> Array:
        """Depth (n, h, w) as the bundle's estimator predicts it: what `depth_map` takes. RequestError."""
        estimator = self._loaded.senses.depth_estimator
        if estimator is None:
            raise RequestError(f"{self.bundle.root.name} has no depth_estimator", "export a depth checkpoint")
        with self._lock:
            return estimator(images.load_images(image))

    def schedule(
        self,
        num_inference_steps: int = 50,
        *,
        scheduler: str | None = None,
        strength: float = 1.0,
        eta: float = 0.0,
        timesteps: Sequence[int] | None = None,
        sigmas: Sequence[float] | None = None,
    ) -> Schedule:
        """The table that a call with these arguments goes through; `strength` below 1 starts it late.

        `timesteps` or `sigmas` take the place of `num_inference_steps`. RequestError as from a call.
        """
        request = Request(
            prompt="",
            num_inference_steps=num_inference_steps,
            scheduler=scheduler,
            eta=eta,
            image="",
            strength=strength,
            timesteps=timesteps,
            sigmas=sigmas,
        )
        return self._schedule(request)

    def step(
        self, schedule: Schedule, row: int, state: Array, conditions: Conditions, noise: Array | None = None
    ) -> Array:
        """One row of the schedule: one UNet evaluation, guidance and solver update.

        `state` (n, S, C, H, W) comes from `initial_state` or the step before, latents in slot 0. `noise`
        (n, C, H, W) is needed where `schedule.draws[row]`. Returns the state after the row. RequestError.
        """
        with self._lock:
            return self._loaded.denoiser.step(schedule, row, state, conditions, noise)

    def initial_state(self, latents: Array) -> Array:
        """The state (n, S, C, H, W) that a hand-written loop of `step` begins with. RequestError."""
        return self._loaded.denoiser.state(latents)

    def set_lora(self, adapters: Sequence[tuple[str | Path, float]]) -> None:
        """Draw from now on with these LoRA files, each with its weight, and with no others; `[]` takes all of them off.

        Files of kohya's scripts, PEFT and diffusers. What was added is taken off exactly. What fails changes nothing:
        RequestError (no path and finite weight), CheckpointError (lists what fits none), BundleError, BackendError.
        """
        files = lora.files(adapters)
        changed = weights.with_loras(self.bundle, files)
        with self._lock:
            self._loaded.replace_weights(changed, lambda: weights.with_loras(self.bundle, self._loras))
            self._loras = files

    def close(self) -> None:
        """Release the programs."""
        with self._lock:
            for program in self._loaded.programs:
                program.close()

    def _draw(self, request: Request) -> Result:
        meter = Meter(self._loaded.programs)
        conditioning.check(request, self.manifest)
        request = prompts.settle(request, self.manifest)
        schedule = self._schedule(request)
        draws = Draws(request.seed, request.noise_source)
        embeddings = prompts.embeddings(request, self.manifest, self._loaded.text)
        start = conditioning.begin(request, self.manifest, self._loaded.senses, schedule, draws)
        rows = self._denoise(request, schedule, embeddings, start, draws)
        as_latents = request.output_type == "latent"
        decoded = [] if as_latents else self._loaded.senses.vae.launch(rows)
        latents = denoiser.read(rows, embeddings)  # a GPU is waited for here, and nowhere before
        pictures, flags = (latents, None) if as_latents else self._pictures(request, decoded, start)
        return Result(
            images=pictures,
            latents=latents,
            seeds=draws.seeds,
            timings=meter.timings(),
            device_timings=meter.device_timings(),
            truncated=self._truncated(request.prompt),
            negative_truncated=self._truncated(request.negative_prompt),
            nsfw_content_detected=flags,
            backend=self.backend,
            evaluations=len(schedule),
            parameters=describe(request, self.bundle, schedule, draws.seeds, self.backend, self._loras),
        )

    def _truncated(self, prompt: str | Sequence[str] | None) -> tuple[str, ...]:
        return tuple(tokens.truncated for tokens in self.tokenize(prompt or ()))

    def _schedule(self, request: Request) -> Schedule:
        return plan(request, self._loaded.scheduler, self.manifest.state_slots)

    def _denoise(
        self, request: Request, schedule: Schedule, embeddings: Encoded, start: Start, draws: Draws
    ) -> list[Row]:
        rows = [int(row) for row in np.flatnonzero(schedule.draws)]
        noise = {row: draws.normal(start.latents.shape) for row in rows}
        conditions = Conditions(embeddings, request.guidance, request.guidance_rescale, start.extras)
        job = Job(schedule, start.latents, conditions, noise)
        return self._loaded.denoiser.run(job, hooks(request, schedule, self))

    def _pictures(self, request: Request, decoded: list[Row], start: Start) -> tuple[Any, list[bool] | None]:
        pictures = self._loaded.senses.vae.read(decoded)
        flags = None
        if self._loaded.safety_checker is not None:
            flags = self._loaded.safety_checker(pictures)
            pictures[np.asarray(flags)] = 0.0
        if request.output_type == "np":
            return pictures, flags
        return conditioning.pasted(images.to_pil(pictures), request, start), flags
