"""Pooling: the largest or the mean of a window."""

from __future__ import annotations

from refnet.op import Operator

__all__: list[str] = []

OPS: tuple[Operator, ...] = ()
