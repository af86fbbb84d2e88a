"""Recurrent cells: one step in time: what they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from math import inf, nan
from typing import Any, NamedTuple

import numpy as np

from specs.activations import GOODFELLOW
from specs.maths import exp, kept, saved
from specs.spec import Case, Form, Input, Refusal, Spec, Variant

CHO = "Cho et al., Learning phrase representations using RNN encoder-decoder, EMNLP 2014, arXiv:1406.1078"

X, H, C = Input("x", degree=2), Input("h", degree=2), Input("c", degree=2)
W_X, W_H = Input("w_x", degree=2), Input("w_h", degree=2)

SIZES = (
    {"n": 3, "k": 1, "m": 2},
    {"n": 2, "k": 17, "m": 3},
    {"n": 1, "k": 2, "m": 17},
    {"n": 19, "k": 3, "m": 2},
    {"n": 5, "k": 4, "m": 3},
)
GATED_SIZES = tuple({**sizes, "m": min(sizes["m"], 9)} for sizes in SIZES)
"""With 17 units four gates have 1156 weights of h alone: too many for exact gradients."""


def _sigmoid(z: Any) -> Any:
    return 1 / (1 + exp(-z))


def _tanh(z: Any) -> Any:
    return (exp(z) - exp(-z)) / (exp(z) + exp(-z))


def _columns(z: Any, order: str) -> Mapping[str, Any]:
    """The gates by their letters, from arrays that have them side by side in an order."""
    m = z.shape[-1] // len(order)
    return {gate: z[..., place * m : (place + 1) * m] for place, gate in enumerate(order)}


def _rnn_cell(x: Any, h: Any, w_x: Any, w_h: Any, b: Any) -> Any:
    return _tanh(x @ w_x + h @ w_h + b)


def _lstm_cell(
    x: Any, h: Any, c: Any, w_x: Any, w_h: Any, b: Any, order: str = "ifgo", forget_bias: int = 0
) -> Any:
    z = _columns(x @ w_x + h @ w_h + b, order)
    c = _sigmoid(z["f"] + forget_bias) * c + _sigmoid(z["i"]) * _tanh(z["g"])
    return _sigmoid(z["o"]) * _tanh(c), c


def _gru_cell(
    x: Any,
    h: Any,
    w_x: Any,
    w_h: Any,
    b_x: Any,
    b_h: Any,
    order: str = "rzn",
    reset_before: bool = False,
    opens_to_the_candidate: bool = False,
) -> Any:
    of_x, of_h = _columns(x @ w_x + b_x, order), _columns(h @ w_h + b_h, order)
    r, z = _sigmoid(of_x["r"] + of_h["r"]), _sigmoid(of_x["z"] + of_h["z"])
    w, b = _columns(w_h, order)["n"], _columns(b_h, order)["n"]
    n = _tanh(of_x["n"] + ((r * h) @ w + b if reset_before else r * of_h["n"]))
    return z * n + (1 - z) * h if opens_to_the_candidate else (1 - z) * n + z * h


# ----------------------------------------------------------------------------------- forms, in floating point


def _stable_sigmoid(z: Any) -> Any:
    decay = np.exp(-np.abs(z))
    return kept(np.where(z < 0, decay, 1.0) / (1.0 + decay))


def _slope(y: Any) -> Any:
    """The derivative of the sigmoid from its value."""
    return kept(y * kept(1.0 - y))


def _slope_of_tanh(y: Any) -> Any:
    return kept(1.0 - kept(y * y))


def _arguments(x: Any, h: Any, w_x: Any, w_h: Any, b: Any, apart: bool) -> Any:
    """x w_x + h w_h + b: x and h side by side, one sum of all terms in any order; or `apart`.

    Libraries add the bias to the first product, to the second, or to their sum, and round what they keep:
    |x w_x + h w_h| is at most |x w_x| + |z| + |x w_x + b|, so that keeping the first product and z twice
    covers all of these.
    """
    if apart:
        return kept(kept(kept(kept(kept(x @ w_x)) + b) + kept(h @ w_h)))
    return np.concatenate((x, h), axis=-1) @ np.concatenate((w_x, w_h), axis=0) + b


def _through(x: Any, h: Any, w_x: Any, w_h: Any, d_x: Any, d_h: Any) -> tuple[Any, ...]:
    """The gradients for x, h, w_x and w_h of the two products, from those of their values."""
    return d_x @ w_x.T, kept(d_h @ w_h.T), x.T @ d_x, h.T @ d_h


def _in_columns(gates: Mapping[str, Any], order: str) -> Any:
    return np.concatenate([gates[gate] for gate in order], axis=-1)


def _rnn_in_floats(x: Any, h: Any, w_x: Any, w_h: Any, b: Any, apart: bool = False) -> Any:
    return np.tanh(_arguments(x, h, w_x, w_h, b, apart))


def _rnn_vjp_from_value(dy: Any, y: Any, x: Any, h: Any, w_x: Any, w_h: Any, b: Any) -> tuple[Any, ...]:
    dz = kept(kept(dy * _slope_of_tanh(y)))
    return *_through(x, h, w_x, w_h, dz, dz), dz.sum(axis=0)


class _Lstm(NamedTuple):
    """The values of the gates, and the new cell."""

    i: Any
    f: Any
    g: Any
    o: Any
    c: Any


def _lstm_gates(
    x: Any, h: Any, c: Any, w_x: Any, w_h: Any, b: Any, order: str, forget_bias: float, apart: bool
) -> _Lstm:
    z = _columns(_arguments(x, h, w_x, w_h, b, apart), order)
    f = _stable_sigmoid(kept(z["f"] + forget_bias) if forget_bias else z["f"])
    i, g, o = _stable_sigmoid(z["i"]), kept(np.tanh(z["g"])), _stable_sigmoid(z["o"])
    return _Lstm(i, f, g, o, kept(kept(f * c) + kept(i * g)))


def _lstm_in_floats(
    x: Any,
    h: Any,
    c: Any,
    w_x: Any,
    w_h: Any,
    b: Any,
    order: str = "ifgo",
    forget_bias: float = 0.0,
    apart: bool = False,
) -> Any:
    s = _lstm_gates(x, h, c, w_x, w_h, b, order, forget_bias, apart)
    return s.o * kept(np.tanh(s.c)), s.c


def _lstm_vjp_from_gates(
    dy: Any,
    y: Any,
    x: Any,
    h: Any,
    c: Any,
    w_x: Any,
    w_h: Any,
    b: Any,
    order: str = "ifgo",
    forget_bias: float = 0.0,
    apart: bool = False,
) -> tuple[Any, ...]:
    dh, dc = dy
    s = _Lstm(*map(saved, _lstm_gates(x, h, c, w_x, w_h, b, order, forget_bias, apart)))
    t = saved(kept(np.tanh(s.c)))
    e = kept(dc + kept(kept(dh * s.o) * _slope_of_tanh(t)))
    gates = {
        "i": kept(kept(e * s.g) * _slope(s.i)),
        "f": kept(kept(e * c) * _slope(s.f)),
        "g": kept(kept(e * s.i) * _slope_of_tanh(s.g)),
        "o": kept(kept(dh * t) * _slope(s.o)),
    }
    dz = _in_columns(gates, order)
    d_x, d_h, d_w_x, d_w_h = _through(x, h, w_x, w_h, dz, dz)
    return d_x, d_h, e * s.f, d_w_x, d_w_h, dz.sum(axis=0)


class _Gru(NamedTuple):
    """The values of the gates, and what h gives to the candidate before its reset."""

    r: Any
    z: Any
    n: Any
    memory: Any


def _gru_gates(
    x: Any, h: Any, w_x: Any, w_h: Any, b_x: Any, b_h: Any, order: str, reset_before: bool, apart: bool
) -> _Gru:
    w, b = _columns(w_h, order)["n"], _columns(b_h, order)["n"]
    of_x, of_h = kept(kept(x @ w_x) + b_x), kept(kept(h @ w_h) + b_h)
    gates = _columns(kept(of_x + of_h) if apart else _arguments(x, h, w_x, w_h, b_x, apart) + b_h, order)
    r, z, memory = _stable_sigmoid(gates["r"]), _stable_sigmoid(gates["z"]), _columns(of_h, order)["n"]
    of_state = kept(kept(kept(r * h) @ w) + b) if reset_before else kept(r * memory)
    return _Gru(r, z, kept(np.tanh(kept(_columns(of_x, order)["n"] + of_state))), memory)


def _gru_in_floats(
    x: Any,
    h: Any,
    w_x: Any,
    w_h: Any,
    b_x: Any,
    b_h: Any,
    order: str = "rzn",
    reset_before: bool = False,
    opens_to_the_candidate: bool = False,
    by_difference: bool = False,
    apart: bool = False,
) -> Any:
    _, z, n, _ = _gru_gates(x, h, w_x, w_h, b_x, b_h, order, reset_before, apart)
    if by_difference:
        return n + kept(z * kept(h - n))
    rest = kept(1.0 - z)
    one, two = (z * n, rest * h) if opens_to_the_candidate else (rest * n, z * h)
    return kept(one) + kept(two)


def _gru_vjp_from_gates(
    dy: Any,
    y: Any,
    x: Any,
    h: Any,
    w_x: Any,
    w_h: Any,
    b_x: Any,
    b_h: Any,
    order: str = "rzn",
    reset_before: bool = False,
    opens_to_the_candidate: bool = False,
    apart: bool = False,
) -> tuple[Any, ...]:
    r, z, n, memory = map(saved, _gru_gates(x, h, w_x, w_h, b_x, b_h, order, reset_before, apart))
    of_z = kept(z * dy)
    of_rest = kept(dy - of_z)
    dn, passed = (of_z, of_rest) if opens_to_the_candidate else (of_rest, of_z)
    of_n, of_h = kept(dy * n), kept(dy * h)
    difference = kept(of_n - of_h if opens_to_the_candidate else of_h - of_n)
    w, da = _columns(w_h, order), kept(dn * _slope_of_tanh(n))
    of_reset = kept(da @ w["n"].T)
    d = {
        "r": kept(kept(of_reset * h if reset_before else da * memory) * _slope(r)),
        "z": kept(difference * _slope(z)),
        "n": da,
    }
    d_x = _in_columns(d, order)
    d_h = d_x if reset_before else _in_columns(d | {"n": kept(da * r)}, order)
    dx, dh, d_w_x, d_w_h = _through(x, h, w_x, w_h, d_x, d_h)
    if reset_before:
        dh = kept(kept(d["r"] @ w["r"].T) + kept(d["z"] @ w["z"].T)) + kept(of_reset * r)
        d_w_h = _in_columns({gate: h.T @ d[gate] for gate in "rz"} | {"n": kept(r * h).T @ da}, order)
    return dx, kept(dh) + passed, d_w_x, d_w_h, d_x.sum(axis=0), d_h.sum(axis=0)


# ---------------------------------------------------------------------------------- the same in another order


def _both_ways(
    name: str, used_by: str, value: Callable[..., Any], vjp: Callable[..., Any], **convention: Any
) -> tuple[Form, ...]:
    """A cell by one product of x and h side by side, and by two."""
    return tuple(
        Form(
            about, used_by, partial(value, apart=apart, **convention), partial(vjp, apart=apart, **convention)
        )
        for about, apart in ((f"{name}, by one product", False), (f"{name}, by two products", True))
    )


def _lstm_variant(name: str, summary: str, used_by: str, order: str, forget_bias: int = 0) -> Variant:
    about: dict[str, Any] = {"order": order, "forget_bias": forget_bias}
    forms = _both_ways(name, used_by, _lstm_in_floats, _lstm_vjp_from_gates, **about)
    return Variant(name, summary, used_by, definition=partial(_lstm_cell, **about), forms=forms)


LSTM_VARIANTS = (
    _lstm_variant(
        "gates-input-candidate-forget-output",
        "the columns of the candidate before those of the forget gate",
        "TensorFlow 1 (BasicLSTMCell and LSTMBlockCell, forget_bias=0)",
        "igfo",
    ),
    _lstm_variant(
        "gates-input-candidate-forget-output-and-1",
        "the columns of the candidate before those of the forget gate, which has a bias of 1 more",
        "TensorFlow 1 (BasicLSTMCell and LSTMBlockCell, by default), Haiku",
        "igfo",
        1,
    ),
    _lstm_variant(
        "gates-input-output-forget-candidate", "the columns in the order i, o, f, c", "ONNX", "iofg"
    ),
)


def _gru_variant(name: str, summary: str, used_by: str, **convention: Any) -> Variant:
    forms = _both_ways(name, used_by, _gru_in_floats, _gru_vjp_from_gates, **convention)
    return Variant(name, summary, used_by, definition=partial(_gru_cell, **convention), forms=forms)


GRU_VARIANTS = (
    _gru_variant(
        "reset-before-the-product",
        "the reset gate multiplies h before the product with w_hn, not the product and its bias",
        "Cho et al. (2014), with the gates in this order",
        reset_before=True,
    ),
    _gru_variant(
        "gates-update-reset-candidate",
        "the columns of the update gate before those of the reset gate",
        "Keras (reset_after=True), ONNX (linear_before_reset=1)",
        order="zrn",
    ),
    _gru_variant(
        "gates-update-reset-candidate-and-reset-before",
        "the columns of the update gate come first, and the reset gate multiplies h before the product",
        "Keras (reset_after=False), ONNX (linear_before_reset=0)",
        order="zrn",
        reset_before=True,
    ),
    _gru_variant(
        "update-gate-opens-to-the-candidate",
        "h' = z n + (1 - z) h: an open update gate replaces the state",
        "Lasagne",
        opens_to_the_candidate=True,
    ),
    _gru_variant(
        "gates-update-reset-candidate-and-reset-before-and-update-opens",
        "the update gate comes first and opens to the candidate, and the reset gate multiplies h before",
        "Haiku, Sonnet 2; the equations of Chung et al. (2014), arXiv:1412.3555",
        order="zrn",
        reset_before=True,
        opens_to_the_candidate=True,
    ),
)

ZERO = [[0.0]]
THREE, FOUR = [[0.0] * 3], [[0.0] * 4]
NO_BATCH = np.zeros((0, 1))

SPECS = (
    Spec(
        name="rnn_cell",
        summary="One step of a simple recurrent network: a layer with tanh of the input and the last state.",
        signature="(n,k),(n,m),(k,m),(m,m),(m)->(n,m)",
        definition=_rnn_cell,
        inputs=(X, H, W_X, W_H, Input("b")),
        outputs=("h",),
        equations=("h' = tanh(x w_x + h w_h + b)",),
        shapes=SIZES,
        laws=("nan-reaches-gradients",),
        cases=(
            Case(
                "rows times columns",
                (
                    [[1.0, 2.0]],
                    [[1.0, 0.0]],
                    [[400.0, 0.0], [-400.0, 0.0]],
                    [[0.0, 500.0], [7.0, 7.0]],
                    [0.0, 0.0],
                ),
                [[-1.0, 1.0]],
            ),
            Case("nothing comes of nothing", (ZERO, ZERO, [[3.0]], [[2.0]], [0.0]), ZERO),
            Case(
                "the infinities",
                (ZERO, [[0.0, 0.0]], [[0.0, 0.0]], np.zeros((2, 2)), [inf, -inf]),
                [[1.0, -1.0]],
            ),
            Case(
                "the NaN of an example stays with it",
                ([[nan], [0.0]], [[0.0], [0.0]], [[1.0]], ZERO, [0.0]),
                [[nan], [0.0]],
            ),
            Case("a batch of nothing", (NO_BATCH, NO_BATCH, [[1.0]], [[1.0]], [0.0]), NO_BATCH),
        ),
        refusals=(
            Refusal(
                "weights stored (outputs, inputs)",
                ([[1.0, 2.0]], [[0.0] * 3], np.zeros((3, 2)), np.zeros((3, 3)), [0.0] * 3),
                "k = 2",
            ),
            Refusal(
                "a state of another batch",
                ([[1.0]], [[0.0], [0.0]], [[1.0]], [[1.0]], [0.0]),
                "n = 1",
            ),
            Refusal("one example without its batch axis", ([1.0], [0.0], [[1.0]], [[1.0]], [0.0]), "shape"),
        ),
        forms=(
            Form(
                "x and h side by side in one product; the derivative from the output, 1 - h'^2",
                "TensorFlow",
                value=_rnn_in_floats,
                vjp=_rnn_vjp_from_value,
            ),
            Form("two products", "PyTorch, JAX", value=partial(_rnn_in_floats, apart=True)),
        ),
        references=(
            "Elman, Finding structure in time, Cognitive Science 14 (1990)",
            f"{GOODFELLOW}, 10.2, equations 10.8 and 10.9",
        ),
    ),
    Spec(
        name="lstm_cell",
        summary="One step of long short-term memory: a cell that gates write, keep and show.",
        signature="(n,k),(n,m),(n,m),(k,g),(m,g),(g)->(n,m),(n,m)",
        definition=_lstm_cell,
        inputs=(X, H, C, W_X, W_H, Input("b")),
        outputs=("h", "c"),
        equations=(
            "(zi, zf, zg, zo) = x w_x + h w_h + b, four blocks of m columns",
            "i = sigmoid(zi), f = sigmoid(zf), g = tanh(zg), o = sigmoid(zo)",
            "c' = f c + i g",
            "h' = o tanh(c')",
        ),
        derived={"g": lambda sizes, settings: 4 * sizes["m"]},
        shapes=GATED_SIZES,
        laws=("nan-reaches-gradients",),
        cases=(
            Case(
                "closed to the input, open to the past",
                (ZERO, ZERO, [[3.0]], FOUR, FOUR, [-inf, inf, inf, -inf]),
                ([[0.0]], [[3.0]]),
            ),
            Case(
                "open to the input, closed to the past",
                (ZERO, ZERO, [[3.0]], FOUR, FOUR, [inf, -inf, inf, -inf]),
                ([[0.0]], [[1.0]]),
            ),
            Case(
                "open to both: the cell adds",
                (ZERO, ZERO, [[3.0]], FOUR, FOUR, [inf, inf, inf, -inf]),
                ([[0.0]], [[4.0]]),
            ),
            Case(
                "all gates half open, but the output",
                ([[5.0]], [[7.0]], [[3.0]], FOUR, FOUR, [0.0, 0.0, inf, -inf]),
                ([[0.0]], [[2.0]]),
            ),
            Case(
                "a full cell is shown as 1",
                (ZERO, ZERO, [[inf]], FOUR, FOUR, [0.0, 0.0, 0.0, inf]),
                ([[1.0]], [[inf]]),
            ),
            Case(
                "the NaN of an example stays with it",
                ([[nan], [0.0]], [[0.0], [0.0]], [[1.0], [2.0]], [[1.0] * 4], FOUR, [0.0, 0.0, 0.0, -inf]),
                ([[nan], [0.0]], [[nan], [1.0]]),
            ),
            Case(
                "a batch of nothing",
                (NO_BATCH, NO_BATCH, NO_BATCH, FOUR, FOUR, [0.0] * 4),
                (NO_BATCH, NO_BATCH),
            ),
        ),
        refusals=(
            Refusal("three gates", (ZERO, ZERO, ZERO, THREE, THREE, [0.0] * 3), "g = 4, 4 gates of m = 1"),
            Refusal("a bias for each unit, not each gate", (ZERO, ZERO, ZERO, FOUR, FOUR, [0.0]), "g = 4"),
            Refusal("cells of another batch", (ZERO, ZERO, [[0.0], [0.0]], FOUR, FOUR, [0.0] * 4), "n = 1"),
        ),
        forms=_both_ways(
            "derivatives from the values of the gates",
            "PyTorch, TensorFlow, JAX",
            _lstm_in_floats,
            _lstm_vjp_from_gates,
        ),
        variants=LSTM_VARIANTS,
        references=(
            "Hochreiter & Schmidhuber, Long short-term memory, Neural Computation 9 (1997)",
            "Gers, Schmidhuber & Cummins, Learning to forget, Neural Computation 12 (2000)",
        ),
    ),
    Spec(
        name="gru_cell",
        summary="One step of a gated recurrent unit: a state between the last one and a candidate.",
        signature="(n,k),(n,m),(k,g),(m,g),(g),(g)->(n,m)",
        definition=_gru_cell,
        inputs=(X, H, W_X, W_H, Input("b_x", degree=2), Input("b_h", degree=2)),
        outputs=("h",),
        equations=(
            "(xr, xz, xn) = x w_x + b_x and (hr, hz, hn) = h w_h + b_h, three blocks of m columns",
            "r = sigmoid(xr + hr), z = sigmoid(xz + hz)",
            "n = tanh(xn + r hn)",
            "h' = (1 - z) n + z h",
        ),
        derived={"g": lambda sizes, settings: 3 * sizes["m"]},
        shapes=GATED_SIZES,
        laws=("nan-reaches-gradients",),
        cases=(
            Case("half of the state stays", (ZERO, [[2.0]], THREE, THREE, [0.0] * 3, [0.0] * 3), [[1.0]]),
            Case(
                "an open update gate keeps the state",
                (ZERO, [[3.0]], THREE, THREE, [0.0, inf, inf], [0.0] * 3),
                [[3.0]],
            ),
            Case(
                "a closed one takes the candidate",
                (ZERO, [[3.0]], THREE, THREE, [0.0, -inf, inf], [0.0] * 3),
                [[1.0]],
            ),
            Case(
                "a closed reset gate hides the product of h, and its bias",
                (ZERO, [[3.0]], THREE, [[0.0, 0.0, 300.0]], [-inf, -inf, 0.0], [0.0, 0.0, 300.0]),
                [[0.0]],
            ),
            Case(
                "the NaN of an example stays with it",
                ([[nan], [0.0]], [[1.0], [2.0]], [[1.0] * 3], THREE, [0.0] * 3, [0.0] * 3),
                [[nan], [1.0]],
            ),
            Case(
                "a batch of nothing",
                (NO_BATCH, NO_BATCH, THREE, THREE, [0.0] * 3, [0.0] * 3),
                NO_BATCH,
            ),
        ),
        refusals=(
            Refusal("four gates", (ZERO, ZERO, FOUR, FOUR, [0.0] * 4, [0.0] * 4), "g = 3, 3 gates of m = 1"),
            Refusal("one bias too short", (ZERO, ZERO, THREE, THREE, [0.0] * 3, [0.0]), "g = 3"),
            Refusal(
                "a state of another batch",
                (ZERO, [[0.0], [0.0]], THREE, THREE, [0.0] * 3, [0.0] * 3),
                "n = 1",
            ),
        ),
        forms=(
            *_both_ways(
                "1 - z by subtraction, derivatives from the values of the gates",
                "Keras, JAX (Flax)",
                _gru_in_floats,
                _gru_vjp_from_gates,
            ),
            Form("n + z (h - n)", "PyTorch", value=partial(_gru_in_floats, by_difference=True, apart=True)),
        ),
        variants=GRU_VARIANTS,
        references=(CHO,),
    ),
)
