"""Indexing: rows of a table, and rows of one value with a single other one."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from refnet.arguments import validate_count, validate_index, validate_range
from refnet.op import ArgumentError, Array, Labels, Mask, Op

__all__ = ["embedding", "one_hot"]


# --------------------------------------------------------------------------------------------- embedding


class EmbeddingResiduals(NamedTuple):
    table: Array
    rows: Labels
    """The ids, with 0 in the place of padding."""
    kept: Mask
    """Where the id is not that of padding."""


class EmbeddingGradients(NamedTuple):
    table: Array


def _embedding(
    table: Array, ids: Labels, *, padding_id: int | None = None
) -> tuple[Array, EmbeddingResiduals]:
    """y = table[ids], row by row, and rows of zeros where the id is `padding_id`.

    table (v, d), ids (...) in [0, v), y (..., d). Numbers are copied as they are. The padding may be one of
    the rows, which then is never read, or any other number, such as -1. All other ids outside [0, v) are
    refused, negative ones too, which NumPy counts from the end.
    """
    if padding_id is not None:
        validate_index("embedding", "padding_id", padding_id)
    kept = np.ones(ids.shape, dtype=bool) if padding_id is None else np.not_equal(ids, padding_id)
    remedy = "Count rows from 0, and name the id of padding with padding_id=..., if there is any."
    validate_range("embedding", "ids", ids, len(table), remedy, counted=kept)
    rows = np.where(kept, ids, 0)
    # of an empty table only padding is asked for, which needs no row
    some: Array = table if len(table) else np.zeros((1, table.shape[-1]), dtype=table.dtype)
    y: Array = np.take(some, rows, axis=0)
    if padding_id is not None:
        y = np.where(kept[..., None], y, 0.0)
    return y, EmbeddingResiduals(table, rows, kept)


def _embedding_backward(residuals: EmbeddingResiduals, dy: Array) -> EmbeddingGradients:
    """dtable[k] = the sum of dy over all places where ids = k, and 0 where there is none, or it is padding.

    `dtable[ids] += dy` would keep one of the places of an id that occurs more than once.
    """
    table, rows, kept = residuals
    dtable: Array = np.zeros_like(table)
    if len(table):
        each: Array = np.where(kept[..., None], dy, 0.0)
        np.add.at(dtable, rows.reshape(-1), each.reshape(rows.size, table.shape[-1]))
    return EmbeddingGradients(dtable)


embedding = Op(
    "embedding", "(v,d),(...)->(...,d)", ("table", "ids"), _embedding, _embedding_backward, integers=("ids",)
)

# ----------------------------------------------------------------------------------------------- one-hot


class OneHotResiduals(NamedTuple):
    hot: Mask


class OneHotGradients(NamedTuple):
    values: Array


def _one_hot(ids: Labels, values: Array, *, classes: int) -> tuple[Array, OneHotResiduals]:
    """y[..., k] = values[1] where ids = k, values[0] elsewhere: the values off and on, usually 0 and 1.

    ids (...) in [0, classes), values (2), y (..., classes) in the dtype of the values. An id outside the
    classes is refused: others count it from the end, or make it a row without a one.

    As OneHot of ONNX has it, with its last axis.
    """
    validate_count("one_hot", "classes", classes)
    if len(values) != 2:
        raise ArgumentError(
            "one_hot",
            "values",
            f"of shape {values.shape}",
            "shape (2,): the values off and on",
            "For zeros and ones use np.array([0.0, 1.0]); the dtype of the result is that of this array.",
        )
    validate_range("one_hot", "ids", ids, classes, "Count classes from 0.")
    hot = ids[..., None] == np.arange(classes)
    y: Array = np.where(hot, values[1], values[0])
    return y, OneHotResiduals(hot)


def _one_hot_backward(residuals: OneHotResiduals, dy: Array) -> OneHotGradients:
    """dvalues = (the sum of dy where the ids do not point, the sum of dy where they do)."""
    (hot,) = residuals
    off, on = (
        np.add.reduce(np.where(hot, 0.0, dy), axis=None),
        np.add.reduce(np.where(hot, dy, 0.0), axis=None),
    )
    return OneHotGradients(np.stack((off, on)))


one_hot = Op(
    "one_hot", "(...),(s)->(...,c)", ("ids", "values"), _one_hot, _one_hot_backward, integers=("ids",)
)

OPS = (embedding, one_hot)
