"""Known mistakes in indexing."""

from __future__ import annotations

from typing import Any

import numpy as np

import refnet
from verify.mistakes.mistake import Mistake

GRADIENT = ("vjp", "symbolic", "numerical")


def _padded_at(ids: Any, padding_id: int | None) -> Any:
    return np.zeros(ids.shape, dtype=bool) if padding_id is None else np.equal(ids, padding_id)


def _without_padding(table: Any, ids: Any, rows: Any, padding_id: int | None) -> Any:
    """Wrong rows, and the zeros of padding where they are due."""
    return np.where(_padded_at(ids, padding_id)[..., None], table.dtype.type(0), table[rows])


def _from_one(table: Any, ids: Any, *, padding_id: int | None = None) -> Any:
    return _without_padding(table, ids, (ids - 1) % len(table), padding_id)


def _clipped(table: Any, ids: Any, *, padding_id: int | None = None) -> Any:
    """The last row is out of reach."""
    return _without_padding(table, ids, np.minimum(ids, max(len(table) - 2, 0)), padding_id)


def _padded(table: Any, ids: Any, *, padding_id: int | None = None) -> Any:
    """Row 0 is taken for padding, and read as zeros."""
    rows = refnet.embedding(table, ids, padding_id=padding_id)
    return np.where(np.equal(ids, 0)[..., None], table.dtype.type(0), rows)


def _padded_by_a_product(table: Any, ids: Any, *, padding_id: int | None = None) -> Any:
    kept = ~_padded_at(ids, padding_id)
    return table[np.where(kept, ids, 0)] * kept[..., None].astype(table.dtype)


def _from_the_end(table: Any, ids: Any, *, padding_id: int | None = None) -> Any:
    return table[ids]


def _overwritten(dy: Any, table: Any, ids: Any, *, padding_id: int | None = None) -> Any:
    gradient = np.zeros_like(table)
    kept = ~_padded_at(ids, padding_id)
    gradient[ids[kept]] += dy[kept]
    return (gradient,)


def _mean(dy: Any, table: Any, ids: Any, *, padding_id: int | None = None) -> Any:
    kept = ~_padded_at(ids, padding_id)
    counts = np.maximum(np.bincount(ids[kept].reshape(-1), minlength=len(table)), 1)
    gradient = refnet.embedding.vjp(dy, table, ids, padding_id=padding_id).table
    return ((gradient / counts[:, None]).astype(table.dtype),)


def _without_row_0(dy: Any, table: Any, ids: Any, *, padding_id: int | None = None) -> Any:
    gradient = refnet.embedding.vjp(dy, table, ids, padding_id=padding_id).table
    gradient[0] = 0
    return (gradient,)


def _learning(dy: Any, table: Any, ids: Any, *, padding_id: int | None = None) -> Any:
    gradient = np.zeros_like(table)
    np.add.at(gradient, ids, dy)
    return (gradient,)


def _hot_from_one(ids: Any, values: Any, *, classes: int) -> Any:
    return refnet.one_hot((ids - 1) % classes, values, classes=classes)


def _hot_in_front(ids: Any, values: Any, *, classes: int) -> Any:
    return np.moveaxis(refnet.one_hot(ids, values, classes=classes), -1, 0)


def _hot_inverted(ids: Any, values: Any, *, classes: int) -> Any:
    return refnet.one_hot(ids, values[::-1].copy(), classes=classes)


def _hot_one(ids: Any, values: Any, *, classes: int) -> Any:
    return refnet.one_hot(ids, np.asarray([0, 1], dtype=values.dtype), classes=classes)


def _hot_without_off(dy: Any, ids: Any, values: Any, *, classes: int) -> Any:
    gradient = refnet.one_hot.vjp(dy, ids, values, classes=classes).values
    gradient[0] = 0
    return (gradient,)


def _hot_off_is_all(dy: Any, ids: Any, values: Any, *, classes: int) -> Any:
    """As the gradient of off + (on - off) hot, with the second off forgotten."""
    gradient = refnet.one_hot.vjp(dy, ids, values, classes=classes).values
    gradient[0] += gradient[1]
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
    Mistake(
        "embedding-padding-counts-from-the-end",
        "embedding",
        "padding is not looked for: -1 reads the last row",
        ("value", "special-values"),
        value=_from_the_end,
    ),
    Mistake(
        "embedding-padding-times-zero",
        "embedding",
        "the rows are multiplied with a mask: NaN times 0 is NaN, and what is padding is read",
        ("special-values",),
        value=_padded_by_a_product,
    ),
    Mistake(
        "embedding-padding-learns",
        "embedding",
        "the gradient of padding is added to a row",
        ("vjp",),
        vjp=_learning,
    ),
    Mistake(
        "one-hot-counts-from-one",
        "one_hot",
        "ids count from 1: every one is a place early",
        ("value", "special-values"),
        value=_hot_from_one,
    ),
    Mistake(
        "one-hot-axis-in-front",
        "one_hot",
        "the classes are the first axis, not the last",
        ("value", "special-values"),
        value=_hot_in_front,
    ),
    Mistake(
        "one-hot-inverted",
        "one_hot",
        "off and on are in each other's place",
        ("value", "special-values"),
        value=_hot_inverted,
    ),
    Mistake(
        "one-hot-of-zeros-and-ones",
        "one_hot",
        "0 and 1, whatever the values are",
        ("value", "special-values"),
        value=_hot_one,
    ),
    Mistake(
        "one-hot-gradient-without-off",
        "one_hot",
        "the value off is taken for a constant",
        ("vjp", "symbolic", "numerical"),
        vjp=_hot_without_off,
    ),
    Mistake(
        "one-hot-gradient-of-off-counts-on",
        "one_hot",
        "the gradient of off + (on - off) hot, with the second off forgotten",
        ("vjp", "symbolic", "numerical"),
        vjp=_hot_off_is_all,
    ),
)
