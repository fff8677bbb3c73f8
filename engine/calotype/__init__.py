"""Calotype draws pictures with Stable Diffusion compiled into fixed-shape programs, without torch."""

from calotype import noise
from calotype.bundle import Bundle
from calotype.errors import (
    BackendError,
    BundleError,
    CalotypeError,
    Cancelled,
    RequestError,
)
from calotype.pipeline import Embeddings, Pipeline
from calotype.request import Request
from calotype.result import Result
from calotype.schedule import Schedule

__version__ = "0.1.0"

__all__ = [
    "BackendError",
    "Bundle",
    "BundleError",
    "CalotypeError",
    "Cancelled",
    "Embeddings",
    "Pipeline",
    "Request",
    "RequestError",
    "Result",
    "Schedule",
    "noise",
]
