"""The network is the composition of its operators, bit for bit, and refuses what does not fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

import refnet
from refnet import (
    Activation,
    ArgumentError,
    Array,
    Labels,
    Layer,
    Network,
    binary_cross_entropy_with_logits,
    collapse,
    identity,
    initialise,
    linear,
    mlp,
    mlp_gradients,
    mlp_loss,
    predict,
    predict_probabilities,
    relu,
    sgd_step,
    sigmoid,
    softmax,
    softmax_cross_entropy_with_integer_labels,
    tanh,
)
from refnet.network import backward, forward
from verify.arithmetic.bounds import Bounded, granted_model
from verify.arithmetic.formats import FLOAT32


class Problem(NamedTuple):
    """A network, its parameters and labelled samples."""

    network: Network
    params: list[Layer]
    x: Array
    labels: Labels


def problem(network: Network, samples: int, dtype: npt.DTypeLike = np.float64, seed: int = 0) -> Problem:
    rng = np.random.default_rng(seed)
    params = [Layer(w, b + b.dtype.type(0.5)) for w, b in initialise(network, rng, dtype=dtype)]
    x = rng.standard_normal((samples, network.sizes[0])).astype(dtype)
    return Problem(network, params, x, rng.integers(network.classes, size=samples))


PROBLEMS = [
    problem(Network((3, 4)), 5),
    problem(Network((4, 6, 3)), 1),
    problem(Network((4, 6, 3), tanh), 7),
    problem(Network((4, 8, 5, 3), sigmoid), 6, np.float32),
    problem(Network((4, 2, 5, 3, 4), identity), 3),
    problem(Network((4, 6, 1), relu, "sigmoid"), 7),
    problem(Network((2, 1), relu, "sigmoid"), 1, np.float32),
]


def same_bits(got: Sequence[Array], want: Sequence[Array]) -> bool:
    return [(a.dtype, a.shape, a.tobytes()) for a in got] == [(a.dtype, a.shape, a.tobytes()) for a in want]


def flat(layers: Sequence[tuple[Array, Array]]) -> list[Array]:
    return [array for layer in layers for array in layer]


# ------------------------------------------------------------------------------------- forward and backward

Logits = Callable[[Problem], Array]
Gradients = Callable[[Problem], list[Layer]]


def logits_by_hand(p: Problem) -> Array:
    h = p.x
    for w, b in p.params[:-1]:
        h = p.network.activation(linear(h, w, b))
    return linear(h, *p.params[-1])


def slope_by_hand(p: Problem, z: Array) -> Array:
    one = np.ones((), z.dtype)
    if p.network.head == "sigmoid":
        return binary_cross_entropy_with_logits.vjp(one, z, p.labels[:, None].astype(z.dtype)).z
    return softmax_cross_entropy_with_integer_labels.vjp(one, z, p.labels).z


def gradients_by_hand(p: Problem) -> list[Layer]:
    """The vjp of each operator in turn, from the loss to the first layer."""
    inputs, sums = [p.x], []
    for w, b in p.params:
        sums.append(linear(inputs[-1], w, b))
        inputs.append(p.network.activation(sums[-1]))
    dz = slope_by_hand(p, sums[-1])
    gradients: list[Layer] = []
    for position in range(len(p.params) - 1, -1, -1):
        dx, dw, db = linear.vjp(dz, inputs[position], *p.params[position])
        gradients.insert(0, Layer(dw, db))
        if position:
            (dz,) = p.network.activation.vjp(dx, sums[position - 1])
    return gradients


def assert_composition(logits: Logits) -> None:
    for p in PROBLEMS:
        assert same_bits([logits(p)], [logits_by_hand(p)]), p.network.sizes


def assert_chain_rule(gradients: Gradients) -> None:
    for p in PROBLEMS:
        assert same_bits(flat(gradients(p)), flat(gradients_by_hand(p))), p.network.sizes


def logits(p: Problem) -> Array:
    return mlp(p.x, p.params, activation=p.network.activation)


def gradients(p: Problem) -> list[Layer]:
    return mlp_gradients(p.params, p.x, p.labels, activation=p.network.activation, head=p.network.head)


def test_the_network_is_the_composition_of_its_operators() -> None:
    assert_composition(logits)


def test_its_gradients_are_those_of_its_operators_in_reverse() -> None:
    assert_chain_rule(gradients)


def test_the_loss_is_the_loss_of_the_logits() -> None:
    for p in PROBLEMS:
        z = logits_by_hand(p)
        if p.network.head == "sigmoid":
            want = binary_cross_entropy_with_logits(z, p.labels[:, None].astype(z.dtype))
        else:
            want = softmax_cross_entropy_with_integer_labels(z, p.labels)
        got = mlp_loss(p.params, p.x, p.labels, activation=p.network.activation, head=p.network.head)
        assert same_bits([got], [want])
        assert got.shape == ()


def without_biases(p: Problem) -> Problem:
    return p._replace(params=[Layer(w, np.zeros_like(b)) for w, b in p.params])


WRONG_LOGITS: dict[str, Logits] = {
    "activation after the last layer": lambda p: p.network.activation(logits(p)),
    "no activation": lambda p: mlp(p.x, p.params, activation=identity),
    "no biases": lambda p: logits(without_biases(p)),
    "ReLU whatever was asked": lambda p: mlp(p.x, p.params),
}

WRONG_GRADIENTS: dict[str, Gradients] = {
    "sum in place of mean": lambda p: [Layer(w * len(p.x), b * len(p.x)) for w, b in gradients(p)],
    "the first sample only": lambda p: gradients(p._replace(x=p.x[:1], labels=p.labels[:1])),
    "layers in the order of the backward pass": lambda p: gradients(p)[::-1],
    "no activation": lambda p: mlp_gradients(
        p.params, p.x, p.labels, activation=identity, head=p.network.head
    ),
    "forward without biases": lambda p: gradients(without_biases(p)),
    "weights the wrong way round": lambda p: [Layer(w.T.copy(), b) for w, b in gradients(p)],
}


@pytest.mark.parametrize("wrong", WRONG_LOGITS.values(), ids=WRONG_LOGITS)
def test_a_wrong_forward_is_caught(wrong: Logits) -> None:
    with pytest.raises(AssertionError):
        assert_composition(wrong)


@pytest.mark.parametrize("wrong", WRONG_GRADIENTS.values(), ids=WRONG_GRADIENTS)
def test_a_wrong_backward_is_caught(wrong: Gradients) -> None:
    with pytest.raises(AssertionError):
        assert_chain_rule(wrong)


# -------------------------------------------------------------------------------------------------- purity

Call = Callable[[Problem], Sequence[Array]]

PURE: dict[str, Call] = {
    "mlp": lambda p: [logits(p)],
    "mlp_gradients": lambda p: flat(gradients(p)),
    "mlp_loss": lambda p: [
        mlp_loss(p.params, p.x, p.labels, activation=p.network.activation, head=p.network.head)
    ],
    "predict": lambda p: [
        predict(p.x, p.params, activation=p.network.activation, head=p.network.head).astype(np.float64)
    ],
    "predict_probabilities": lambda p: [
        predict_probabilities(p.x, p.params, activation=p.network.activation, head=p.network.head)
    ],
    "collapse": lambda p: list(collapse(p.params)),
    "forward and backward": lambda p: flat(backward(forward(p.x, p.params)[1], np.ones_like(logits(p)))),
}


def assert_pure(call: Call) -> None:
    """Inputs stay, results share no memory with them or with each other, a second call repeats the bits."""
    for p in PROBLEMS:
        given = [p.x, *flat(p.params)]
        kept = [a.copy() for a in given]
        results = [*call(p), *call(p)]
        half = len(results) // 2
        assert same_bits(given, kept)
        assert same_bits(results[:half], results[half:])
        assert not any(np.shares_memory(r, a) for r in results for a in given)
        assert not any(np.shares_memory(r, s) for i, r in enumerate(results) for s in results[:i])


def scale_in_place(p: Problem) -> Sequence[Array]:
    p.x[...] *= 2.0
    try:
        return [p.x.copy()]
    finally:
        p.x[...] *= 0.5


def double_in_place(p: Problem) -> Sequence[Array]:
    p.params[0].b[...] += 1.0
    return [np.zeros(1)]


KEPT: dict[int, Array] = {}

IMPURE: dict[str, Call] = {
    "modifies a bias": double_in_place,
    "returns its input": lambda p: [p.x],
    "returns a view of its parameters": lambda p: [p.params[0].w.T],
    "returns the same memory again": lambda p: [KEPT.setdefault(id(p), np.zeros(3))],
    "returns one array twice": lambda p: [p.x.copy()] * 2,
}


@pytest.mark.parametrize("call", PURE.values(), ids=PURE)
def test_a_function_of_the_network_is_pure(call: Call) -> None:
    assert_pure(call)


@pytest.mark.parametrize("call", IMPURE.values(), ids=IMPURE)
def test_an_impure_function_is_caught(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    copies = [p._replace(params=[Layer(w.copy(), b.copy()) for w, b in p.params]) for p in PROBLEMS]
    monkeypatch.setattr(f"{__name__}.PROBLEMS", copies)
    with pytest.raises(AssertionError):
        assert_pure(call)


# ------------------------------------------------------------------------------------ other kinds of arrays


def integers(network: Network, samples: int) -> Problem:
    """Small integers, which every order of summation adds exactly."""
    p = problem(network, samples)
    rng = np.random.default_rng(1)

    def draw(a: Array) -> Array:
        return rng.integers(-3, 4, a.shape).astype(np.float64)

    return p._replace(params=[Layer(draw(w), draw(b)) for w, b in p.params], x=draw(p.x))


@pytest.mark.parametrize("activation", [relu, identity], ids=lambda op: op.name)
def test_the_same_code_runs_on_arrays_with_error_bounds(activation: Activation) -> None:
    p = integers(Network((4, 6, 5, 3), activation), 7)
    model = granted_model(FLOAT32, statistical=False)

    def bounded(a: Array) -> Any:
        return Bounded(a, 0.0, model)

    z, residuals = forward(p.x, p.params, activation=activation)
    dz = np.sign(z)
    lifted = [(bounded(w), bounded(b)) for w, b in p.params]
    bounded_z, bounded_residuals = forward(bounded(p.x), lifted, activation=activation)
    got: list[Any] = [bounded_z, *flat(backward(bounded_residuals, bounded(dz)))]
    want = [z, *flat(backward(residuals, dz))]
    assert same_bits([a.value + 0.0 for a in got], [a + 0.0 for a in want])  # -0 + 0 = 0
    assert all((a.error >= 0.0).all() for a in got)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_the_half_formats_are_computed_in_float32_and_rounded_once(dtype: str) -> None:
    p = problem(Network((4, 6, 3)), 5, dtype)
    wide = p._replace(
        params=[Layer(w.astype(np.float32), b.astype(np.float32)) for w, b in p.params],
        x=p.x.astype(np.float32),
    )
    assert same_bits([logits(p)], [logits(wide).astype(dtype)])
    assert same_bits(flat(gradients(p)), [a.astype(dtype) for a in flat(gradients(wide))])


# ------------------------------------------------------------------------------------------------- collapse

Collapse = Callable[[Sequence[Layer]], Layer]


def assert_one_affine_map(collapsed: Collapse) -> None:
    for sizes in ((3, 4), (4, 6, 3), (4, 6, 5, 3), (2, 3, 4, 5, 3, 2)):
        p = integers(Network(sizes, identity), 5)
        assert same_bits([linear(p.x, *collapsed(p.params)) + 0.0], [logits(p) + 0.0]), sizes


def test_a_network_without_activations_is_its_collapsed_map() -> None:
    assert_one_affine_map(collapse)


WRONG_COLLAPSES: dict[str, Collapse] = {
    "no biases": lambda params: Layer(collapse(params).w, params[-1].b),
    "biases added up": lambda params: Layer(
        collapse(params).w, params[-1].b + sum(float(layer.b.sum()) for layer in params[:-1])
    ),
    "the first layer only": lambda params: params[0],
    "the last layer left out": lambda params: collapse(params[:-1] or params),
}


@pytest.mark.parametrize("wrong", WRONG_COLLAPSES.values(), ids=WRONG_COLLAPSES)
def test_a_wrong_collapse_is_caught(wrong: Collapse) -> None:
    with pytest.raises((AssertionError, ArgumentError)):
        assert_one_affine_map(wrong)


# ------------------------------------------------------------------------------------------------ prediction

EYE = [Layer(np.eye(3), np.zeros(3))]
ONE = [Layer(np.ones((1, 1)), np.zeros(1))]

Predict = Callable[[Array, Sequence[Layer], refnet.Head], Labels]


def assert_predicts(predicted: Predict) -> None:
    """Ties go to the first class; the probability at 2^-60 is above a half, though it rounds to 0.5."""
    x = np.array([[0.0, 1.0, 2.0], [3.0, 3.0, -1.0], [-1.0, 5.0, 5.0], [-9.0, -8.0, -9.5], [40.0, 41.0, 0.0]])
    assert predicted(x, EYE, "softmax").tolist() == [2, 0, 1, 1, 1]
    z = np.array([[-1.0], [0.0], [2.0**-60], [1.0], [-(2.0**-60)], [np.inf], [-np.inf]])
    assert predicted(z, ONE, "sigmoid").tolist() == [0, 0, 1, 1, 0, 1, 0]


def test_the_most_probable_class_is_predicted() -> None:
    assert_predicts(lambda x, params, head: predict(x, params, head=head))


def test_probabilities_are_those_of_the_head() -> None:
    z = np.array([[1.0, 2.0, 3.0], [-700.0, 0.0, 700.0]])
    assert same_bits([predict_probabilities(z, EYE)], [softmax(z)])
    z = np.array([[0.0], [-40.0], [40.0]])
    got = predict_probabilities(z, ONE, head="sigmoid")
    assert same_bits([got], [np.concatenate((sigmoid(-z), sigmoid(z)), axis=1)])
    assert got[2, 0] > 0.0


WRONG_PREDICTIONS: dict[str, Predict] = {
    "the last of a tie": lambda x, params, head: (
        x.shape[1] - 1 - x[:, ::-1].argmax(1) if head == "softmax" else predict(x, params, head=head)
    ),
    "1 at a half": lambda x, params, head: (
        (x[:, 0] >= 0).astype(np.intp) if head == "sigmoid" else predict(x, params, head=head)
    ),
    "the rounded probability": lambda x, params, head: (
        (sigmoid(x)[:, 0] > 0.5).astype(np.intp) if head == "sigmoid" else predict(x, params, head=head)
    ),
    "argmax of a single output": lambda x, params, head: x.argmax(1),
}


@pytest.mark.parametrize("wrong", WRONG_PREDICTIONS.values(), ids=WRONG_PREDICTIONS)
def test_a_wrong_prediction_is_caught(wrong: Predict) -> None:
    with pytest.raises(AssertionError):
        assert_predicts(wrong)


# ---------------------------------------------------------------------------------------------- initialisers

Draw = Callable[[Network, np.random.Generator], list[Layer]]
WIDE = Network((100, 400, 50))


def assert_he(draw: Draw) -> None:
    """The mean square of n normal numbers of variance v is v to within 6 v sqrt(2 / n), but for one seed in
    5e8."""
    for k, (w, b) in zip(WIDE.sizes, draw(WIDE, np.random.default_rng(0)), strict=False):
        wanted = 2.0 / k
        assert abs(float((w * w).mean()) - wanted) <= 6.0 * wanted * (2.0 / w.size) ** 0.5
        assert not b.any()


def assert_glorot(draw: Draw) -> None:
    """The largest of n uniform numbers in [-r, r] is above r (1 - 40 / n), but for one seed in e^40."""
    for w, b in draw(WIDE, np.random.default_rng(0)):
        limit = (6.0 / sum(w.shape)) ** 0.5
        assert limit * (1.0 - 40.0 / w.size) <= float(np.abs(w).max()) <= limit
        assert not b.any()


def scaled(draw: Draw, factor: float) -> Draw:
    return lambda network, rng: [Layer(w * factor, b) for w, b in draw(network, rng)]


def by(scheme: refnet.network.Scheme) -> Draw:
    return lambda network, rng: initialise(network, rng, scheme=scheme)


def test_initialisers_have_their_variance_and_range() -> None:
    assert_he(by("he"))
    assert_glorot(by("glorot"))
    assert not any(a.any() for a in flat(initialise(WIDE, np.random.default_rng(0), scheme="zeros")))


@pytest.mark.parametrize("factor", [0.5**0.5, 1.05, 0.0])
def test_a_wrong_scale_is_caught(factor: float) -> None:
    for check, scheme in ((assert_he, by("he")), (assert_glorot, by("glorot"))):
        with pytest.raises(AssertionError):
            check(scaled(scheme, factor))


def test_a_seed_gives_the_same_network_in_every_dtype() -> None:
    wide = initialise(WIDE, np.random.default_rng(3))
    for dtype in ("float32", "float16", "bfloat16"):
        got = initialise(WIDE, np.random.default_rng(3), dtype=dtype)
        assert same_bits(flat(got), [a.astype(dtype) for a in flat(wide)])
    assert not same_bits(flat(wide), flat(initialise(WIDE, np.random.default_rng(4))))


def test_the_data_fix_the_first_and_the_last_layer() -> None:
    assert Network.for_data(4, 3, hidden=(8,)) == Network((4, 8, 3), relu, "softmax")
    assert Network.for_data(4, 2, activation=tanh) == Network((4, 1), tanh, "sigmoid")
    assert [Network.for_data(4, classes).classes for classes in (2, 3, 10)] == [2, 3, 10]


# ---------------------------------------------------------------------------------------------- the SGD step


def test_a_step_goes_against_the_gradient() -> None:
    param, grad = np.array([1.0, 2.0, -0.5]), np.array([4.0, -8.0, 0.0])
    assert sgd_step(param, grad, learning_rate=0.25).tolist() == [0.0, 4.0, -0.5]
    assert sgd_step(np.ones(()), np.full((), 2.0), learning_rate=1) == -1.0
    dparam, dgrad = sgd_step.vjp(grad, param, grad, learning_rate=0.25)
    assert dparam.tolist() == [4.0, -8.0, 0.0]
    assert dgrad.tolist() == [-1.0, 2.0, 0.0]


def test_a_step_keeps_the_dtype_whatever_the_type_of_the_learning_rate() -> None:
    param, grad = np.ones(2, np.float32), np.ones(2, np.float32)
    rates: list[Any] = [0.5, np.float64(0.5), np.float32(0.5)]
    for rate in rates:
        assert same_bits([sgd_step(param, grad, learning_rate=rate)], [np.full(2, 0.5, np.float32)])


# --------------------------------------------------------------------------------------------------- errors

P = PROBLEMS[1]
X, PARAMS = np.ones((2, 4)), P.params
TWO = np.array([0, 1])
LOOSE: Any = refnet
"""The functions without their types, to be called as no type checker would let them be."""
W, B = PARAMS[1]

REFUSED: dict[str, tuple[Callable[[], object], str, str]] = {
    "no layer": (lambda: LOOSE.mlp(X, []), "params", "empty; required: a list of at least one pair"),
    "params are an array": (lambda: LOOSE.mlp(X, W), "params", "a ndarray"),
    "a layer alone": (lambda: LOOSE.mlp(X, PARAMS[0]), "params[0]", "a pair"),
    "three arrays in a layer": (
        lambda: LOOSE.mlp(X, [(W, B, B)]),
        "params[0]",
        "a tuple of length 3",
    ),
    "a list in a layer": (
        lambda: LOOSE.mlp(X, [([[1.0]], B)]),
        "params[0].w",
        "a list; required: a NumPy array",
    ),
    "integer weights": (
        lambda: LOOSE.mlp(X, [(W.astype(np.int64), B)]),
        "params[0].w",
        "of dtype int64",
    ),
    "mixed dtypes": (
        lambda: LOOSE.mlp(X, [(W, B.astype(np.float32))]),
        "params[0].b",
        "of dtype float32; required: float64",
    ),
    "x of another dtype": (lambda: LOOSE.mlp(X.astype(np.float32), PARAMS), "x", "of dtype float32"),
    "layers that do not chain": (
        lambda: LOOSE.mlp(X, [PARAMS[0], (W[:5], B)]),
        "params[1].w",
        "of shape (5, 3); required: shape (k, m) with k = 6",
    ),
    "a bias too few": (
        lambda: LOOSE.mlp(X, [PARAMS[0], (W, B[:2])]),
        "params[1].b",
        "of shape (2,); required: shape (m,) with m = 3",
    ),
    "a bias that is a row": (lambda: LOOSE.mlp(X, [(W, B[None])]), "params[0].b", "of shape (1, 3)"),
    "a layer of nothing": (
        lambda: LOOSE.mlp(np.ones((2, 0)), [(np.ones((0, 2)), np.ones(2))]),
        "params[0].w",
        "at least one input",
    ),
    "the features of other data": (
        lambda: LOOSE.mlp(X[:, :3], PARAMS),
        "x",
        "of shape (2, 3); required: shape (n, k) with k = 4",
    ),
    "one sample as a vector": (lambda: LOOSE.mlp(X[0], PARAMS), "x", "x[None, :]"),
    "a softmax in a hidden layer": (
        lambda: LOOSE.mlp(X, PARAMS, activation=softmax),
        "activation",
        "softmax, of signature (...,c)->(...,c)",
    ),
    "a function as activation": (
        lambda: LOOSE.mlp(X, PARAMS, activation=np.tanh),
        "activation",
        "a ufunc; required: an elementwise operator",
    ),
    "a label too large": (
        lambda: LOOSE.mlp_gradients(PARAMS, X, np.array([0, 3])),
        "labels",
        "with 1 of 2 out of range, the first of them 3; required: integers in [0, 3)",
    ),
    "a negative label": (lambda: LOOSE.mlp_loss(PARAMS, X, np.array([-1, -2])), "labels", "with 2 of 2"),
    "labels that are floats": (
        lambda: LOOSE.mlp_loss(PARAMS, X, np.ones(2)),
        "labels",
        "of dtype float64",
    ),
    "labels in a list": (lambda: LOOSE.mlp_loss(PARAMS, X, [0, 1]), "labels", "a list"),
    "labels that are one-hot": (
        lambda: LOOSE.mlp_loss(PARAMS, X, np.eye(3, dtype=np.int64)[:2]),
        "labels",
        "required: shape (n,) with n = 2",
    ),
    "no samples": (lambda: LOOSE.mlp_loss(PARAMS, X[:0], TWO[:0]), "x", "at least one sample"),
    "a sigmoid over three outputs": (
        lambda: LOOSE.mlp_loss(PARAMS, X, TWO, head="sigmoid"),
        "head",
        "sigmoid over 3 outputs; required: one output",
    ),
    "an unknown head": (
        lambda: LOOSE.predict(X, PARAMS, head="hinge"),
        "head",
        "'hinge'; required: one of softmax, sigmoid",
    ),
    "a logit that is NaN": (
        lambda: LOOSE.predict(np.full((2, 4), np.nan), PARAMS),
        "the logits",
        "NaN for 2 of 2 samples, the first of them row 0",
    ),
    "one size": (lambda: LOOSE.Network((4,)), "sizes", "(64, 32, 10)"),
    "a size of 0": (lambda: LOOSE.Network((4, 0, 3)), "sizes[1]", "0; required: an integer of at least 1"),
    "a size that is no integer": (lambda: LOOSE.Network((4, 2.5, 3)), "sizes[1]", "2.5"),
    "a size that is a bool": (lambda: LOOSE.Network((4, True, 3)), "sizes[1]", "True"),
    "a softmax of one class": (lambda: LOOSE.Network((4, 1)), "sizes[-1]", "sigmoid"),
    "one class": (lambda: LOOSE.Network.for_data(4, 1), "classes", "at least 2"),
    "a seed for a Generator": (
        lambda: LOOSE.initialise(WIDE, 0),
        "rng",
        "np.random.default_rng(seed)",
    ),
    "an unknown scheme": (
        lambda: LOOSE.initialise(WIDE, np.random.default_rng(0), scheme="xavier"),
        "scheme",
        "one of he, glorot, zeros",
    ),
    "an integer network": (
        lambda: LOOSE.initialise(WIDE, np.random.default_rng(0), dtype=np.int64),
        "dtype",
        "one of float64, float32, float16, bfloat16",
    ),
    "sizes that are a number": (lambda: LOOSE.Network(5), "sizes", "5; required: a tuple"),
    "sizes that could change": (lambda: LOOSE.Network([4, 3]), "sizes", "[4, 3]; required: a tuple"),
    "hidden layers that are a number": (
        lambda: LOOSE.Network.for_data(4, 3, hidden=5),
        "hidden",
        "write hidden=(32,)",
    ),
    "no network to initialise": (
        lambda: LOOSE.initialise(5, np.random.default_rng(0)),
        "network",
        "a int; required: a refnet.Network",
    ),
    "a scheme in a list": (
        lambda: LOOSE.initialise(WIDE, np.random.default_rng(0), scheme=[]),
        "scheme",
        "[]; required: one of he, glorot, zeros",
    ),
    **{
        f"a dtype {dtype!r}": (
            partial(LOOSE.initialise, WIDE, np.random.default_rng(0), dtype=dtype),
            "dtype",
            "required: one of float64, float32, float16, bfloat16",
        )
        for dtype in ("nonsense", 5, [1, 2], {"names": 1})
    },
    "a head in a list": (lambda: LOOSE.predict(X, PARAMS, head=[]), "head", "[]; required: one of softmax"),
    "a head that is an array": (lambda: LOOSE.predict(X, PARAMS, head=B), "head", "one of softmax, sigmoid"),
    "samples behind a mask": (
        lambda: LOOSE.mlp(np.ma.masked_array(X, X > 0.0), PARAMS),
        "x",
        "a MaskedArray; required: a NumPy array, and no subclass of it",
    ),
    "weights in a matrix": (
        lambda: LOOSE.mlp(X, [PARAMS[0], (W.view(np.matrix), B)]),
        "params[1].w",
        "a matrix; required: a NumPy array, and no subclass of it",
    ),
    "labels behind a mask": (
        lambda: LOOSE.mlp_loss(PARAMS, X, np.ma.masked_array(TWO, [True, False])),
        "labels",
        "a MaskedArray",
    ),
    "bytes in another order": (
        lambda: LOOSE.mlp(X.astype(">f8"), PARAMS),
        "x",
        "of dtype >f8; required: float64, the dtype of the parameters before it. "
        "Use .astype(params[0][0].dtype)",
    ),
    "nothing to collapse": (lambda: LOOSE.collapse([]), "params", "empty"),
    **{
        f"a learning rate of {rate!r}": (
            partial(LOOSE.sgd_step, B, B, learning_rate=rate),
            "learning_rate",
            "a positive finite number",
        )
        for rate in (0.0, -0.1, float("nan"), float("inf"), 10**400, True, "0.1", None, B)
    },
}


@pytest.mark.parametrize(("call", "argument", "text"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused_by_name(call: Callable[[], object], argument: str, text: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        call()
    error = caught.value
    assert error.argument == argument
    assert text in str(error)
    assert str(error).startswith(f"{error.op}: {argument} is {error.given}; required: {error.required}. ")
    assert error.remedy
