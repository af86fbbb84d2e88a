"""Indexing: rows of a table, and rows of zeros with a single one: what they are."""

from __future__ import annotations

from specs.spec import Spec

SPECS: tuple[Spec, ...] = ()
