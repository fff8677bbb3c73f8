"""What a terminal shows meanwhile: how many pictures are drawn, and what takes long; nothing in a pipe."""

from __future__ import annotations

import sys

from calotype_bench.order import Reports


def counted(done: int, total: int, what: str = "") -> None:
    """A line that is written over."""
    if sys.stderr.isatty():
        line = f"measuring {done}/{total}" + (f": {what}" if what else "")
        sys.stderr.write(f"\r\033[K{line}" + ("\n" if done == total else ""))
        sys.stderr.flush()


def said(text: str) -> None:
    """What takes long and is no measurement."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", file=sys.stderr)


TERMINAL = Reports(counted, said)
