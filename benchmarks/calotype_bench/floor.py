"""The least time that a picture could take here: its operations over the rate that this machine was seen to reach."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from calotype.bundle import Bundle
from calotype_bench import flops
from calotype_bench.jobs import Engine, Job
from calotype_bench.measurement import PROGRAMS, Measurement
from calotype_bench.rates import Rates


def operations(bundle: Bundle, job: Job, evaluations: int) -> dict[str, Counter[str]]:
    """By program, what a job takes when each of its pictures goes through `evaluations` of the UNet.

    The prompt and the empty one are encoded once each, in one run where the program takes two texts, and what is
    drawn from is looked at once; everything else is done once a picture.
    """
    pictures = job.batch
    texts = bundle.program("text_encoder").input("input_ids").shape[0]
    times = {
        "text_encoder": (1 + bundle.manifest.guided) // texts,
        "vae_encoder": _encoded(bundle, job),
        "depth_estimator": 1,
        "unet_step": pictures * evaluations,
        "vae_decoder": pictures,
        "safety_checker": pictures,
    }
    found: dict[str, Counter[str]] = {}
    for name, count in times.items():
        if count and bundle.has(name):
            graph = bundle.root / _smallest(bundle, name)
            found[name] = Counter({kind: each * count for kind, each in flops.count(graph).items()})
    return found


def seconds(work: Mapping[str, Mapping[str, int]], rates: Mapping[str, Rates]) -> dict[str, float]:
    """By program, at its own of `rates`, and `total`."""
    found = {name: rates[name].floor(counts) for name, counts in work.items()}
    return found | {"total": sum(found.values())}


def rates_of(bundle: Bundle, rates: Mapping[str, Rates]) -> dict[str, Rates]:
    """By program: of its own precision (which may be wider) where that was measured, or of the bundle's."""
    usual = rates[bundle.manifest.precision]
    return {spec.name: rates.get(spec.precision, usual) for spec in bundle.manifest.programs}


def precisions(bundles: Sequence[Bundle], engines: Sequence[Engine] = ()) -> list[str]:
    """Of the programs that a picture goes through, and of what else draws it."""
    specs = (spec for bundle in bundles for spec in bundle.manifest.programs if spec.name in PROGRAMS)
    return [*dict.fromkeys([*(spec.precision for spec in specs), *(engine.dtype for engine in engines)])]


def of_measurement(
    bundles: Sequence[Bundle], measurement: Measurement, rates: Mapping[str, Rates]
) -> dict[str, dict[str, float]]:
    """Least seconds of a measured job by precision and part: of the first bundle in each precision.

    Engines in a precision that no bundle has are held against the first bundle's operations. Left out is a bundle
    without a step for one picture, whose operations are not counted.
    """
    drawn = [row for row in measurement.rows if row.samples]
    counted = [bundle for bundle in bundles if 1 in bundle.manifest.batches]
    if not drawn or not counted:
        return {}
    job, evaluations = measurement.job, drawn[0].samples[0].evaluations
    first = {bundle.manifest.precision: bundle for bundle in reversed(counted)}
    found = {
        precision: seconds(operations(bundle, job, evaluations), rates_of(bundle, rates))
        for precision, bundle in first.items()
    }
    for other in sorted({row.engine.dtype for row in drawn} & rates.keys() - first.keys()):
        work = operations(counted[0], job, evaluations)
        found[other] = seconds(work, dict.fromkeys(work, rates[other]))
    return found


def _encoded(bundle: Bundle, job: Job) -> int:
    """How many pictures the VAE encodes: the job's, and what its mask leaves where the step is given that. What a mask
    is laid over, and drawn from noise alone, is not needed itself.
    """
    if "mask" in bundle.manifest.conditioning:
        return 1 if job.strength == 1 else 2
    return 1 if job.image else 0


def _smallest(bundle: Bundle, name: str) -> str:
    """The graph of the program's smallest batch size, which is one picture's work where that is 1."""
    specs = [spec for spec in bundle.manifest.programs if spec.name == name]
    spec = min(specs, key=lambda each: each.batch)
    if spec.batch != 1:
        raise ValueError(
            f"{name} of batch {spec.batch}: operations are counted from a program of one picture"
        )
    return spec.files[0].path
