"""Inputs with a structure: matrices that are symmetric or triangular, and linear parametrisations at large.

A function of symmetric matrices may return anything, or raise, for others; its gradient says something of
symmetric changes only. Seen through a chart, by the numbers that determine the input, it is a function like
any other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from verify.gradients.arrays import Array, Function, as_tuple, is_floating


@dataclass(frozen=True, slots=True)
class Chart:
    """A linear map x = P z from free numbers to an input.

    `coordinates(x)` is a z with P z = x, `embed(z)` is P z, and `pull_back(g)` is P^T g, which turns the
    gradient by x into the one by z.
    """

    coordinates: Callable[[Array], Array]
    embed: Callable[[Array], Array]
    pull_back: Callable[[Array], Array]


def symmetric(size: int) -> Chart:
    """Symmetric matrices, by their lower triangle: an entry off the diagonal is there twice."""
    rows, columns = np.tril_indices(size)

    def embed(z: Array) -> Array:
        x = np.zeros((size, size), dtype=z.dtype)
        x[rows, columns] = x[columns, rows] = z
        return x

    def pull_back(g: Array) -> Array:
        _require_shape("the gradient", g, size)
        both = g[rows, columns] + g[columns, rows]
        return np.asarray(np.where(rows == columns, g[rows, columns], both))

    return Chart(lambda x: _entries(x, rows, columns, size), embed, pull_back)


def triangular(size: int, *, upper: bool = False) -> Chart:
    """Triangular matrices, by the entries that are not 0."""
    rows, columns = np.triu_indices(size) if upper else np.tril_indices(size)

    def embed(z: Array) -> Array:
        x = np.zeros((size, size), dtype=z.dtype)
        x[rows, columns] = z
        return x

    def pull_back(g: Array) -> Array:
        _require_shape("the gradient", g, size)
        return np.asarray(g[rows, columns])

    return Chart(lambda x: _entries(x, rows, columns, size), embed, pull_back)


def through(
    charts: Mapping[int, Chart], f: Function, vjp: Function, inputs: Sequence[npt.ArrayLike]
) -> tuple[Function, Function, list[Array]]:
    """f and vjp as functions of the coordinates of some inputs.

    `gradcheck(*through({0: symmetric(3)}, f, vjp, [x]))`; `charts` has the positions of those inputs.

    Raises:
        ValueError: an input is not what its chart describes, or there is none at that position.
    """
    arrays = [np.asarray(x) for x in inputs]
    if wrong := [position for position in charts if not 0 <= position < len(arrays)]:
        raise ValueError(f"charts has the positions {wrong}; required: some of 0 to {len(arrays) - 1}")
    coordinates = [charts[p].coordinates(x) if p in charts else x for p, x in enumerate(arrays)]
    for position, chart in charts.items():
        if not np.array_equal(chart.embed(coordinates[position]), arrays[position], equal_nan=True):
            raise ValueError(
                f"input {position} is not what its chart describes: embed(coordinates(x)) differs from x. A "
                "symmetric matrix must be symmetric, a triangular one 0 in the other triangle"
            )
    floating = [position for position, x in enumerate(arrays) if is_floating(x)]

    def embedded(z: Sequence[Array]) -> list[Array]:
        return [charts[p].embed(x) if p in charts else x for p, x in enumerate(z)]

    def f_of_coordinates(*z: Array) -> object:
        return f(*embedded(z))

    def vjp_of_coordinates(dy: object, *z: Array) -> tuple[object, ...]:
        claims = as_tuple(vjp(dy, *embedded(z)))
        if len(claims) != len(floating):
            return claims  # as many as there should not be: the check says so
        return tuple(
            charts[position].pull_back(np.asarray(g)) if position in charts else g
            for position, g in zip(floating, claims, strict=True)
        )

    return f_of_coordinates, vjp_of_coordinates, coordinates


def _entries(x: Array, rows: Array, columns: Array, size: int) -> Array:
    _require_shape("the input", x, size)
    return np.asarray(x[rows, columns])


def _require_shape(what: str, x: Array, size: int) -> None:
    if x.shape != (size, size):
        raise ValueError(f"{what} has shape {x.shape}; required: {(size, size)}, as its chart has")
