"""Training: data split into sets and scaled, epochs of gradient descent, and what they did to the loss.

Everything is a pure function of its arguments and an explicit source of randomness.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import count
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from refnet.activations import relu
from refnet.arguments import (
    validate_array,
    validate_count,
    validate_flag,
    validate_generator,
    validate_labels,
    validate_network,
    validate_one_label_each,
    validate_params,
    validate_seed,
)
from refnet.network import (
    HEADS,
    Head,
    Layer,
    Network,
    Params,
    Scheme,
    backward,
    forward,
    initialise,
    rounded,
    validate_form,
)
from refnet.op import Activation, ArgumentError, Array, Labels
from refnet.optimizers import validate_learning_rate


class Samples(NamedTuple):
    """Samples and their classes; any pair (x, labels) will do."""

    x: Array
    """(n, k)."""
    labels: Labels
    """(n,), each in [0, classes)."""


# ----------------------------------------------------------------------------------------------- the data


class Split(NamedTuple):
    training: Samples
    validation: Samples
    test: Samples


def split(
    x: Array,
    labels: Labels,
    *,
    seed: int,
    validation: float = 0.15,
    test: float = 0.15,
    stratified: bool = True,
) -> Split:
    """Put every sample into exactly one of three sets, in random order.

    round(n * validation) and round(n * test) samples, the rest for training. Stratified: the share of each
    class in a set is that of the class in the data, to within one sample for the test set and two for the
    others. The samples are shuffled, lined up by class, and every set takes its share of them at even
    distances (systematic sampling: Cochran, Sampling Techniques, 3rd ed., 1977, chapter 8).

    Raises:
        ArgumentError: x and labels do not fit, a set would be empty, a class would be missing in training.
    """
    validate_array("split", "x", x, 2, "(n, k)", None)
    validate_one_label_each("split", labels, x)
    validate_flag("split", "stratified", stratified)
    validation, test = _share("validation", validation), _share("test", test)
    n = len(labels)
    rng = np.random.default_rng(validate_seed("split", seed))
    order = rng.permutation(n)
    line = order[np.argsort(labels[order], kind="stable")] if stratified else order
    in_test = _evenly(n, round(n * test))
    rest = n - int(in_test.sum())
    in_validation = np.zeros(n, np.bool_)
    in_validation[~in_test] = _evenly(rest, min(round(n * validation), rest))
    masks = (~(in_test | in_validation), in_validation, in_test)
    members = []
    for name, mask in zip(Split._fields, masks, strict=True):
        if not mask.any():
            raise ArgumentError(
                "split",
                f"the {name} set",
                f"empty, of {n} samples with validation = {validation} and test = {test}",
                "at least one sample in each set",
                "Use more samples, or other shares.",
            )
        members.append(rng.permutation(line[mask]))
    if stratified:
        _validate_classes(labels, labels[members[0]])
    training, held_out, unseen = (Samples(x[rows], labels[rows]) for rows in members)
    return Split(training, held_out, unseen)


def _evenly(n: int, count: int) -> npt.NDArray[np.bool_]:
    """A mask of `count` of n places at even distances: any run of m of them has m * count / n, to within 1.

    In integers: 0.1 * 30 rounds to 3.0000000000000004, and a place would move.
    """
    steps = np.arange(n + 1) * count // max(n, 1)
    mask: npt.NDArray[np.bool_] = steps[1:] > steps[:-1]
    return mask


def _share(name: str, share: object) -> float:
    """The share in Python's own float: n times a float32 would be a float32, and round to another count."""
    if isinstance(share, float | np.floating) and 0.0 < share < 1.0:
        return float(share)
    raise ArgumentError(
        "split",
        name,
        repr(share),
        "a float between 0 and 1, a share of the samples",
        "Use 0.15; for k of n samples use k / n.",
    )


def _validate_classes(labels: Labels, trained: Labels) -> None:
    missing = np.setdiff1d(labels, trained)
    if missing.size:
        first = int(missing[0])
        raise ArgumentError(
            "split",
            "the training set",
            f"without class {first}, which has {int(np.equal(labels, first).sum())} samples",
            "at least one sample of each class",
            "Add samples of it, take smaller shares, or use stratified=False.",
        )


class Scaling(NamedTuple):
    """The mean and the standard deviation of each feature, in float64."""

    mean: Array
    deviation: Array

    @classmethod
    def of(cls, x: Array, *, common: bool = False) -> Scaling:
        """The scaling of the samples x (n, k).

        common=True takes one deviation for all features, the root of their mean variance: right for pixels
        and whatever else has one unit, because a pixel that is hardly ever lit has a deviation near 0, and
        the one sample in which it is lit would lie a hundred deviations out.

        A feature that does not vary has deviation 1, and its mean is its value: the computed mean of three
        times 0.1 is 0.10000000000000002, and dividing by the deviation from that makes noise of size 1.

        Raises:
            ArgumentError: x is not a matrix of finite numbers with at least one row, common is no bool.
        """
        _validate_features("Scaling.of", x)
        validate_flag("Scaling.of", "common", common)
        wide: Array = x.astype(np.float64)
        low: Array = np.minimum.reduce(wide, axis=0)
        constant = low == np.maximum.reduce(wide, axis=0)
        scale = 0.5 ** math.ceil(math.log2(len(x)))  # exact, and the sum of 1e308 and 1e308 does not overflow
        mean: Array = np.where(constant, low, np.add.reduce(wide * scale, axis=0) / (len(x) * scale))
        distance = np.where(constant, 0.0, wide - mean)
        # in units of the largest distance: the square of 1e200 overflows
        unit: Array = np.maximum.reduce(np.abs(distance), axis=None if common else 0, keepdims=True)
        unit = np.where(unit == 0.0, 1.0, unit)
        squares: Array = np.add.reduce((distance / unit) ** 2, axis=0) / len(x)
        if common:
            squares = np.full_like(squares, np.add.reduce(squares) / len(squares))
        deviation: Array = np.where(squares == 0.0, 1.0, unit[0] * np.sqrt(squares))
        return cls(mean, deviation)

    def apply(self, x: Array) -> Array:
        """(x - mean) / deviation, computed in float64 and rounded to the dtype of x.

        Raises:
            ArgumentError: x does not have the features that the scaling was made of.
        """
        _validate_features("Scaling.apply", x)
        if x.shape[1:] != self.mean.shape:
            raise ArgumentError(
                "Scaling.apply",
                "x",
                f"of shape {x.shape}",
                f"shape (n, k) with k = {self.mean.size}, the features of the scaling",
                "Scale samples as the training set was scaled.",
            )
        scaled: Array = (x - self.mean) / self.deviation
        return scaled.astype(x.dtype, copy=False)

    def folded(self, params: Params) -> list[Layer]:
        """The parameters of the same network for samples that are not scaled.

        ((x - mean) / deviation) w + b = x (w / deviation) + (b - (mean / deviation) w).

        Raises:
            ArgumentError: params do not take the features of the scaling.
        """
        layers, dtype = validate_params("Scaling.folded", params)
        w, b = layers[0]
        if len(w) != self.mean.size:
            raise ArgumentError(
                "Scaling.folded",
                "params[0].w",
                f"of shape {w.shape}",
                f"shape (k, m) with k = {self.mean.size}, the features of the scaling",
                "Fold the scaling that the network was trained with.",
            )
        first = Layer(w / self.deviation[:, None], b - np.dot(self.mean / self.deviation, w))
        return rounded([first, *layers[1:]], dtype)


def standardise(training: Array, *others: Array, common: bool = False) -> tuple[Array, ...]:
    """Return the arrays with the mean of each feature of `training` at 0 and its standard deviation at 1.

    x -> (x - mean) / deviation, with the mean and the deviation of the training set for all of them: the
    other sets must not influence what is learnt. common=True divides all features by one deviation, which
    suits pixels (see `Scaling.of`).

    Raises:
        ArgumentError: an array is not a matrix of finite numbers, or lacks features of `training`.
    """
    scaling = Scaling.of(training, common=common)
    return tuple(scaling.apply(x) for x in (training, *others))


def _validate_features(op: str, x: Array) -> None:
    validate_array(op, "x", x, 2, "(n, k)", None)
    if not x.size:
        raise ArgumentError(
            op, "x", f"of shape {x.shape}", "at least one sample of one feature", "Look where the data went."
        )
    finite = np.isfinite(x)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        raise ArgumentError(
            op,
            "x",
            f"{x[row, column]} in row {row}, column {column}",
            "finite numbers",
            "Drop the row or fill the gap before training.",
        )


def _pair(op: str, name: str, pair: object) -> Samples:
    if isinstance(pair, tuple) and len(pair) == 2:
        return Samples(*pair)
    raise ArgumentError(
        op, name, f"a {type(pair).__name__}", "a pair (x, labels)", "`split` makes three of them."
    )


# -------------------------------------------------------------------------------------------- the descent


def sgd_epoch(
    params: Params,
    xs: Array,
    labels: Labels,
    *,
    learning_rate: float,
    batch_size: int = 1,
    activation: Activation = relu,
    head: Head = "softmax",
) -> list[Layer]:
    """Return the parameters after one pass over the samples, in the order given.

    For each batch in turn: param <- param - learning_rate * (gradient of the mean loss of the batch). A
    batch is the next `batch_size` samples, the last one what is left. float16 and bfloat16 are computed in
    float32 and rounded once, at the end.

    Raises:
        ArgumentError: an argument does not fit the others, a label is out of range, there is no sample.
    """
    validate_count("sgd_epoch", "batch_size", batch_size)
    xs, layers, dtype = validate_network("sgd_epoch", xs, params, activation, name="xs")
    rate = validate_learning_rate("sgd_epoch", learning_rate, xs.dtype)
    validate_labels("sgd_epoch", labels, xs, layers, head)
    with np.errstate(all="ignore"):
        return rounded(_descend(layers, xs, labels, rate, batch_size, activation, head), dtype)


def _descend(
    params: Params,
    xs: Array,
    labels: Labels,
    learning_rate: float,
    batch_size: int,
    activation: Activation,
    head: Head,
) -> Params:
    """The steps of an epoch, on arguments that are trusted."""
    slope = HEADS[head].slope
    rate = np.asarray(learning_rate, params[0][0].dtype)  # converted once, not for every parameter
    for start in range(0, len(xs), batch_size):
        batch = slice(start, start + batch_size)
        z, residuals = forward(xs[batch], params, activation=activation)
        gradients = backward(residuals, slope(z, labels[batch]))
        params = [
            (_corrected(w, dw, rate), _corrected(b, db, rate))
            for (w, b), (dw, db) in zip(params, gradients, strict=True)
        ]
    return params


BLOCK = 2**15
"""Elements that are corrected at a time: 256 KiB in float64 stay in the cache from one pass to the next."""


def _corrected(param: Array, grad: Array, learning_rate: Array) -> Array:
    """`sgd_step`, in the memory of the gradient, which the backward pass has just made.

    A large gradient is taken block by block: two passes over 784 x 512 of it would fetch it twice.
    """
    if grad.size <= BLOCK:
        grad *= learning_rate
        np.subtract(param, grad, out=grad)
        return grad
    rows = max(1, BLOCK * len(grad) // grad.size)
    for start in range(0, len(grad), rows):
        block = grad[start : start + rows]
        block *= learning_rate
        np.subtract(param[start : start + rows], block, out=block)
    return grad


# ------------------------------------------------------------------------------------- epochs, and history


class EpochRecord(NamedTuple):
    """How well the network does after an epoch: mean loss, and the share of samples whose class is right."""

    epoch: int
    """1 for the first."""
    training_loss: float
    training_accuracy: float
    validation_loss: float
    validation_accuracy: float


History = tuple[EpochRecord, ...]
"""One record for each epoch, the first one first."""


class Evaluation(NamedTuple):
    loss: float
    """The mean over the samples."""
    accuracy: float
    """The share of samples whose most probable class is the right one; a NaN is never right."""


def evaluate(
    params: Params, x: Array, labels: Labels, *, activation: Activation = relu, head: Head = "softmax"
) -> Evaluation:
    """Return the mean loss and the accuracy of a network on samples.

    Raises:
        ArgumentError: an argument does not fit the others, a label is out of range, there is no sample.
    """
    x, layers, _ = validate_network("evaluate", x, params, activation)
    validate_labels("evaluate", labels, x, layers, head)
    with np.errstate(all="ignore"):
        return _evaluate(layers, x, labels, activation, head)


def _evaluate(params: Params, x: Array, labels: Labels, activation: Activation, head: Head) -> Evaluation:
    z, _ = forward(x, params, activation=activation)
    lost = np.logical_or.reduce(np.isnan(z), axis=-1)
    right = np.equal(HEADS[head].decide(z), labels) & ~lost
    return Evaluation(float(HEADS[head].loss(z, labels)), int(right.sum()) / len(labels))


def run_epochs(
    params: Params,
    training: tuple[Array, Labels],
    validation: tuple[Array, Labels],
    rng: np.random.Generator,
    *,
    learning_rate: float,
    batch_size: int = 1,
    activation: Activation = relu,
    head: Head = "softmax",
) -> Iterator[tuple[EpochRecord, list[Layer]]]:
    """Train without end: yield a record and the parameters after each epoch, computed when it is asked for.

    Each epoch is `sgd_epoch` over a new permutation of the training set, drawn from `rng`. The arguments
    are checked when `run_epochs` is called, not at the first epoch.

    Raises:
        ArgumentError: an argument does not fit the others, a label is out of range, a set is empty.
    """
    validate_generator("run_epochs", rng)
    validate_count("run_epochs", "batch_size", batch_size)
    sets: list[Samples] = []
    for name, pair in (("training", training), ("validation", validation)):
        x, labels = _pair("run_epochs", name, pair)
        x, layers, dtype = validate_network("run_epochs", x, params, activation, name=f"x of {name}")
        validate_labels("run_epochs", labels, x, layers, head, of=f" of {name}")
        sets.append(Samples(x, labels))
    rate = validate_learning_rate("run_epochs", learning_rate, sets[0].x.dtype)
    return _epochs(layers, dtype, sets[0], sets[1], rng, rate, batch_size, activation, head)


def _epochs(
    params: Params,
    dtype: np.dtype[np.floating],
    training: Samples,
    validation: Samples,
    rng: np.random.Generator,
    learning_rate: float,
    batch_size: int,
    activation: Activation,
    head: Head,
) -> Iterator[tuple[EpochRecord, list[Layer]]]:
    for epoch in count(1):
        order = rng.permutation(len(training.labels))
        with np.errstate(all="ignore"):
            params = _descend(
                params, training.x[order], training.labels[order], learning_rate, batch_size, activation, head
            )
            on_training, on_validation = (
                _evaluate(params, *samples, activation, head) for samples in (training, validation)
            )
            result = rounded(params, dtype)
        yield EpochRecord(epoch, *on_training, *on_validation), result


def fit(
    network: Network,
    training: tuple[Array, Labels],
    validation: tuple[Array, Labels],
    *,
    seed: int,
    epochs: int = 20,
    learning_rate: float = 0.01,
    batch_size: int = 1,
    scheme: Scheme = "he",
) -> tuple[list[Layer], History]:
    """Return the parameters after so many epochs, and the history of the loss and the accuracy.

    The seed alone decides the first parameters and the order of the samples in each epoch. To follow the
    epochs while they run, or to stop early, use `run_epochs`; `fit` is the loop over it.

    Raises:
        ArgumentError: the samples do not fit the network, a set is empty, a setting is out of range.
    """
    validate_form("fit", network)
    validate_count("fit", "epochs", epochs)
    rng = np.random.default_rng(validate_seed("fit", seed))
    x, _ = _pair("fit", "training", training)
    dtype = validate_array("fit", "x of training", x, 2, "(n, k)", None)
    params = initialise(network, rng, scheme=scheme, dtype=dtype)
    run = run_epochs(
        params,
        training,
        validation,
        rng,
        learning_rate=learning_rate,
        batch_size=batch_size,
        activation=network.activation,
        head=network.head,
    )
    rows = [row for _, row in zip(range(epochs), run, strict=False)]  # the range first: no epoch too many
    return rows[-1][1], tuple(record for record, _ in rows)
