"""Recurrent cells along a sequence: the same cell at every step, and backpropagation through time.

over_time = Unroll(lstm_cell)
outputs, (h, c) = over_time(xs, (h0, c0), (w_x, w_h, b))
dxs, dstate, dparams = over_time.vjp(Unrolled(d_outputs, (dh, dc)), xs, (h0, c0), (w_x, w_h, b))
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from refnet.op import (
    HALF,
    UNPLAIN,
    ArgumentError,
    Array,
    Operator,
    is_plain,
    validate_call,
    validate_cotangent,
)

__all__ = ["Unroll", "Unrolled", "UnrolledGradients"]

Arrays = tuple[Array, ...]


class Unrolled(NamedTuple):
    """What a cell makes of a sequence; or the cotangents of it."""

    outputs: Array
    """The h of every step, (t, n, m)."""
    state: Arrays
    """The state after the last step: (h,) or (h, c)."""


class UnrolledResiduals(NamedTuple):
    steps: tuple[tuple[object, ...], ...]
    """What the cell kept at each step, first to last."""


class UnrolledGradients(NamedTuple):
    xs: Array
    state: Arrays
    """Of the state before the first step."""
    params: Arrays


@dataclass(frozen=True, slots=True)
class Unroll:
    """A cell applied to xs (t, n, k) step by step: (h_t, ...) = cell(x_t, h_{t-1}, ..., parameters).

    A cell takes x, its state and its parameters, in this order, and returns the new state, whose first array
    is what is shown. `forward` and `backward` trust their arguments; a call and `vjp` check them first. The
    half formats are computed in float32 from the first step to the last, and rounded once.

    Werbos, Backpropagation through time: what it does and how to do it, Proc. IEEE 78 (1990).

    Raises:
        ArgumentError: the operator is no cell.
    """

    cell: Operator

    def __post_init__(self) -> None:
        inputs, outputs = (side.strip("()").split("),(") for side in self.cell.signature.split("->"))
        if self.cell.arguments[:2] != ("x", "h") or inputs[1 : 1 + len(outputs)] != outputs:
            raise ArgumentError(
                "Unroll",
                "cell",
                f"{self.cell.name}, of signature {self.cell.signature}",
                "an operator of x, a state h, ... and parameters that returns the new state",
                "Use refnet.rnn_cell, lstm_cell or gru_cell.",
            )

    @property
    def states(self) -> int:
        """How many arrays are the state."""
        return self.cell.signature.split("->")[1].count("(")

    def forward(self, xs: Array, state: Arrays, params: Arrays) -> tuple[Unrolled, UnrolledResiduals]:
        outputs: list[Array] = []
        kept: list[tuple[object, ...]] = []
        for t in range(len(xs)):
            y, residuals = self.cell.forward(xs[t], *state, *params)
            state = y if isinstance(y, tuple) else (y,)
            outputs.append(state[0])
            kept.append(residuals)
        return Unrolled(np.stack(outputs), tuple(state)), UnrolledResiduals(tuple(kept))

    def backward(self, residuals: UnrolledResiduals, dy: Unrolled) -> UnrolledGradients:
        """The chain rule from the last step to the first.

        h_t is shown and carried on, so its gradient is that of the output of its step and of all later steps,
        which the cell hands back for its state. The parameters are the same at every step: their gradients
        are summed over time.
        """
        carried: Arrays = dy.state
        dxs: list[Array] = []
        total: Arrays = ()
        for t in reversed(range(len(residuals.steps))):
            shown: Array = carried[0] + dy.outputs[t]
            cotangent = (shown, *carried[1:])
            dx, *rest = self.cell.backward(residuals.steps[t], cotangent if len(carried) > 1 else shown)
            carried, own = tuple(rest[: len(carried)]), tuple(rest[len(carried) :])
            total = tuple(a + b for a, b in zip(total, own, strict=True)) if total else own
            dxs.append(dx)
        return UnrolledGradients(np.stack(dxs[::-1]), carried, total)

    def __call__(self, xs: Array, state: Arrays, params: Arrays) -> Unrolled:
        """The outputs of all steps and the last state, in the dtype of the arguments.

        Raises:
            ArgumentError: an argument has the wrong type, dtype, number or shape; or there is no step.
        """
        dtype = self._validate(xs, state, params)
        with np.errstate(all="ignore"):
            y, _ = self.forward(_in_float32(xs), _all_in_float32(state), _all_in_float32(params))
            return Unrolled(np.asarray(y.outputs, dtype=dtype), _stored(y.state, dtype))

    def vjp(self, dy: Unrolled, xs: Array, state: Arrays, params: Arrays) -> UnrolledGradients:
        """The gradients of `sum(dy * results)`: of the sequence, the first state and the parameters.

        `dy` has a cotangent for the outputs and for each array of the last state.

        Raises:
            ArgumentError: as for a call; or dy is not of the form, shapes and dtype of the results.
        """
        dtype = self._validate(xs, state, params)
        given: object = dy
        if not isinstance(given, Unrolled) or len(dy.state) != len(state):
            raise ArgumentError(
                "Unroll",
                "dy",
                f"a {type(given).__name__}",
                "an Unrolled, like the results",
                "Give both parts.",
            )
        with np.errstate(all="ignore"):
            y, residuals = self.forward(_in_float32(xs), _all_in_float32(state), _all_in_float32(params))
            validate_cotangent("Unroll", "dy.outputs", dy.outputs, dtype, y.outputs.shape)
            for k, (cotangent, last) in enumerate(zip(dy.state, y.state, strict=True)):
                validate_cotangent("Unroll", f"dy.state[{k}]", cotangent, dtype, last.shape)
            wide = Unrolled(_in_float32(dy.outputs), _all_in_float32(dy.state))
            dxs, dstate, dparams = self.backward(residuals, wide)
            return UnrolledGradients(
                np.asarray(dxs, dtype=dtype), _stored(dstate, dtype), _stored(dparams, dtype)
            )

    def _validate(self, xs: Array, state: Arrays, params: Arrays) -> np.dtype[np.floating]:
        names = self.cell.arguments[1:]
        expected = {"state": names[: self.states], "params": names[self.states :]}
        for name, arrays in (("state", state), ("params", params)):
            given: object = arrays
            if not isinstance(given, tuple | list) or len(given) != len(expected[name]):
                raise ArgumentError(
                    "Unroll",
                    name,
                    f"{len(given)} arrays"
                    if isinstance(given, tuple | list)
                    else f"a {type(given).__name__}",
                    f"a tuple ({', '.join(expected[name])}) for {self.cell.name}",
                    "They come in the order in which the cell takes them.",
                )
        sequence: object = xs
        if not isinstance(sequence, np.ndarray) or not is_plain(xs):
            kind = type(sequence).__name__
            raise ArgumentError("Unroll", "xs", f"a {kind}", "a NumPy array", UNPLAIN)
        if xs.ndim != 3 or not len(xs):
            raise ArgumentError(
                "Unroll",
                "xs",
                f"of shape {xs.shape}",
                "shape (t, n, k) with at least one step",
                "The first axis is time: use xs.swapaxes(0, 1) for (n, t, k).",
            )
        return validate_call(self.cell, (xs[0], *state, *params), {})


def _in_float32(array: Array) -> Array:
    return array.astype(np.float32) if array.dtype.name in HALF else array


def _all_in_float32(arrays: Arrays) -> Arrays:
    return tuple(_in_float32(array) for array in arrays)


def _stored(arrays: Arrays, dtype: np.dtype[np.floating]) -> Arrays:
    return tuple(np.asarray(array, dtype=dtype) for array in arrays)
