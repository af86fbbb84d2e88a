"""The laws of a network and of its training. Each tolerance is a rounding bound, or measured and derived."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from types import MappingProxyType
from typing import Any

import numpy as np

from refnet import identity, relu
from verify.arithmetic.formats import FLOAT32, FLOAT64, Format
from verify.laws.law import Comparison, Floats, LawViolation, NotApplicable, Values, require, require_each
from verify.laws.network import (
    Layers,
    NetworkExample,
    NetworkSubject,
    bounded_params,
    certified_loss,
    copied,
    flat,
    gradient_bounds,
    layers,
    logits_bound,
    loss_bound,
    probabilities,
    step_bounds,
    stored_error,
)
from verify.laws.value_laws import permuted_order


@dataclass(frozen=True, slots=True)
class NetworkLaw:
    """A property of every correct network: `check` raises LawViolation where it fails, NotApplicable where
    the subject or the example says nothing."""

    name: str
    statement: str
    check: Callable[[NetworkSubject, NetworkExample, Format], None]


def _wide(arrays: Sequence[Values]) -> list[Floats]:
    return [np.asarray(array).astype(np.float64) for array in arrays]


def _each(
    found: Sequence[Values], expected: Sequence[Values], bounds: Sequence[Any], what: str
) -> list[Comparison]:
    """Every weight and every bias in turn."""
    if len(found) != len(expected):
        raise LawViolation(f"{what}: {len(found)} arrays instead of {len(expected)}")
    return [
        Comparison(a, b, bound, f"{what}, {'wb'[k % 2]} of layer {k // 2}")
        for k, (a, b, bound) in enumerate(zip(_wide(found), _wide(expected), bounds, strict=True))
    ]


# -------------------------------------------------------------------------------------- what it computes


def _collapses(subject: NetworkSubject, example: NetworkExample, fmt: Format) -> None:
    """x -> x W + b, with W and b worked out in rational numbers, layer by layer.

    A network of ReLUs is one without activations where nothing is negative before its last layer; the last
    layer may give negative numbers, and must not be followed by an activation either.
    """
    if subject.activation is relu:
        *hidden, last = example.params
        params = [*((np.abs(w), np.abs(b)) for w, b in hidden), last]
        example = replace(example, params=params, x=np.abs(example.x))
    elif subject.activation is not identity:
        raise NotApplicable(f"{subject.activation.name} is not the identity anywhere")
    (w, b), *rest = [(_rational(w), _rational(b)) for w, b in example.params]
    for next_w, next_b in rest:
        w, b = w @ next_w, b @ next_w + next_b
    exact, bound = _rounded(_rational(example.x) @ w + b, logits_bound(subject, example, fmt))
    logits = subject.logits(example).astype(np.float64)
    parts = [Comparison(logits, exact, bound, "the logits, which an affine map gives")]
    if subject.collapse is not None:
        due = [
            _rounded(array, bound)
            for array, bound in zip((w, b), _collapse_bounds(example.params, fmt), strict=True)
        ]
        found = list(subject.collapse(copied(example.params)))
        parts += _each(found, [array for array, _ in due], [bound for _, bound in due], "the affine map")
    require_each(parts)


_rational = np.frompyfunc(lambda value: Fraction(float(value)), 1, 1)


def _rounded(exact: Any, bound: Floats) -> tuple[Floats, Floats]:
    """Rational numbers as floats, and a bound that grants that rounding too."""
    nearest = exact.astype(np.float64)
    return nearest, bound + FLOAT64.unit_roundoff * np.abs(nearest)


def _collapse_bounds(params: Layers, fmt: Format) -> list[Floats]:
    (w, b), *rest = bounded_params(params, fmt)
    with np.errstate(all="ignore"):
        for next_w, next_b in rest:
            w, b = w @ next_w, b @ next_w + next_b
    return [stored_error(w, fmt), stored_error(b, fmt)]


def _samples_are_independent(subject: NetworkSubject, example: NetworkExample, fmt: Format) -> None:
    logits, granted = subject.logits(example).astype(np.float64), logits_bound(subject, example, fmt)
    require_each(
        Comparison(
            subject.logits(example.with_samples(row)).astype(np.float64),
            logits[row],
            2.0 * granted[row],
            f"the logits of sample {row.start}, alone",
        )
        for row in _rows(example)
    )


def _rows(example: NetworkExample) -> list[slice]:
    return [slice(i, i + 1) for i in range(len(example.x))]


def _loss_is_mean(subject: NetworkSubject, example: NetworkExample, fmt: Format) -> None:
    """The mean over the samples of their certified losses: nothing forgotten, nothing counted twice."""
    arguments = copied(example.params), example.x.copy(), example.labels.copy()
    found = np.asarray(subject.function("mlp_loss")(*arguments)).astype(np.float64)
    each = [certified_loss(subject, example.with_samples(row)) for row in _rows(example)]
    due = math.fsum(part for parts in each for part in parts) / len(each)
    bound = loss_bound(subject, example, fmt) + 2.0 * FLOAT64.unit_roundoff * due
    require(found, due, bound, "the loss of the batch")


def _probabilities(subject: NetworkSubject, example: NetworkExample, fmt: Format) -> None:
    """In [0, 1] exactly, the head of the logits to within rounding, and of sum 1 to within the same."""
    found = subject.function("predict_probabilities")(example.x.copy(), copied(example.params))
    p = np.asarray(found).astype(np.float64)
    within = Comparison(p, np.clip(p, 0.0, 1.0), 0.0, "a probability")
    due, bound = probabilities(subject, example, fmt)
    summing = bound.sum(axis=-1) + p.shape[-1] * FLOAT64.unit_roundoff
    total = Comparison(p.sum(axis=-1), 1.0, summing, "the sum of the probabilities of a sample")
    require_each([within, Comparison(p, due, bound, "the probabilities of the logits"), total])


# -------------------------------------------------------------------------------------------- symmetries


def _hidden_order(subject: NetworkSubject, example: NetworkExample, fmt: Format) -> None:
    """The neurons of each hidden layer in another order: the same logits, and the gradients in that order."""
    if len(example.params) < 2:
        raise NotApplicable("no hidden layer")
    orders = [permuted_order(len(b)) for _, b in example.params[:-1]]
    if all(len(order) < 2 for order in orders):
        raise NotApplicable("one neuron has one order")

    def reordered(arrays: Sequence[Any]) -> list[Any]:
        result = list(arrays)
        for k, order in enumerate(orders):
            result[2 * k], result[2 * k + 1] = result[2 * k][:, order], result[2 * k + 1][order]
            result[2 * k + 2] = result[2 * k + 2][order]
        return result

    other = replace(example, params=layers(reordered(flat(example.params))))
    parts = []
    if subject.mlp is not None:
        granted = 2.0 * logits_bound(subject, example, fmt)
        found, due = _wide([subject.logits(other), subject.logits(example)])
        parts.append(Comparison(found, due, granted, "the logits with the hidden neurons in another order"))
    if subject.mlp_gradients is not None:
        bounds = [2.0 * bound for bound in reordered(gradient_bounds(subject, example, fmt))]
        expected = reordered(_in_form(subject.gradients(example), example))
        parts += _each(subject.gradients(other), expected, bounds, "the gradient with neurons reordered")
    require_each(parts)


def _in_form(gradients: list[Values], example: NetworkExample) -> list[Values]:
    """Gradients that have the shapes of the parameters, without which no law can look at them."""
    shapes, found = [a.shape for a in flat(example.params)], [a.shape for a in gradients]
    if shapes != found:
        raise LawViolation(f"gradients of shapes {found} for parameters of shapes {shapes}")
    return gradients


def _rescaling(subject: NetworkSubject, example: NetworkExample, fmt: Format) -> None:
    """relu(s z) = s relu(z) for s > 0: what a neuron takes in times s, and what it gives out over s, leaves
    the logits as they are; bit for bit if s is a power of two, which never rounds. Gradients scale the other
    way.
    """
    if subject.activation is not relu or len(example.params) < 2:
        raise NotApplicable("only the hidden neurons of ReLU networks can be rescaled")

    def rescaled(arrays: Sequence[Any], sign: int) -> list[Any]:
        result = [array.copy() for array in arrays]
        for k in range(0, len(result) - 2, 2):
            exponents = sign * (np.arange(len(result[k + 1])) % 3 - 1)
            result[k], result[k + 1] = _times(result[k], exponents), _times(result[k + 1], exponents)
            result[k + 2] = _times(result[k + 2], -exponents[:, None])
        return result

    other = replace(example, params=layers(rescaled(flat(example.params), 1)))
    parts = []
    if subject.mlp is not None:
        found, due = _wide([subject.logits(other), subject.logits(example)])
        parts.append(Comparison(found, due, 0.0, "the logits with rescaled hidden neurons"))
    if subject.mlp_gradients is not None:
        expected = _wide(rescaled(_in_form(subject.gradients(example), example), -1))
        lowest = 4.0 * fmt.smallest_normal  # a subnormal is rounded elsewhere; two scales meet in a weight
        bounds = [np.where(np.abs(due) >= lowest, 0.0, np.inf) for due in expected]
        parts += _each(subject.gradients(other), expected, bounds, "the gradient with neurons rescaled")
    require_each(parts)


def _times(array: Values, exponents: Values) -> Values:
    """array * 2^exponents, exact; the exponents are between -1 and 1."""
    return np.asarray((array.astype(np.float64) * 2.0**exponents).astype(array.dtype))


def _balance(subject: NetworkSubject, example: NetworkExample, fmt: Format) -> None:
    """The same symmetry at s = 1: for each hidden neuron the sum of w dw + b db over what it takes in is the
    sum of w dw over what it gives out."""
    if subject.activation not in (relu, identity) or len(example.params) < 2:
        raise NotApplicable("only the hidden neurons of ReLU networks can be rescaled")
    params = _wide(flat(example.params))
    gradients = _wide(_in_form(subject.gradients(example), example))
    bounds = gradient_bounds(subject, example, fmt)
    terms = [w * g for w, g in zip(params, gradients, strict=True)]
    errors = [
        np.abs(w) * bound + FLOAT64.unit_roundoff * np.abs(term)
        for w, bound, term in zip(params, bounds, terms, strict=True)
    ]
    parts = []
    for k in range(0, len(params) - 2, 2):
        taken = terms[k].sum(axis=0) + terms[k + 1]
        given = terms[k + 2].sum(axis=1)
        granted = errors[k].sum(axis=0) + errors[k + 1] + errors[k + 2].sum(axis=1)
        sizes = np.abs(terms[k]).sum(axis=0) + np.abs(terms[k + 1]) + np.abs(terms[k + 2]).sum(axis=1)
        count = len(terms[k]) + terms[k + 2].shape[1] + 1
        summing = count * FLOAT64.unit_roundoff * sizes  # of the sums here
        what = f"what the neurons of hidden layer {k // 2} take in"
        parts.append(Comparison(taken, given, granted + summing, what))
    require_each(parts)


def _output_gradient_sums_to_zero(subject: NetworkSubject, example: NetworkExample, fmt: Format) -> None:
    """A constant added to the biases of the last layer changes no probability: its derivative is 0, and so is
    that of a constant added to a row of its weights."""
    if subject.head != "softmax":
        raise NotApplicable("a sigmoid is not shift invariant")
    *_, w, b = _wide(_in_form(subject.gradients(example), example))
    *_, w_bound, b_bound = gradient_bounds(subject, example, fmt)
    summing = len(b) * FLOAT64.unit_roundoff
    of_b, of_w = (
        b_bound.sum() + summing * np.abs(b).sum(),
        w_bound.sum(axis=1) + summing * np.abs(w).sum(axis=1),
    )
    require_each(
        [
            Comparison(b.sum(), 0.0, of_b, "the sum of the last bias gradient"),
            Comparison(w.sum(axis=1), 0.0, of_w, "the sums of the rows of the last weight gradient"),
        ]
    )


# ---------------------------------------------------------------------------------------------- the batch


def _batch_gradient_is_mean(subject: NetworkSubject, example: NetworkExample, fmt: Format) -> None:
    """The gradient of the mean loss is the mean of the gradients of the samples, each taken alone."""
    n = len(example.x)
    if n < 2:
        raise NotApplicable("one sample is its own mean")
    each = [example.with_samples(row) for row in _rows(example)]
    alone = [_wide(_in_form(subject.gradients(one), one)) for one in each]
    bounds = [gradient_bounds(subject, one, fmt) for one in each]
    expected = [np.asarray(sum(arrays)) / n for arrays in zip(*alone, strict=True)]
    granted = [
        whole + (sum(parts) + n * FLOAT64.unit_roundoff * sum(map(np.abs, arrays))) / n
        for whole, parts, arrays in zip(
            gradient_bounds(subject, example, fmt),
            zip(*bounds, strict=True),
            zip(*alone, strict=True),
            strict=True,
        )
    ]
    require_each(_each(subject.gradients(example), expected, granted, "the gradient of the batch"))


# ------------------------------------------------------------------------------------------- the training


def _epoch_is_steps(subject: NetworkSubject, example: NetworkExample, fmt: Format) -> None:
    """One epoch is, for each sample in the order given, one step along its gradient at the parameters that
    the sample before it left. Both ways are honest computations of the same numbers."""
    rate = example.learning_rate
    found, by_hand = subject.epoch(example, rate), example
    for row in _rows(example):
        by_hand = by_hand.with_params(layers(subject.step(by_hand.with_samples(row), rate)))
        by_hand = replace(by_hand, x=example.x, labels=example.labels)
    bounds = [2.0 * bound for bound in step_bounds(subject, example, fmt, rate)]
    require_each(_each(found, flat(by_hand.params), bounds, "the parameters after the epoch"))


def _proportional_to_rate(subject: NetworkSubject, example: NetworkExample, fmt: Format) -> None:
    """The gradient of a sample does not know the learning rate: a quarter of it goes a quarter of the way."""
    one, rate = example.with_samples(slice(0, 1)), example.learning_rate
    before = _wide(flat(one.params))
    far, near = (_wide(subject.epoch(one, r)) for r in (rate, rate / 4.0))
    if [a.shape for a in far] != [a.shape for a in before]:
        raise LawViolation("the parameters after a step have other shapes")
    bounds = zip(*(step_bounds(subject, one, fmt, r) for r in (rate, rate / 4.0)), strict=True)
    granted = [
        long + 4.0 * short + 8.0 * FLOAT64.unit_roundoff * np.abs(p)
        for (long, short), p in zip(bounds, before, strict=True)
    ]
    ways = [a - b for a, b in zip(before, far, strict=True)]
    quarters = [4.0 * (a - b) for a, b in zip(before, near, strict=True)]
    require_each(_each(ways, quarters, granted, "the way, and four times that at a quarter of the rate"))


def _loss_decreases(subject: NetworkSubject, example: NetworkExample, fmt: Format) -> None:
    """A step with a small enough rate decreases the certified loss, wherever the gradient is not 0.

    Small enough is the first rate, halved again and again, at which refnet's step in float64 decreases it by
    more than the rounding of a step may move it. Where that outweighs every decrease, there is none.
    """
    witness = NetworkSubject.of_reference(subject.activation, subject.head)
    exactly = replace(example, params=layers(_wide(flat(example.params))), x=example.x.astype(np.float64))
    slopes, bounds = _wide(witness.gradients(exactly)), gradient_bounds(subject, example, fmt)
    if not all(np.isfinite(bound).all() for bound in bounds):
        raise NotApplicable("the gradient may overflow")
    before, steepness, rate = certified_loss(subject, example), _squares(slopes), example.learning_rate
    of_gradient = math.fsum(float((np.abs(g) * e).sum()) for g, e in zip(slopes, bounds, strict=True))
    while True:
        noise = _rounding_of_a_step(subject, example, fmt, rate, slopes) + 2.0 * rate * of_gradient
        if not rate * steepness > noise:
            raise NotApplicable("rounding hides any decrease: the gradient is 0, or nearly so")
        ideal = exactly.with_params(layers(witness.step(exactly, rate)))
        if _decrease(before, certified_loss(subject, ideal)) > noise:
            break
        rate /= 2.0
    after = example.with_params(layers(subject.step(example, rate)))
    decrease = _decrease(before, certified_loss(subject, after))
    if not decrease > 0.0:
        raise LawViolation(f"a step with learning rate {rate} changes the loss by {-decrease:.3g}")


def _first_order(subject: NetworkSubject, example: NetworkExample, fmt: Format) -> None:
    """As the rate h goes to 0, one step decreases the loss by h ||g||^2 to first order, g the gradient.

    Let D(h) be the decrease for the subject's own step, certified, and e(h) = D(h) - h ||g||^2. Between kinks
    D is analytic: e(h) = k h - b h^2 + c h^3 - ..., with k = <dL, g> - ||g||^2, which must be 0. Richardson's
    k(h) = (4 e(h/2) - e(h)) / h cancels b, and is off by -c h^2 / 2 to leading order. Of three of them, at h,
    h/2 and h/4, the last is off by 1/32 |c| h^2; |k(h) - k(h/2)| + |k(h/2) - k(h/4)| is 15/32 |c| h^2 and
    covers it.

    The parameters after a step are rounded, by at most r_i each: that moves D by at most the sum of
    (|dL_i| + |dL'_i|) r_i, with the gradients at both ends of the step, by the mean value theorem.
    h = 2^-(p/3) lets both errors, of order u/h and h^2, meet.
    """
    if fmt.precision < FLOAT32.precision:
        raise NotApplicable("a half format has too few digits for three small steps")
    gradient = _wide(_in_form(subject.gradients(example), example))
    steepness = _squares(gradient)
    if not 0.0 < steepness < math.inf:
        raise NotApplicable("no slope")
    largest = max(float(np.abs(g).max(initial=0.0)) for g in gradient)
    rate = 2.0 ** -(fmt.precision // 3 + max(math.ceil(math.log2(largest)), 0))
    before = certified_loss(subject, example)
    excess, noise = [], []
    for h in (rate, rate / 2.0, rate / 4.0, rate / 8.0):
        after = example.with_params(layers(subject.step(example, h)))
        _require_no_kink_between(subject, example, after)
        excess.append(_decrease(before, certified_loss(subject, after)) - h * steepness)
        noise.append(_rounding_of_a_step(subject, example, fmt, h, gradient))
    rates = (rate, rate / 2.0, rate / 4.0)
    k = [(4.0 * excess[i + 1] - excess[i]) / h for i, h in enumerate(rates)]
    rounding = sum((4.0 * noise[i + 1] + noise[i]) / h for i, h in enumerate(rates))
    remainder = abs(k[0] - k[1]) + abs(k[1] - k[2])
    require(k[2] + steepness, steepness, remainder + rounding, "the slope of the loss along the step")


def _decrease(before: tuple[float, float], after: tuple[float, float]) -> float:
    """The difference of two numbers that are each a sum of two floats, rounded once."""
    return math.fsum((*before, -after[0], -after[1]))


def _squares(arrays: Sequence[Floats]) -> float:
    return math.fsum(float(x) * float(x) for array in arrays for x in array.ravel())


def _rounding_of_a_step(
    subject: NetworkSubject, example: NetworkExample, fmt: Format, rate: float, gradient: Sequence[Floats]
) -> float:
    """How far the rounding of a step may move the loss: of the parameters, of the squares, of the losses.

    A parameter after a step p - h g is rounded twice: u |h g| and u (|p| + |h g|).
    """
    witness = NetworkSubject.of_reference(subject.activation, subject.head)
    u = fmt.unit_roundoff
    params, slopes = _wide(flat(example.params)), _wide(witness.gradients(example))
    moved = [p - rate * g for p, g in zip(params, gradient, strict=True)]
    wide = replace(example, params=layers(moved), x=example.x.astype(np.float64))
    ends = _wide(witness.gradients(wide))
    shifts = (
        float(((np.abs(a) + np.abs(b)) * u * (np.abs(p) + 3.0 * rate * np.abs(g))).sum())
        for a, b, p, g in zip(slopes, ends, params, gradient, strict=True)
    )
    return math.fsum((*shifts, 4.0 * FLOAT64.unit_roundoff * rate * _squares(gradient)))


def _require_no_kink_between(subject: NetworkSubject, example: NetworkExample, after: NetworkExample) -> None:
    """Every pre-activation stays on its side: it is farther from 0 than twice the way that it goes."""
    if subject.activation is not relu:
        return
    for z, moved in zip(_pre_activations(example), _pre_activations(after), strict=True):
        if not (np.abs(z) > 2.0 * np.abs(moved - z)).all():
            raise NotApplicable("a neuron comes too close to its kink")


def _pre_activations(example: NetworkExample) -> Iterator[Floats]:
    x = example.x.astype(np.float64)
    for w, b in layers(_wide(flat(example.params)))[:-1]:
        z = x @ w + b
        yield z
        x = np.maximum(z, 0.0)


# ------------------------------------------------------------------------------------------------- purity


def _network_pure(subject: NetworkSubject, example: NetworkExample, fmt: Format) -> None:
    """Parameters and samples stay as they were, results share no memory with them, equal calls give equal
    bits, and a second call leaves the results of the first alone."""
    params, x, labels = copied(example.params), example.x.copy(), example.labels.copy()
    given = [*flat(params), x, labels]
    before = [array.tobytes() for array in given]
    rate = example.learning_rate
    calls: dict[str, Callable[[Any], Any]] = {
        "mlp": lambda f: [[f(x, params)]],
        "mlp_gradients": lambda f: f(params, x, labels),
        "sgd_epoch": lambda f: f(params, x, labels, learning_rate=rate),
        "mlp_loss": lambda f: [[f(params, x, labels)]],
    }
    for name, call in calls.items():
        function = getattr(subject, name)
        if function is None:
            continue
        first = flat(call(function))
        bits = [array.tobytes() for array in first]
        second = flat(call(function))
        if [array.tobytes() for array in given] != before:
            raise LawViolation(f"{name} has modified its arguments")
        if any(np.shares_memory(result, array) for result in first for array in given):
            raise LawViolation(f"a result of {name} shares memory with an argument")
        if [array.tobytes() for array in second] != bits:
            raise LawViolation(f"a second call of {name} gave other bits")
        if [array.tobytes() for array in first] != bits:
            raise LawViolation(f"a second call of {name} overwrites the results of the first")


NETWORK_LAWS: Mapping[str, NetworkLaw] = MappingProxyType(
    {
        law.name: law
        for law in (
            NetworkLaw(
                "collapses",
                "a network without activations equals its collapsed affine map, at any depth",
                _collapses,
            ),
            NetworkLaw(
                "samples-are-independent",
                "a sample alone has its logits of the batch",
                _samples_are_independent,
            ),
            NetworkLaw("loss-is-mean", "the loss is the mean of the losses of the samples", _loss_is_mean),
            NetworkLaw("probabilities", "predictions are probabilities, those of the logits", _probabilities),
            NetworkLaw("hidden-order", "the order of hidden neurons does not matter", _hidden_order),
            NetworkLaw(
                "rescaling",
                "a ReLU neuron that takes in twice as much and gives out half changes nothing, bit for bit",
                _rescaling,
            ),
            NetworkLaw(
                "balance",
                "w dw, summed over what a ReLU neuron takes in and over what it gives, agrees",
                _balance,
            ),
            NetworkLaw(
                "output-gradient-sums-to-zero",
                "the gradients of the last layer sum to 0 over the classes",
                _output_gradient_sums_to_zero,
            ),
            NetworkLaw(
                "batch-gradient-is-mean",
                "the gradient of a batch is the mean of the gradients of its samples",
                _batch_gradient_is_mean,
            ),
            NetworkLaw(
                "epoch-is-steps",
                "one epoch, sample by sample, equals the same steps by hand",
                _epoch_is_steps,
            ),
            NetworkLaw(
                "proportional-to-rate",
                "the step of a sample is proportional to the rate",
                _proportional_to_rate,
            ),
            NetworkLaw(
                "loss-decreases",
                "a step with a small enough learning rate decreases the loss",
                _loss_decreases,
            ),
            NetworkLaw(
                "first-order",
                "a step decreases the loss by learning_rate ||gradient||^2 to first order",
                _first_order,
            ),
            NetworkLaw(
                "network-pure", "arguments untouched, nothing shared, equal calls, equal bits", _network_pure
            ),
        )
    }
)
"""Every law of networks by its name."""
