"""Indexing: rows of a table, and rows of zeros with a single one: what they are."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import numpy as np

from specs.spec import Case, Domain, Form, Input, Refusal, Spec


def _embedding(table: Any, ids: Any) -> Any:
    return table[ids]


def _by_product(dy: Any, y: Any, table: Any, ids: Any) -> Any:
    """The gradient as the product of the one-hot rows and dy: zeros are added too."""
    hot = np.equal(ids.reshape(-1)[:, None], np.arange(len(table))) * 1.0
    return (np.dot(hot.T, dy.reshape(-1, table.shape[-1])),)


SPECS = (
    Spec(
        name="embedding",
        summary="The rows of a table that are asked for by their numbers.",
        signature="(v,d),(...)->(...,d)",
        definition=_embedding,
        inputs=(Input("table"), Input("ids", Domain.INDEX, differentiable=False, along="v")),
        shapes=(
            {"v": 3, "d": 2},
            {"v": 35, "d": 2},
            {"v": 4, "d": 5},
            {"v": 2, "d": 37},
            {"v": 4, "d": 1},
        ),
        equations=(
            "y = table[ids], row by row",
            "dtable[k] = the sum of dy over all places where ids = k",
        ),
        cases=(
            Case(
                "rows in any order, and more than once",
                ([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], [2, 0, 2]),
                [[5.0, 6.0], [1.0, 2.0], [5.0, 6.0]],
            ),
            Case("a single id gives a single row", ([[1.0, 2.0], [3.0, 4.0]], 1), [3.0, 4.0]),
            Case(
                "special values are copied, and stay in their rows",
                ([[nan, -0.0], [inf, 7.0], [-inf, nan]], [1, 0]),
                [[inf, 7.0], [nan, -0.0]],
            ),
        ),
        refusals=(
            Refusal("an id below 0, which NumPy counts from the end", ([[1.0], [2.0]], [-1]), "[0, 2)"),
            Refusal("an id beyond the last row, as ids that count from 1", ([[1.0], [2.0]], [2]), "[0, 2)"),
            Refusal("ids that are floats", ([[1.0], [2.0]], [1.0]), "integer"),
        ),
        forms=(Form("the gradient as a product with one-hot rows", "JAX on TPUs", vjp=_by_product),),
        references=("Bengio et al., A Neural Probabilistic Language Model, JMLR 3 (2003), 2",),
    ),
)
