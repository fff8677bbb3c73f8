"""Lines of tables in Markdown."""

from __future__ import annotations

from collections.abc import Sequence


def heads(*names: str) -> Sequence[str]:
    """The line of a table's heads, and the one under it."""
    return line(*names), "|" + "---|" * len(names)


def line(*cells: str) -> str:
    """One line, whatever its cells hold."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
