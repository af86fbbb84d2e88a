"""Known mistakes in recurrent cells.

What is only another convention (the gates in ONNX's order, the reset gate before the product, the update gate
that opens to the candidate) is a variant of the specification, and none of these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

import refnet
from verify.mistakes.mistake import Mistake

GRADIENT = ("vjp", "symbolic", "numerical")


def _blocks(z: Any, gates: int) -> list[Any]:
    """The columns of each gate."""
    return list(np.split(z, gates, axis=-1))


def _each_transposed(w_h: Any, gates: int) -> Any:
    """Weights of h whose block of each gate is transposed."""
    return np.concatenate([block.T for block in _blocks(w_h, gates)], axis=-1)


def _sigmoid(z: Any) -> Any:
    return refnet.sigmoid(np.ascontiguousarray(z))


def _slope(y: Any) -> Any:
    """The derivative of the sigmoid, from its value."""
    return y * (1 - y)


# ----------------------------------------------------------------------------------------------------- simple


def _rnn_transposed(x: Any, h: Any, w_x: Any, w_h: Any, b: Any) -> Any:
    return np.tanh(x @ w_x + h @ w_h.T + b)


def _rnn_without_state(x: Any, h: Any, w_x: Any, w_h: Any, b: Any) -> Any:
    return np.tanh(x @ w_x + b)


def _rnn_vjp(dz: Any, x: Any, h: Any, w_x: Any, w_h: Any) -> tuple[Any, ...]:
    return dz @ w_x.T, dz @ w_h.T, x.T @ dz, h.T @ dz, dz.sum(axis=0)


def _rnn_slope(dy: Any, x: Any, h: Any, w_x: Any, w_h: Any, b: Any) -> Any:
    y = np.tanh(x @ w_x + h @ w_h + b)
    return dy * (1 - y * y)


def _rnn_without_derivative(dy: Any, x: Any, h: Any, w_x: Any, w_h: Any, b: Any) -> Any:
    return _rnn_vjp(dy, x, h, w_x, w_h)


def _rnn_new_state_in_weights(dy: Any, x: Any, h: Any, w_x: Any, w_h: Any, b: Any) -> Any:
    dz, y = _rnn_slope(dy, x, h, w_x, w_h, b), np.tanh(x @ w_x + h @ w_h + b)
    dx, dh, dw_x, _, db = _rnn_vjp(dz, x, h, w_x, w_h)
    return dx, dh, dw_x, y.T @ dz, db


def _rnn_state_gradient_lost(dy: Any, x: Any, h: Any, w_x: Any, w_h: Any, b: Any) -> Any:
    dx, _, *others = _rnn_vjp(_rnn_slope(dy, x, h, w_x, w_h, b), x, h, w_x, w_h)
    return dx, np.zeros_like(h), *others


def _rnn_state_gradient_transposed(dy: Any, x: Any, h: Any, w_x: Any, w_h: Any, b: Any) -> Any:
    dz = _rnn_slope(dy, x, h, w_x, w_h, b)
    dx, _, *others = _rnn_vjp(dz, x, h, w_x, w_h)
    return dx, dz @ w_h, *others


def _rnn_last_of_batch(dy: Any, x: Any, h: Any, w_x: Any, w_h: Any, b: Any) -> Any:
    dz = _rnn_slope(dy, x, h, w_x, w_h, b)
    dx, dh, *_ = _rnn_vjp(dz, x, h, w_x, w_h)
    return dx, dh, *_rnn_vjp(dz[-1:], x[-1:], h[-1:], w_x, w_h)[2:]


# ------------------------------------------------------------------------------------------------------- lstm


def _lstm_gates(
    x: Any, h: Any, w_x: Any, w_h: Any, b: Any, order: str = "ifgo", candidate: Any = np.tanh
) -> Mapping[str, Any]:
    z = dict(zip(order, _blocks(x @ w_x + h @ w_h + b, 4), strict=True))
    return {gate: candidate(z[gate]) if gate == "g" else _sigmoid(z[gate]) for gate in order}


def _lstm_in_order(x: Any, h: Any, c: Any, w_x: Any, w_h: Any, b: Any, *, order: str) -> Any:
    s = _lstm_gates(x, h, w_x, w_h, b, order)
    after = s["f"] * c + s["i"] * s["g"]
    return s["o"] * np.tanh(after), after


def _lstm_without_forgetting(x: Any, h: Any, c: Any, w_x: Any, w_h: Any, b: Any) -> Any:
    s = _lstm_gates(x, h, w_x, w_h, b)
    after = c + s["i"] * s["g"]
    return s["o"] * np.tanh(after), after


def _lstm_coupled(x: Any, h: Any, c: Any, w_x: Any, w_h: Any, b: Any) -> Any:
    s = _lstm_gates(x, h, w_x, w_h, b)
    after = (1 - s["i"]) * c + s["i"] * s["g"]
    return s["o"] * np.tanh(after), after


def _lstm_shows_bare_cell(x: Any, h: Any, c: Any, w_x: Any, w_h: Any, b: Any) -> Any:
    s = _lstm_gates(x, h, w_x, w_h, b)
    after = s["f"] * c + s["i"] * s["g"]
    return s["o"] * after, after


def _lstm_shows_old_cell(x: Any, h: Any, c: Any, w_x: Any, w_h: Any, b: Any) -> Any:
    s = _lstm_gates(x, h, w_x, w_h, b)
    return s["o"] * np.tanh(c), s["f"] * c + s["i"] * s["g"]


def _lstm_bias_twice(x: Any, h: Any, c: Any, w_x: Any, w_h: Any, b: Any) -> Any:
    return _lstm_in_order(x, h, c, w_x, w_h, b + b, order="ifgo")


def _lstm_transposed(x: Any, h: Any, c: Any, w_x: Any, w_h: Any, b: Any) -> Any:
    return _lstm_in_order(x, h, c, w_x, _each_transposed(w_h, 4), b, order="ifgo")


def _lstm_candidate_by_sigmoid(x: Any, h: Any, c: Any, w_x: Any, w_h: Any, b: Any) -> Any:
    s = _lstm_gates(x, h, w_x, w_h, b, candidate=_sigmoid)
    after = s["f"] * c + s["i"] * s["g"]
    return s["o"] * np.tanh(after), after


def _lstm_vjp(
    dy: Any,
    x: Any,
    h: Any,
    c: Any,
    w_x: Any,
    w_h: Any,
    b: Any,
    *,
    of_cell: Any = lambda dc, through_h: dc + through_h,
    of_tanh: Any = lambda after: 1 - np.tanh(after) ** 2,
    of_forget: Any = lambda c, after: c,
    order: Sequence[str] = "ifgo",
) -> tuple[Any, ...]:
    """The gradients; the keywords are the places where they are got wrong."""
    dh, dc = dy
    s = _lstm_gates(x, h, w_x, w_h, b)
    after = s["f"] * c + s["i"] * s["g"]
    e = of_cell(dc, dh * s["o"] * of_tanh(after))
    d = {
        "i": e * s["g"] * _slope(s["i"]),
        "f": e * of_forget(c, after) * _slope(s["f"]),
        "g": e * s["i"] * (1 - s["g"] ** 2),
        "o": dh * np.tanh(after) * _slope(s["o"]),
    }
    dz = np.concatenate([d[gate] for gate in order], axis=-1)
    return dz @ w_x.T, dz @ w_h.T, e * s["f"], x.T @ dz, h.T @ dz, dz.sum(axis=0)


def _lstm_state_gradient_lost(dy: Any, *inputs: Any) -> Any:
    dx, dh, *others = _lstm_vjp(dy, *inputs)
    return dx, np.zeros_like(dh), *others


def _lstm_cell_gradient_not_gated(dy: Any, x: Any, h: Any, c: Any, w_x: Any, w_h: Any, b: Any) -> Any:
    dh, dc = dy
    s = _lstm_gates(x, h, w_x, w_h, b)
    t = np.tanh(s["f"] * c + s["i"] * s["g"])
    d_x, d_h, _, *others = _lstm_vjp(dy, x, h, c, w_x, w_h, b)
    return d_x, d_h, dc + dh * s["o"] * (1 - t * t), *others


def _lstm_mean_over_batch(dy: Any, x: Any, *inputs: Any) -> Any:
    *of_inputs, dw_x, dw_h, db = _lstm_vjp(dy, x, *inputs)
    n = x.dtype.type(len(x))
    return *of_inputs, dw_x / n, dw_h / n, db / n


# -------------------------------------------------------------------------------------------------------- gru


def _gru_gates(x: Any, h: Any, w_x: Any, w_h: Any, b_x: Any, b_h: Any) -> tuple[Any, Any, Any, Any]:
    """r, z, and what x and h give to the candidate."""
    (xr, xz, xn), (hr, hz, hn) = _blocks(x @ w_x + b_x, 3), _blocks(h @ w_h + b_h, 3)
    return _sigmoid(xr + hr), _sigmoid(xz + hz), xn, hn


def _gru_without_reset(x: Any, h: Any, w_x: Any, w_h: Any, b_x: Any, b_h: Any) -> Any:
    _, z, xn, hn = _gru_gates(x, h, w_x, w_h, b_x, b_h)
    return (1 - z) * np.tanh(xn + hn) + z * h


def _gru_bias_not_reset(x: Any, h: Any, w_x: Any, w_h: Any, b_x: Any, b_h: Any) -> Any:
    r, z, xn, _ = _gru_gates(x, h, w_x, w_h, b_x, b_h)
    n = np.tanh(xn + r * (h @ _blocks(w_h, 3)[2]) + _blocks(b_h, 3)[2])
    return (1 - z) * n + z * h


def _gru_resets_everything(x: Any, h: Any, w_x: Any, w_h: Any, b_x: Any, b_h: Any) -> Any:
    r, z, xn, hn = _gru_gates(x, h, w_x, w_h, b_x, b_h)
    return (1 - z) * np.tanh(r * (xn + hn)) + z * h


def _gru_transposed(x: Any, h: Any, w_x: Any, w_h: Any, b_x: Any, b_h: Any) -> Any:
    r, z, xn, hn = _gru_gates(x, h, w_x, _each_transposed(w_h, 3), b_x, b_h)
    return (1 - z) * np.tanh(xn + r * hn) + z * h


def _gru_keeps_everything(x: Any, h: Any, w_x: Any, w_h: Any, b_x: Any, b_h: Any) -> Any:
    r, z, xn, hn = _gru_gates(x, h, w_x, w_h, b_x, b_h)
    return (1 - z) * np.tanh(xn + r * hn) + h


def _gru_vjp(
    dy: Any,
    x: Any,
    h: Any,
    w_x: Any,
    w_h: Any,
    b_x: Any,
    b_h: Any,
    *,
    of_update: Any = lambda z: z,
    of_reset: Any = lambda d_r: d_r,
    of_memory: Any = lambda da, r: da * r,
    kept: Any = lambda dy, z: dy * z,
) -> tuple[Any, ...]:
    """The gradients; the keywords are the places where they are got wrong."""
    r, z, xn, hn = _gru_gates(x, h, w_x, w_h, b_x, b_h)
    n, slope, z = np.tanh(xn + r * hn), _slope(z), of_update(z)
    da = dy * (1 - z) * (1 - n * n)
    d_r, d_z = of_reset(da * hn * _slope(r)), dy * (h - n) * slope
    d_x = np.concatenate((d_r, d_z, da), axis=-1)
    d_h = np.concatenate((d_r, d_z, of_memory(da, r)), axis=-1)
    dh = d_h @ w_h.T + kept(dy, z)
    return d_x @ w_x.T, dh, x.T @ d_x, h.T @ d_h, d_x.sum(axis=0), d_h.sum(axis=0)


def _gru_one_bias_gradient(dy: Any, *inputs: Any) -> Any:
    *others, db_x, _ = _gru_vjp(dy, *inputs)
    return *others, db_x, db_x.copy()


MISTAKES: tuple[Mistake, ...] = (
    Mistake(
        "rnn-hidden-product-transposed",
        "rnn_cell",
        "h w_h^T: the weights of the state are square, so that nothing complains",
        ("value", "special-values"),
        value=_rnn_transposed,
    ),
    Mistake(
        "rnn-without-state",
        "rnn_cell",
        "the last state is not used",
        ("value", "special-values", "nan-propagates"),
        value=_rnn_without_state,
    ),
    Mistake(
        "rnn-gradient-without-derivative-of-tanh",
        "rnn_cell",
        "the cotangent is not multiplied by the derivative of tanh",
        GRADIENT,
        vjp=_rnn_without_derivative,
        source="CaptainE/RNN-LSTM-in-numpy#1",
    ),
    Mistake(
        "rnn-weight-gradient-of-the-new-state",
        "rnn_cell",
        "the gradient of w_h is taken with the new state instead of the last one",
        GRADIENT,
        vjp=_rnn_new_state_in_weights,
        source="VikParuchuri/zero_to_gpt#9",
    ),
    Mistake(
        "rnn-state-gradient-lost",
        "rnn_cell",
        "the last state gets no gradient: nothing is learned from earlier steps",
        GRADIENT,
        vjp=_rnn_state_gradient_lost,
        source="CaptainE/RNN-LSTM-in-numpy#1; cthorey/CS231#1",
    ),
    Mistake(
        "rnn-state-gradient-transposed",
        "rnn_cell",
        "dz w_h instead of dz w_h^T, which has the right shape as well",
        GRADIENT,
        vjp=_rnn_state_gradient_transposed,
    ),
    Mistake(
        "rnn-parameter-gradients-of-last-example",
        "rnn_cell",
        "the gradients of the parameters are those of the last example, not their sum over the batch",
        GRADIENT,
        vjp=_rnn_last_of_batch,
    ),
    Mistake(
        "lstm-gates-forget-first",
        "lstm_cell",
        "the columns are read in the order f, i, g, o",
        ("value", "special-values"),
        value=partial(_lstm_in_order, order="figo"),
        source="apple/coremltools#93; NX-AI/xlstm#98; ooples/AiDotNet.Tensors#907",
    ),
    Mistake(
        "lstm-gates-output-before-candidate",
        "lstm_cell",
        "the columns are read in the order i, f, o, g",
        ("value", "special-values"),
        value=partial(_lstm_in_order, order="ifog"),
        source="apple/coremltools#93; NX-AI/xlstm#98; ooples/AiDotNet.Tensors#907",
    ),
    Mistake(
        "lstm-without-forget-gate",
        "lstm_cell",
        "c' = c + i g: the cell never forgets",
        ("value", "special-values"),
        value=_lstm_without_forgetting,
    ),
    Mistake(
        "lstm-forgets-what-it-writes",
        "lstm_cell",
        "1 - i in the place of the forget gate, as in a coupled cell",
        ("value", "special-values"),
        value=_lstm_coupled,
    ),
    Mistake(
        "lstm-shows-the-bare-cell",
        "lstm_cell",
        "h' = o c': the tanh of the cell is missing",
        ("value", "special-values"),
        value=_lstm_shows_bare_cell,
    ),
    Mistake(
        "lstm-shows-the-old-cell",
        "lstm_cell",
        "h' = o tanh(c): the cell of the last step is shown",
        ("value",),
        value=_lstm_shows_old_cell,
    ),
    Mistake(
        "lstm-bias-twice",
        "lstm_cell",
        "the bias is added with each of the two products",
        ("value",),
        value=_lstm_bias_twice,
    ),
    Mistake(
        "lstm-hidden-product-transposed",
        "lstm_cell",
        "the weights of h are transposed within each gate",
        ("value",),
        value=_lstm_transposed,
    ),
    Mistake(
        "lstm-candidate-by-sigmoid",
        "lstm_cell",
        "the candidate goes through the sigmoid, as the gates do, instead of tanh",
        ("value",),
        value=_lstm_candidate_by_sigmoid,
    ),
    Mistake(
        "lstm-gradient-through-h-forgotten",
        "lstm_cell",
        "the cotangent of h' does not reach the cell: only that of c' does",
        GRADIENT,
        vjp=partial(_lstm_vjp, of_cell=lambda dc, through_h: dc),
    ),
    Mistake(
        "lstm-cell-cotangent-dropped",
        "lstm_cell",
        "the cotangent of c' is not used: nothing is carried back from cell to cell",
        GRADIENT,
        vjp=partial(_lstm_vjp, of_cell=lambda dc, through_h: through_h),
        source="CaptainE/RNN-LSTM-in-numpy#1",
    ),
    Mistake(
        "lstm-derivative-at-the-cell-itself",
        "lstm_cell",
        "1 - c'^2 instead of 1 - tanh(c')^2",
        GRADIENT,
        vjp=partial(_lstm_vjp, of_tanh=lambda after: 1 - after * after),
    ),
    Mistake(
        "lstm-forget-gradient-of-the-new-cell",
        "lstm_cell",
        "the gradient of the forget gate is taken with the new cell instead of the last one",
        GRADIENT,
        vjp=partial(_lstm_vjp, of_forget=lambda c, after: after),
    ),
    Mistake(
        "lstm-gradient-in-another-order",
        "lstm_cell",
        "backward puts the gates in the order i, f, o, g, forward in the order i, f, g, o",
        GRADIENT,
        vjp=partial(_lstm_vjp, order="ifog"),
    ),
    Mistake(
        "lstm-state-gradient-lost",
        "lstm_cell",
        "the last h gets no gradient: only the cell carries back",
        GRADIENT,
        vjp=_lstm_state_gradient_lost,
        source="CaptainE/RNN-LSTM-in-numpy#1; cthorey/CS231#1",
    ),
    Mistake(
        "lstm-cell-gradient-not-gated",
        "lstm_cell",
        "the gradient of c is not multiplied by the forget gate",
        GRADIENT,
        vjp=_lstm_cell_gradient_not_gated,
    ),
    Mistake(
        "lstm-parameter-gradients-are-means",
        "lstm_cell",
        "the gradients of the parameters are means over the batch instead of sums",
        GRADIENT,
        vjp=_lstm_mean_over_batch,
    ),
    Mistake(
        "gru-without-reset-gate",
        "gru_cell",
        "the candidate sees the whole state: the reset gate does nothing",
        ("value", "special-values"),
        value=_gru_without_reset,
    ),
    Mistake(
        "gru-bias-not-reset",
        "gru_cell",
        "r (h w_hn) + b_hn: the reset gate must multiply the bias of the product as well",
        ("value", "special-values"),
        value=_gru_bias_not_reset,
    ),
    Mistake(
        "gru-resets-the-input",
        "gru_cell",
        "the reset gate multiplies the product of x as well",
        ("value",),
        value=_gru_resets_everything,
    ),
    Mistake(
        "gru-hidden-product-transposed",
        "gru_cell",
        "the weights of h are transposed within each gate",
        ("value",),
        value=_gru_transposed,
    ),
    Mistake(
        "gru-keeps-the-whole-state",
        "gru_cell",
        "the candidate is added to the state, whatever the update gate",
        ("value", "special-values"),
        value=_gru_keeps_everything,
    ),
    Mistake(
        "gru-update-gate-swapped-in-backward",
        "gru_cell",
        "backward has z where forward has 1 - z",
        GRADIENT,
        vjp=partial(_gru_vjp, of_update=lambda z: 1 - z),
        source="derived from keras-team/keras#14649; pytorch/pytorch#20129",
    ),
    Mistake(
        "gru-reset-gate-without-gradient",
        "gru_cell",
        "the reset gate is taken for a constant",
        GRADIENT,
        vjp=partial(_gru_vjp, of_reset=np.zeros_like),
    ),
    Mistake(
        "gru-memory-gradient-not-reset",
        "gru_cell",
        "the gradient that goes back through h w_hn is not multiplied by the reset gate",
        GRADIENT,
        vjp=partial(_gru_vjp, of_memory=lambda da, r: da),
        source="derived from keras-team/keras#3701",
    ),
    Mistake(
        "gru-kept-state-gradient-lost",
        "gru_cell",
        "h reaches h' past the gates as well, and that path has no gradient",
        GRADIENT,
        vjp=partial(_gru_vjp, kept=lambda dy, z: np.zeros_like(dy)),
    ),
    Mistake(
        "gru-one-gradient-for-both-biases",
        "gru_cell",
        "the bias of h gets the gradient of that of x, which differs in the candidate: it is not reset",
        GRADIENT,
        vjp=_gru_one_bias_gradient,
    ),
)
