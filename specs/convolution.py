"""Convolutions: what they are."""

from __future__ import annotations

from specs.spec import Spec

SPECS: tuple[Spec, ...] = ()
