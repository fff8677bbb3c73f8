"""Writes schedules.json: what diffusers' own schedulers do in a few short schedules, for tests without torch.

python -m tests.engine.golden.make_schedules
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import diffusers
import pytest

from calotype import schedulers
from calotype.schedule import ScheduleOptions
from tests.parity.scheduler_probe import in_float64, probe

_SD15: Mapping[str, Any] = {
    "_class_name": "PNDMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
}
_DEMO: Mapping[str, Any] = {
    **_SD15,
    "_class_name": "DDIMScheduler",
    "beta_end": 0.03,
    "prediction_type": "v_prediction",
    "timestep_spacing": "trailing",
    "rescale_betas_zero_snr": True,
}


CONFIGS = {"sd15": _SD15, "demo": _DEMO}


def requests() -> Iterator[tuple[str, str, ScheduleOptions]]:
    for name in schedulers.names():
        yield name, "sd15", ScheduleOptions(5, eta=0.5)
        yield name, "sd15", ScheduleOptions(6, start=2)
        yield name, "demo", ScheduleOptions(3)


def main() -> None:
    diffusers.utils.logging.set_verbosity_error()
    cases: list[dict[str, Any]] = []
    for name, config, options in requests():
        with pytest.MonkeyPatch.context() as patch:
            scheduler = in_float64(schedulers.select(name, CONFIGS[config]), options)
            found = probe(scheduler, options, patch)
        cases.append(
            {
                "name": name,
                "config": config,
                "options": [options.num_inference_steps, options.start, options.eta],
                "timesteps": [round(float(t), 3) for t in found.timesteps],
                "draws": found.draws,
                "init_noise_sigma": float(f"{found.init_noise_sigma:.7g}"),
                "add_noise": [[float(f"{weight:.7g}") for weight in mix] for mix in found.mixes],
                "latents": [float(f"{weight:.7g}") for weight in found.latents[-1]],
            }
        )
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    text = f'{{"configs":{json.dumps(CONFIGS)},\n"schedules":[\n{lines}\n]}}\n'
    Path(__file__).with_name("schedules.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
