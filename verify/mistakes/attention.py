"""Known mistakes in attention."""

from __future__ import annotations

from verify.mistakes.mistake import Mistake

MISTAKES: tuple[Mistake, ...] = ()
