"""Recurrent cells, one step in time, and their unrolling along a sequence.

The gates lie side by side along the last axis of the weights, `m` columns each. A cell is a function of the
input x, the state and the parameters, in this order; its outputs are the new state.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from refnet.activations import SigmoidResiduals, TanhResiduals, sigmoid, tanh
from refnet.op import ArgumentError, Array, MultiOp, Op, Operator

__all__ = [
    "gru_cell",
    "lstm_cell",
    "rnn_cell",
]


class Factors(NamedTuple):
    """What the two products of a cell, x w_x and h w_h, are made of."""

    x: Array
    h: Array
    w_x: Array
    w_h: Array


class FactorGradients(NamedTuple):
    x: Array
    h: Array
    w_x: Array
    w_h: Array


def _through_products(factors: Factors, d_x: Array, d_h: Array) -> FactorGradients:
    """The gradients of sum(d_x * (x w_x)) + sum(d_h * (h w_h)); those of the weights sum over the batch."""
    x, h, w_x, w_h = factors
    return FactorGradients(np.dot(d_x, w_x.T), np.dot(d_h, w_h.T), np.dot(x.T, d_x), np.dot(h.T, d_h))


def _over_batch(dz: Array) -> Array:
    """The gradient of a bias."""
    db: Array = np.add.reduce(dz, axis=0)
    return db


def _gates(op: str, w_x: Array, h: Array, gates: int) -> int:
    """The columns of one gate; refuse weights that have not so many gates."""
    m: int = h.shape[-1]
    if w_x.shape[-1] == gates * m:
        return m
    raise ArgumentError(
        op,
        "w_x",
        f"of shape {w_x.shape}",
        f"shape (k, g) with g = {gates * m}, {gates} gates of m = {m} columns",
        "Weights stored (outputs, inputs), as PyTorch has them, are transposed.",
    )


# --------------------------------------------------------------------------------------------- simple (Elman)


class RnnResiduals(NamedTuple):
    factors: Factors
    activation: TanhResiduals


class RnnGradients(NamedTuple):
    x: Array
    h: Array
    w_x: Array
    w_h: Array
    b: Array


def _rnn_cell(x: Array, h: Array, w_x: Array, w_h: Array, b: Array) -> tuple[Array, RnnResiduals]:
    """h' = tanh(x w_x + h w_h + b), with x (n, k), h (n, m), w_x (k, m), w_h (m, m), b (m,).

    One bias, the sum of the two that PyTorch has. Elman, Finding structure in time, Cognitive Science 14
    (1990); Goodfellow, Bengio & Courville, Deep Learning (2016), 10.2, equations 10.8 and 10.9.
    """
    y, activation = tanh.forward(np.dot(x, w_x) + np.dot(h, w_h) + b)
    return y, RnnResiduals(Factors(x, h, w_x, w_h), activation)


def _rnn_cell_backward(residuals: RnnResiduals, dy: Array) -> RnnGradients:
    """With z the argument of tanh and dz = dy * (1 - h'^2): dx = dz w_x^T, dh = dz w_h^T, dw_x = x^T dz,
    dw_h = h^T dz, db = the sum of dz over the batch.

    From z, not from h': 1 - h'^2 is 0 at z = 20, where the derivative is 1.7e-17.
    """
    (dz,) = tanh.backward(residuals.activation, dy)
    return RnnGradients(*_through_products(residuals.factors, dz, dz), _over_batch(dz))


rnn_cell = Op(
    "rnn_cell",
    "(n,k),(n,m),(k,m),(m,m),(m)->(n,m)",
    ("x", "h", "w_x", "w_h", "b"),
    _rnn_cell,
    _rnn_cell_backward,
)

# ------------------------------------------------------------------------------------- long short-term memory


class LstmState(NamedTuple):
    h: Array
    c: Array


class LstmResiduals(NamedTuple):
    """The values of the gates, and what their derivatives need."""

    factors: Factors
    c: Array
    i: Array
    f: Array
    g: Array
    o: Array
    tanh_c: Array
    of_i: SigmoidResiduals
    of_f: SigmoidResiduals
    of_g: TanhResiduals
    of_o: SigmoidResiduals
    of_c: TanhResiduals


class LstmGradients(NamedTuple):
    x: Array
    h: Array
    c: Array
    w_x: Array
    w_h: Array
    b: Array


def _lstm_cell(
    x: Array, h: Array, c: Array, w_x: Array, w_h: Array, b: Array
) -> tuple[LstmState, LstmResiduals]:
    """c' = f c + i g; h' = o tanh(c'), with (i, f, g, o) = sigmoid, sigmoid, tanh, sigmoid of the four
    parts of x w_x + h w_h + b: input gate, forget gate, candidate, output gate.

    x (n, k), h and c (n, m), w_x (k, 4m), w_h (m, 4m), b (4m,). The order of the gates is that of PyTorch,
    cuDNN and Keras; one bias, the sum of the two that PyTorch has. Hochreiter & Schmidhuber, Long short-term
    memory, Neural Computation 9 (1997), with the forget gate of Gers, Schmidhuber & Cummins, Learning to
    forget, Neural Computation 12 (2000).
    """
    m = _gates("lstm_cell", w_x, h, 4)
    z: Array = np.dot(x, w_x) + np.dot(h, w_h) + b
    i, of_i = sigmoid.forward(z[:, :m])
    f, of_f = sigmoid.forward(z[:, m : 2 * m])
    g, of_g = tanh.forward(z[:, 2 * m : 3 * m])
    o, of_o = sigmoid.forward(z[:, 3 * m :])
    after: Array = f * c + i * g
    tanh_c, of_c = tanh.forward(after)
    kept = LstmResiduals(Factors(x, h, w_x, w_h), c, i, f, g, o, tanh_c, of_i, of_f, of_g, of_o, of_c)
    return LstmState(o * tanh_c, after.copy()), kept


def _lstm_cell_backward(residuals: LstmResiduals, dy: tuple[Array, ...]) -> LstmGradients:
    """With dh and dc the cotangents of h' and c': c' also reaches h', so its whole gradient is
    e = dc + dh o (1 - tanh(c')^2); then do = dh tanh(c'), di = e g, dg = e i, df = e c, and dc = e f.

    Each goes back through its gate, from the argument of the gate: i (1 - i) is 0 at 40, where the
    derivative is 4.2e-18.
    """
    r = residuals
    dh, dc = dy
    (through_h,) = tanh.backward(r.of_c, dh * r.o)
    e: Array = dc + through_h
    dz: Array = np.concatenate(
        (
            sigmoid.backward(r.of_i, e * r.g).x,
            sigmoid.backward(r.of_f, e * r.c).x,
            tanh.backward(r.of_g, e * r.i).x,
            sigmoid.backward(r.of_o, dh * r.tanh_c).x,
        ),
        axis=-1,
    )
    dx, dh_before, dw_x, dw_h = _through_products(r.factors, dz, dz)
    return LstmGradients(dx, dh_before, e * r.f, dw_x, dw_h, _over_batch(dz))


lstm_cell = MultiOp(
    "lstm_cell",
    "(n,k),(n,m),(n,m),(k,g),(m,g),(g)->(n,m),(n,m)",
    ("x", "h", "c", "w_x", "w_h", "b"),
    _lstm_cell,
    _lstm_cell_backward,
)

# --------------------------------------------------------------------------------------- gated recurrent unit


class GruResiduals(NamedTuple):
    """The values of the gates, and what their derivatives need."""

    factors: Factors
    r: Array
    z: Array
    rest: Array
    """1 - z, with all its digits."""
    n: Array
    memory: Array
    """h w_hn + b_hn, what the reset gate multiplies."""
    of_r: SigmoidResiduals
    of_z: SigmoidResiduals
    of_n: TanhResiduals


class GruGradients(NamedTuple):
    x: Array
    h: Array
    w_x: Array
    w_h: Array
    b_x: Array
    b_h: Array


def _gru_cell(
    x: Array, h: Array, w_x: Array, w_h: Array, b_x: Array, b_h: Array
) -> tuple[Array, GruResiduals]:
    """h' = (1 - z) n + z h, with the reset gate r = sigmoid(x w_xr + b_xr + h w_hr + b_hr), the update gate
    z = sigmoid(x w_xz + b_xz + h w_hz + b_hz), and the candidate n = tanh(x w_xn + b_xn + r (h w_hn + b_hn)).

    x (n, k), h (n, m), w_x (k, 3m), w_h (m, 3m), b_x and b_h (3m,): gates in the order r, z, n. The reset
    gate multiplies the product and its bias (PyTorch, cuDNN, Keras with reset_after), so the two biases of
    the candidate are not one. Cho et al., Learning phrase representations using RNN encoder-decoder, EMNLP
    2014, arXiv:1406.1078, where it multiplies h before the product.

    1 - z is sigmoid of minus the argument: at an argument of 40 the difference is 0, where 1 - z is 4.2e-18.
    """
    m = _gates("gru_cell", w_x, h, 3)
    of_x: Array = np.dot(x, w_x) + b_x
    of_h: Array = np.dot(h, w_h) + b_h
    gates: Array = of_x[:, : 2 * m] + of_h[:, : 2 * m]
    memory: Array = of_h[:, 2 * m :].copy()
    r, of_r = sigmoid.forward(gates[:, :m])
    z, of_z = sigmoid.forward(gates[:, m:])
    rest, _ = sigmoid.forward(-gates[:, m:])
    n, of_n = tanh.forward(of_x[:, 2 * m :] + r * memory)
    return rest * n + z * h, GruResiduals(Factors(x, h, w_x, w_h), r, z, rest, n, memory, of_r, of_z, of_n)


def _gru_cell_backward(residuals: GruResiduals, dy: Array) -> GruGradients:
    """dz = dy (h - n), dn = dy (1 - z), and h itself gets dy z; with a the argument of tanh and
    da = dn (1 - n^2), dr = da (h w_hn + b_hn), and the product h w_hn + b_hn gets r da.

    The products x w_x and h w_h share the gradients of r and z, and differ in those of the candidate.
    """
    s = residuals
    h = s.factors.h
    (da,) = tanh.backward(s.of_n, dy * s.rest)
    d_r = sigmoid.backward(s.of_r, da * s.memory).x
    d_z = sigmoid.backward(s.of_z, dy * (h - s.n)).x
    d_x: Array = np.concatenate((d_r, d_z, da), axis=-1)
    d_h: Array = np.concatenate((d_r, d_z, da * s.r), axis=-1)
    dx, through_products, dw_x, dw_h = _through_products(s.factors, d_x, d_h)
    return GruGradients(dx, through_products + dy * s.z, dw_x, dw_h, _over_batch(d_x), _over_batch(d_h))


gru_cell = Op(
    "gru_cell",
    "(n,k),(n,m),(k,g),(m,g),(g),(g)->(n,m)",
    ("x", "h", "w_x", "w_h", "b_x", "b_h"),
    _gru_cell,
    _gru_cell_backward,
)

OPS: tuple[Operator, ...] = (rnn_cell, lstm_cell, gru_cell)
