"""The subject of the laws of a network, their examples, and the rounding that they grant.

The bounds come from running refnet's own network on arrays that carry (value, bound), with the slope of the
loss widened to its loosest form, as an honest implementation may choose it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

import refnet
from refnet import Activation, relu, sigmoid, softmax
from refnet.network import HEADS, Head, backward, forward
from specs import SPECS
from verify.arithmetic.bounds import SLACK, carried, granted_model
from verify.arithmetic.certified import certify
from verify.arithmetic.contracts import Contract, Grant, contract_of
from verify.arithmetic.formats import FLOAT32, FLOAT64, FORMATS, Format, ulp
from verify.laws.law import Floats, NotApplicable, Values

Function = Callable[..., Any]
Layers = list[tuple[Any, Any]]

LOSSES = {
    "softmax": "softmax_cross_entropy_with_integer_labels",
    "sigmoid": "binary_cross_entropy_with_logits",
}

SIZES = (
    (3, 4, 4, 2), (5, 17, 4), (2, 3), (4, 3, 5, 3), (6, 1, 4), (3, 6, 2), (17, 33, 10), (3, 3, 3),
)  # fmt: skip
"""The widths of the layers of the networks that a check draws: one hidden layer, two, none, one of a single
neuron; wide ones, beyond the widths of vectors; and square ones, through which a slope can go the wrong way,
and which can be exchanged.

To certify a gradient costs parameters times products: of the widest half a second for each sample, and so it
meets the small batches first."""

BATCHES = (3, 1, 5, 4, 2)
"""Their samples."""

LEARNING_RATES = (0.125, 0.1, 0.0078125)
"""Of their epochs."""


# ------------------------------------------------------------------------------------------------ examples


@dataclass(frozen=True, slots=True)
class NetworkExample:
    """Parameters, samples, their classes, and the rate of a step."""

    params: Layers
    x: Values
    labels: Values
    learning_rate: float

    def with_params(self, params: Layers) -> NetworkExample:
        return replace(self, params=params)

    def with_samples(self, rows: slice) -> NetworkExample:
        return replace(self, x=self.x[rows], labels=self.labels[rows])


@dataclass(frozen=True, slots=True)
class NetworkRecipe:
    """All that determines an example. It prints as the line that builds it again.

    The parameters have the variance of He's initialisation times `scale`^2, so that the logits of a deep
    network are of the size of those of a flat one. `grid` rounds everything to quarters: pre-activations are
    then often exactly 0, at the kink.
    """

    format: str
    sizes: tuple[int, ...]
    batch: int
    seed: int
    scale: float = 1.0
    learning_rate: float = 0.125
    grid: bool = False

    def build(self) -> NetworkExample:
        """The example, bit for bit the same each time."""
        rng = np.random.default_rng(self.seed)
        dtype = FORMATS[self.format].dtype

        def drawn(*shape: int, deviation: float) -> Values:
            values = rng.standard_normal(shape) * deviation
            return np.asarray((np.round(values * 4.0) / 4.0 if self.grid else values).astype(dtype))

        params = [
            (drawn(k, m, deviation=self.scale * (2.0 / k) ** 0.5), drawn(m, deviation=self.scale))
            for k, m in pairwise(self.sizes)
        ]
        x = drawn(self.batch, self.sizes[0], deviation=1.0)
        labels = rng.integers(max(self.sizes[-1], 2), size=self.batch)
        return NetworkExample(params, x, labels, self.learning_rate)


# ------------------------------------------------------------------------------------------------- subject


@dataclass(frozen=True, slots=True)
class NetworkSubject:
    """The functions of a network: refnet's, a foreign one's, or some that are wrong on purpose.

    Those of the candidate contract, with any that are missing None; then what only refnet has. `activation`
    and `head` say which network it is that they compute.
    """

    mlp: Function | None
    mlp_gradients: Function | None
    sgd_epoch: Function | None
    sgd_step: Function | None
    mlp_loss: Function | None = None
    predict_probabilities: Function | None = None
    collapse: Function | None = None
    activation: Activation = relu
    head: Head = "softmax"
    contract: Contract | None = None
    """What they promise of their arithmetic, if that is not the default of the format."""

    def granted(self, fmt: Format) -> Contract:
        """The contract that their results are held to."""
        return self.contract or contract_of(fmt)

    @classmethod
    def of_reference(cls, activation: Activation = relu, head: Head = "softmax") -> NetworkSubject:
        return cls(
            partial(refnet.mlp, activation=activation),
            partial(refnet.mlp_gradients, activation=activation, head=head),
            partial(refnet.sgd_epoch, activation=activation, head=head),
            refnet.sgd_step,
            partial(refnet.mlp_loss, activation=activation, head=head),
            partial(refnet.predict_probabilities, activation=activation, head=head),
            refnet.collapse,
            activation,
            head,
        )

    def function(self, name: str) -> Function:
        function: Function | None = getattr(self, name)
        if function is None:
            raise NotApplicable(f"the subject has no {name}")
        return function

    def logits(self, example: NetworkExample) -> Values:
        return np.asarray(self.function("mlp")(example.x.copy(), copied(example.params)))

    def gradients(self, example: NetworkExample) -> list[Values]:
        arguments = copied(example.params), example.x.copy(), example.labels.copy()
        return flat(self.function("mlp_gradients")(*arguments))

    def epoch(self, example: NetworkExample, learning_rate: float) -> list[Values]:
        """The parameters after one update for each sample."""
        arguments = copied(example.params), example.x.copy(), example.labels.copy()
        return flat(self.function("sgd_epoch")(*arguments, learning_rate=learning_rate))

    def step(self, example: NetworkExample, learning_rate: float) -> list[Values]:
        """The parameters after one update for all samples together, by hand."""
        step = self.function("sgd_step")
        before, gradients = flat(example.params), self.gradients(example)
        return [
            np.asarray(step(param.copy(), gradient, learning_rate=learning_rate))
            for param, gradient in zip(before, gradients, strict=True)
        ]


def flat(params: Any) -> list[Values]:
    """w, b of each layer in turn."""
    return [np.asarray(array) for layer in params for array in layer]


def layers(arrays: Sequence[Any]) -> Layers:
    return list(zip(arrays[::2], arrays[1::2], strict=True))


def copied(params: Layers) -> Layers:
    return [(w.copy(), b.copy()) for w, b in params]


# -------------------------------------------------------------------------------------------------- bounds


def bounded(array: Values, grant: Grant) -> Any:
    """An array with bounds, as what refnet's code takes it for. Typed as anything: it is no NumPy array."""
    model = granted_model(grant, statistical=False)
    return carried(array, model)


def bounded_params(params: Layers, grant: Grant) -> Layers:
    return [(bounded(w, grant), bounded(b, grant)) for w, b in params]


def stored_error(result: Any, fmt: Format) -> Floats:
    """The bound of a result once it is stored in the format; infinite where it may overflow."""
    size = np.abs(result.value) + result.error
    error = result.error
    if fmt.precision < result.model.fmt.precision:
        error = error + fmt.unit_roundoff * size + fmt.smallest_subnormal
    with np.errstate(invalid="ignore"):
        return np.where(size <= fmt.largest, error * SLACK, np.inf)


def bounded_gradients(subject: NetworkSubject, x: Any, params: Layers, labels: Values) -> list[Any]:
    """The gradients of the mean loss, from its slope in the loosest of its forms."""
    z, residuals = forward(x, params, activation=subject.activation)
    slope: Any = HEADS[subject.head].slope(z, labels)
    targets = labels if subject.head == "softmax" else labels[:, None].astype(np.float64)
    for form in SPECS[LOSSES[subject.head]].forms:
        if form.vjp is not None:
            slope = slope.cover(form.vjp(slope.exactly(1.0), None, z, targets)[0])
    return [array for layer in backward(residuals, slope) for array in layer]


def _with_bounds(subject: NetworkSubject, example: NetworkExample, fmt: Format) -> tuple[Any, Layers]:
    """Samples and parameters that carry bounds."""
    grant = subject.granted(fmt)
    return bounded(example.x, grant), bounded_params(example.params, grant)


def logits_bound(subject: NetworkSubject, example: NetworkExample, fmt: Format) -> Floats:
    with np.errstate(all="ignore"):
        x, params = _with_bounds(subject, example, fmt)
        z, _ = forward(x, params, activation=subject.activation)
        return stored_error(z, fmt)


def gradient_bounds(subject: NetworkSubject, example: NetworkExample, fmt: Format) -> list[Floats]:
    with np.errstate(all="ignore"):
        gradients = bounded_gradients(subject, *_with_bounds(subject, example, fmt), example.labels)
        return [stored_error(gradient, fmt) for gradient in gradients]


def loss_bound(subject: NetworkSubject, example: NetworkExample, fmt: Format) -> Floats:
    targets = example.labels if subject.head == "softmax" else example.labels[:, None].astype(np.float64)
    with np.errstate(all="ignore"):
        x, params = _with_bounds(subject, example, fmt)
        z: Any = forward(x, params, activation=subject.activation)[0]
        loss: Any = HEADS[subject.head].loss(z, example.labels)
        for form in SPECS[LOSSES[subject.head]].forms:
            if form.value is not None:
                loss = loss.cover(form.value(z, targets))
        return stored_error(loss, fmt)


def probabilities(subject: NetworkSubject, example: NetworkExample, fmt: Format) -> tuple[Floats, Floats]:
    """The probabilities of the classes, (n, classes), and their bounds."""
    with np.errstate(all="ignore"):
        x, params = _with_bounds(subject, example, fmt)
        z: Any = forward(x, params, activation=subject.activation)[0]
        if subject.head == "softmax":
            parts: list[Any] = [softmax.forward(z)[0]]
        else:
            parts = [sigmoid.forward(-z)[0], sigmoid.forward(z)[0]]
        values, errors = [part.value for part in parts], [stored_error(part, fmt) for part in parts]
        return np.concatenate(values, axis=-1), np.concatenate(errors, axis=-1)


def step_bounds(
    subject: NetworkSubject, example: NetworkExample, fmt: Format, learning_rate: float, batch_size: int = 1
) -> list[Floats]:
    """The bounds of the parameters after a pass over the samples, in batches."""
    if fmt.precision < FLOAT32.precision:
        raise NotApplicable("between the steps of a half format lie any number of roundings")
    with np.errstate(all="ignore"):
        x, current = _with_bounds(subject, example, fmt)
        for start in range(0, len(example.x), batch_size):
            rows = slice(start, start + batch_size)
            gradients = bounded_gradients(subject, x[rows], current, example.labels[rows])
            before = [array for layer in current for array in layer]
            current = layers([p - g * learning_rate for p, g in zip(before, gradients, strict=True)])
        return [stored_error(array, fmt) for layer in current for array in layer]


# ---------------------------------------------------------------------------------------------- the truth


def certified_loss(subject: NetworkSubject, example: NetworkExample) -> tuple[float, float]:
    """The mean loss as the sum of two floats, the second of them the rest after rounding to the first.

    The parameters are read as the real numbers that they are; the rest is known to 2^-24 ulp.
    """

    def definition(x: Any, labels: Any, *params: Any) -> Any:
        activate = SPECS[subject.activation.name].definition
        for w, b in layers(params)[:-1]:
            x = activate(SPECS["linear"].definition(x, w, b))
        z = SPECS["linear"].definition(x, *params[-2:])
        targets = labels if subject.head == "softmax" else labels[:, None]
        return SPECS[LOSSES[subject.head]].definition(z, targets)

    arrays = [array.astype(np.float64) for array in (example.x, *flat(example.params))]
    truth = certify(definition, (arrays[0], example.labels, *arrays[1:]), FLOAT64, {})
    nearest = float(truth.nearest)
    return nearest, float(truth.fraction * ulp(truth.nearest, FLOAT64))
