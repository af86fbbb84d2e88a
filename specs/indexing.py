"""Indexing: rows of a table, and rows of one value with a single other one: what they are."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import numpy as np

from specs.maths import where
from specs.spec import Case, Domain, Form, Input, Refusal, Setting, Spec, Variant

COUNTED_FROM_THE_END = "an id below 0, which NumPy counts from the end"


def _kept(ids: Any, padding_id: int | None) -> Any:
    return np.ones(np.shape(ids), dtype=bool) if padding_id is None else np.not_equal(ids, padding_id)


def _embedding(table: Any, ids: Any, *, padding_id: int | None = None) -> Any:
    kept = _kept(ids, padding_id)
    return where(kept[..., None], table[np.where(kept, ids, 0)], 0)


def _row_read(table: Any, ids: Any, *, padding_id: int | None = None) -> Any:
    """Of padding that is no row there is nothing to be read."""
    inside = padding_id is None or 0 <= padding_id < len(table)
    return _embedding(table, ids, padding_id=None if inside else padding_id)


def _by_one_hot(dy: Any, table: Any, ids: Any, *, padding_id: int | None = None) -> Any:
    """The gradient as the product of the one-hot rows and dy: zeros are added too."""
    hot = np.equal(ids.reshape(-1)[:, None], np.arange(len(table))) & _kept(ids, padding_id).reshape(-1, 1)
    return (np.dot(hot.T * 1, dy.reshape(-1, table.shape[-1])),)


def _by_product(dy: Any, y: Any, table: Any, ids: Any, *, padding_id: int | None = None) -> Any:
    return _by_one_hot(dy, table, ids, padding_id=padding_id)


def _one_hot(ids: Any, values: Any, *, classes: int) -> Any:
    hot = np.equal(ids[..., None], np.arange(classes))
    return where(hot, values[1], values[0])


SPECS = (
    Spec(
        name="embedding",
        summary="The rows of a table that are asked for by their numbers.",
        signature="(v,d),(...)->(...,d)",
        definition=_embedding,
        inputs=(
            Input("table"),
            Input("ids", Domain.INDEX, differentiable=False, along="v", outside="padding_id"),
        ),
        settings=(Setting("padding_id", (None, 0, -1)),),
        shapes=(
            {"v": 3, "d": 2},
            {"v": 35, "d": 2},
            {"v": 4, "d": 5},
            {"v": 2, "d": 37},
            {"v": 4, "d": 1},
        ),
        equations=(
            "y = table[ids], row by row; 0 where ids = padding_id",
            "dtable[k] = the sum of dy over all places where ids = k; 0 for k = padding_id",
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
            Case(
                "padding that is no row gives zeros",
                ([[1.0, 2.0], [3.0, 4.0]], [1, -1]),
                [[3.0, 4.0], [0.0, 0.0]],
                {"padding_id": -1},
            ),
            Case(
                "the row of padding is not read, whatever is in it",
                ([[nan, inf], [3.0, 4.0]], [1, 0]),
                [[3.0, 4.0], [0.0, 0.0]],
                {"padding_id": 0},
            ),
        ),
        refusals=(
            Refusal(COUNTED_FROM_THE_END, ([[1.0], [2.0]], [-1]), "[0, 2)"),
            Refusal("an id beyond the last row, as ids that count from 1", ([[1.0], [2.0]], [2]), "[0, 2)"),
            Refusal("ids that are floats", ([[1.0], [2.0]], [1.0]), "integer"),
            Refusal(
                "another negative id than that of padding", ([[1.0]], [-2]), "[0, 1)", {"padding_id": -1}
            ),
            Refusal("padding that is no integer", ([[1.0]], [0]), "padding_id is 0.5", {"padding_id": 0.5}),
        ),
        forms=(Form("the gradient as a product with one-hot rows", "JAX on TPUs", vjp=_by_product),),
        variants=(
            Variant(
                "padding-row-is-read",
                "the row of padding is read as it is, usually zeros, and has no gradient",
                "PyTorch",
                definition=_row_read,
                gradients=_by_one_hot,
            ),
        ),
        references=("Bengio et al., A Neural Probabilistic Language Model, JMLR 3 (2003), 2",),
    ),
    Spec(
        name="one_hot",
        summary="Rows of one value, with another where an id points.",
        signature="(...),(s)->(...,c)",
        definition=_one_hot,
        inputs=(Input("ids", Domain.INDEX, differentiable=False), Input("values")),
        settings=(Setting("classes", (3, 1, 37), required=True),),
        derived={"s": lambda sizes, settings: 2, "c": lambda sizes, settings: int(settings["classes"])},
        shapes=({},),
        equations=(
            "y[..., k] = values[1] where ids = k, values[0] elsewhere, for k = 0 to classes - 1",
            "dvalues = (sum(dy) where ids do not point, sum(dy) where they do)",
        ),
        cases=(
            Case("off and on", ([2, 0], [0.0, 1.0]), [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]], {"classes": 3}),
            Case("other values than 0 and 1", ([1], [-1.0, 5.0]), [[-1.0, 5.0]], {"classes": 2}),
            Case("a single id gives a single row", (1, [0.0, 1.0]), [0.0, 1.0], {"classes": 2}),
            Case(
                "the axis of the classes is the last",
                ([[0], [1]], [0.0, 1.0]),
                [[[1.0, 0.0]], [[0.0, 1.0]]],
                {"classes": 2},
            ),
            Case("special values are copied", ([0], [nan, -inf]), [[-inf, nan]], {"classes": 2}),
        ),
        refusals=(
            Refusal(COUNTED_FROM_THE_END, ([-1], [0.0, 1.0]), "[0, 2)", {"classes": 2}),
            Refusal("an id beyond the last class", ([2], [0.0, 1.0]), "[0, 2)", {"classes": 2}),
            Refusal("one value", ([0], [1.0]), "shape (2,)", {"classes": 2}),
            Refusal("no class", ([0], [0.0, 1.0]), "classes", {"classes": 0}),
        ),
        references=("ONNX, operator OneHot",),
    ),
)
