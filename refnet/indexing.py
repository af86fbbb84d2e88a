"""Indexing: rows of a table, and rows of zeros with a single one."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from refnet.op import ArgumentError, Array, Labels, Op

__all__ = [
    "embedding",
]

# --------------------------------------------------------------------------------------------- embedding


class EmbeddingResiduals(NamedTuple):
    table: Array
    ids: Labels


class EmbeddingGradients(NamedTuple):
    table: Array


def _validate_ids(op: str, ids: Labels, rows: int) -> None:
    if ids.size and not 0 <= int(ids.min()) <= int(ids.max()) < rows:
        bad = ids[(ids < 0) | (ids >= rows)]
        raise ArgumentError(
            op,
            "ids",
            f"with {bad.size} of {ids.size} out of range, the first of them {int(bad[0])}",
            f"integers in [0, {rows}), the number of rows of the table",
            "Count rows from 0; NumPy would count a negative one from the end.",
        )


def _embedding(table: Array, ids: Labels) -> tuple[Array, EmbeddingResiduals]:
    """y = table[ids], with table (v, d), ids (...) in [0, v) and y (..., d). Numbers are copied as they are.

    An id outside [0, v) is refused.
    """
    _validate_ids("embedding", ids, len(table))
    return np.take(table, ids, axis=0), EmbeddingResiduals(table, ids)


def _embedding_backward(residuals: EmbeddingResiduals, dy: Array) -> EmbeddingGradients:
    """dtable[k] = the sum of dy over all places where ids = k, and 0 where there is none.

    `dtable[ids] += dy` would keep one of the places of an id that occurs more than once.
    """
    table, ids = residuals
    dtable: Array = np.zeros_like(table)
    np.add.at(dtable, ids.reshape(-1), dy.reshape(-1, table.shape[-1]))
    return EmbeddingGradients(dtable)


embedding = Op(
    "embedding", "(v,d),(...)->(...,d)", ("table", "ids"), _embedding, _embedding_backward, integers=("ids",)
)

OPS = (embedding,)
