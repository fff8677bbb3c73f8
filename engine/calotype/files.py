"""Files that appear whole or not at all: written beside their place, then renamed into it."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from calotype.errors import OutputError


@contextmanager
def placed(target: Path, what: str) -> Generator[Path]:
    """A path beside `target` to write to; it takes its place when the block ends without an error.

    OutputError where `what` ("the picture") cannot be written: nothing is left then, and `target` is as it was.
    """
    partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        yield partial
        partial.replace(target)
    except OSError as error:
        raise OutputError(f"{target}: {what} could not be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
