"""What somebody may have meant who names what does not exist."""

from __future__ import annotations

import difflib
from collections.abc import Sequence


def suggestion(name: str, known: Sequence[str]) -> str:
    """A sentence with the nearest names, or with all of them if none is near."""
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"Did you mean {' or '.join(near)}?" if near else f"There are: {', '.join(known)}."
