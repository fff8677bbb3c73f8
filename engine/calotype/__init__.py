"""Calotype draws pictures with Stable Diffusion compiled into fixed-shape programs, without torch."""

from calotype import noise
from calotype.bundle import Bundle
from calotype.denoiser import Conditions
from calotype.errors import (
    BackendError,
    BundleError,
    CalotypeError,
    CancelledError,
    CheckpointError,
    OutputError,
    RequestError,
)
from calotype.pipeline import Pipeline
from calotype.request import Request
from calotype.result import Result
from calotype.schedule import Schedule
from calotype.text import Embeddings
from calotype.version import __version__ as __version__

__all__ = [
    "BackendError",
    "Bundle",
    "BundleError",
    "CalotypeError",
    "CancelledError",
    "CheckpointError",
    "Conditions",
    "Embeddings",
    "OutputError",
    "Pipeline",
    "Request",
    "RequestError",
    "Result",
    "Schedule",
    "noise",
]
