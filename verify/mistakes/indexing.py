"""Known mistakes in indexing."""

from __future__ import annotations

from typing import Any

import numpy as np

import refnet
from verify.mistakes.mistake import Mistake

GRADIENT = ("vjp", "symbolic", "numerical")


def _from_one(table: Any, ids: Any) -> Any:
    return refnet.embedding(table, (ids - 1) % len(table))


def _clipped(table: Any, ids: Any) -> Any:
    """The last row is out of reach."""
    return refnet.embedding(table, np.minimum(ids, max(len(table) - 2, 0)))


def _padded(table: Any, ids: Any) -> Any:
    """Row 0 is taken for padding, and read as zeros."""
    return np.where(np.equal(ids, 0)[..., None], table.dtype.type(0), table[ids])


def _overwritten(dy: Any, table: Any, ids: Any) -> Any:
    gradient = np.zeros_like(table)
    gradient[ids] += dy
    return (gradient,)


def _mean(dy: Any, table: Any, ids: Any) -> Any:
    counts = np.maximum(np.bincount(ids.reshape(-1), minlength=len(table)), 1)
    return ((refnet.embedding.vjp(dy, table, ids).table / counts[:, None]).astype(table.dtype),)


def _without_row_0(dy: Any, table: Any, ids: Any) -> Any:
    gradient = refnet.embedding.vjp(dy, table, ids).table
    gradient[0] = 0
    return (gradient,)


MISTAKES = (
    Mistake(
        "embedding-counts-from-one",
        "embedding",
        "ids count from 1: every row is the one before",
        ("value", "special-values"),
        value=_from_one,
        source="nntrainer/nntrainer#988",
    ),
    Mistake(
        "embedding-without-last-row",
        "embedding",
        "ids are limited to one row too few",
        ("value", "special-values"),
        value=_clipped,
    ),
    Mistake(
        "embedding-row-0-is-padding",
        "embedding",
        "row 0 reads as zeros, whatever is in it",
        ("value", "special-values"),
        value=_padded,
    ),
    Mistake(
        "embedding-gradient-overwritten",
        "embedding",
        "of the places of an id that occurs more than once, one counts: `gradient[ids] += dy` adds once",
        ("vjp",),
        vjp=_overwritten,
        source="tenstorrent/tt-metal#6232; tsotchke/eshkol#392",
    ),
    Mistake(
        "embedding-gradient-is-mean",
        "embedding",
        "the gradients of an id that occurs more than once are averaged",
        ("vjp",),
        vjp=_mean,
        source="nadavbh12/VQ-VAE#4",
    ),
    Mistake(
        "embedding-gradient-without-row-0",
        "embedding",
        "row 0 is taken for padding, and never learns",
        ("vjp",),
        vjp=_without_row_0,
    ),
)
