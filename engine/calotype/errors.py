"""Every error that Calotype raises on purpose.

CalotypeError
├── BundleError      a bundle, or a file of it, is not what its manifest says
├── BackendError     a backend or its library is missing, or a program failed in it
├── RequestError     a request asks for something that is impossible or contradictory
├── OutputError      what was asked for could not be written
├── CancelledError   a request was stopped between two steps, as its caller wished
└── CheckpointError  a checkpoint cannot be exported
    └── ParityError  a program misses its gate against eager diffusers
"""


class CalotypeError(Exception):
    """What is wrong, where, what was expected and what was found; `hint` says what to do about it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(f"{message}\n\nhint: {hint}" if hint else message)
        self.message = message
        self.hint = hint


class BundleError(CalotypeError):
    """A bundle, or a file of it, is not what its manifest says."""


class BackendError(CalotypeError):
    """A backend or its library is missing, or a program failed in it."""


class RequestError(CalotypeError, ValueError):
    """A request asks for something that is impossible or contradictory."""


class OutputError(CalotypeError):
    """What was asked for could not be written: the disk is full, or the folder is not to be written to."""


class CancelledError(CalotypeError):
    """A request was stopped between two steps, as its caller wished."""


class CheckpointError(CalotypeError):
    """A checkpoint cannot be exported, or a file of LoRA weights does not fit."""


class ParityError(CheckpointError):
    """A program, or the whole pipeline, misses its gate against eager diffusers."""
