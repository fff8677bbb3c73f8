"""Which precision each component of a bundle computes in."""

from __future__ import annotations

import gc
from collections.abc import Mapping

import numpy as np
import torch

from calotype.manifest import Manifest
from calotype_export import signatures
from calotype_export.gates import is_black
from calotype_export.progress import Progress, silent
from calotype_export.sources import STAYS_FP32, Sources, wrapped

SEED = 0


def choose(
    sources: Sources, decided: Manifest, vae: str | None = None, progress: Progress = silent
) -> Mapping[str, str]:
    """Component -> fp32, fp16 or bf16: the bundle's own, but for those of `STAYS_FP32`, and for the VAE.

    Some public VAEs overflow in float16 and give NaN or black pictures. Where `vae` names no precision and the bundle
    is float16, the VAE is tried in it, in torch, and is float32 where it fails. bfloat16 has float32's range.
    """
    usual = decided.precision
    chosen = {name: "fp32" if usual in STAYS_FP32.get(name, ()) else usual for name in sources.components}
    if vae is not None:
        chosen["vae"] = vae
    elif chosen["vae"] == "fp16" and not vae_holds(sources, decided, progress):
        chosen["vae"] = "fp32"
    return chosen


def vae_holds(sources: Sources, decided: Manifest, progress: Progress = silent) -> bool:
    """Whether the VAE in float16 encodes and decodes what programs are compared on, to numbers and not to black."""
    names = ("vae_encoder", "vae_decoder")
    model = sources.load("vae", "fp16")
    holds = True
    for index, name in enumerate(names):
        progress("try the vae in fp16", index, len(names))
        holds = holds and _holds(sources, decided, model, name)
    progress("try the vae in fp16", len(names), len(names))
    if not holds:
        progress("the vae overflows in fp16, fp32 is taken", 1, 1)
    del model
    gc.collect()
    return holds


def _holds(sources: Sources, decided: Manifest, model: torch.nn.Module, name: str) -> bool:
    inputs = signatures.inputs(name, 1, decided, sources.sizes)
    with torch.inference_mode():
        outputs = wrapped(name, model)(signatures.example_tensors(inputs, SEED))
    found = [value.numpy() for value in outputs.values()]
    finite = all(np.isfinite(value).all() for value in found)
    return finite and not (name == "vae_decoder" and is_black(found[0]))
