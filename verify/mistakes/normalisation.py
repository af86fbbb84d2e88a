"""Known mistakes in normalisation."""

from __future__ import annotations

from verify.mistakes.mistake import Mistake

MISTAKES: tuple[Mistake, ...] = ()
