"""Wrong vjps, made from a right one: errors of every size and place, and the mistakes that people make."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from refnet import OPS
from tests.benchmarks.gradients.operators import (
    CROSS_ENTROPY,
    Inputs,
    Operator,
    conv2d_vjp,
    gelu_gate,
    mlp_vjp,
)
from tests.gradient_examples import EXAMPLES, MISTAKES, Array, Vjp, softmax
from verify.gradients.arrays import as_tuple, is_floating

Change = Callable[[Array], Array]

EXPONENTS = range(1, 13)
"""The relative errors are 10^-1 to 10^-12."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """A wrong vjp.

    `build` makes it anew for every check: a stale cotangent must not come from the check before.
    `relative_error` is that of each element that is hit, if the mutant has one.
    """

    name: str
    kind: str
    build: Callable[[], Vjp]
    relative_error: float | None = None


def mutants(operator: Operator, inputs: Inputs, rng: np.random.Generator) -> tuple[Mutant, ...]:
    """All that differ from the right vjp at this point, by at least one bit for one of two cotangents.

    The changes of a single gradient hit a floating input drawn at random.
    """
    shape = np.shape(operator.f(*inputs))
    probes = [_probe(rng, shape, inputs) for _ in range(2)]
    right = [as_tuple(operator.vjp(dy, *inputs)) for dy in probes]
    order = int(rng.integers(len(right[0])))
    return tuple(
        mutant
        for mutant in (
            *_relative(operator, order, right[0][order] * operator.smooth(inputs)[order], rng),
            *_changed(operator, order, right[0][order], rng),
            *_cotangents(operator),
            *_specific(operator),
        )
        if _differs(mutant.build(), probes, right, inputs)
    )


def _probe(rng: np.random.Generator, shape: tuple[int, ...], inputs: Inputs) -> Array:
    dtype = next(x.dtype for x in inputs if is_floating(x))
    return np.asarray(rng.standard_normal(shape), dtype=dtype)


def _differs(vjp: Vjp, probes: list[Array], right: list[tuple[Array, ...]], inputs: Inputs) -> bool:
    return any(
        np.shape(ours) != np.shape(theirs) or ours.tobytes() != theirs.tobytes()
        for dy, gradients in zip(probes, right, strict=True)
        for ours, theirs in zip(as_tuple(vjp(dy, *inputs)), gradients, strict=True)
    )


def _with_change(vjp: Vjp, order: int, change: Change) -> Vjp:
    """The vjp with one of its gradients changed."""

    def changed(dy: Array, *inputs: Array) -> tuple[Array, ...]:
        gradients = as_tuple(vjp(dy, *inputs))
        return *gradients[:order], change(gradients[order]), *gradients[order + 1 :]

    return changed


def _always(vjp: Vjp) -> Callable[[], Vjp]:
    return lambda: vjp


# ------------------------------------------------------------------------------------- errors of a given size


def _relative(operator: Operator, order: int, g: Array, rng: np.random.Generator) -> Iterator[Mutant]:
    """Errors of one element, of a slice through it, and of all; the element is one where g is not 0."""
    candidates = np.flatnonzero(g)
    if not candidates.size:
        return
    element = np.unravel_index(int(rng.choice(candidates)), g.shape)
    places: dict[str, tuple[Any, ...]] = {"everywhere": (...,)}
    if g.size > 1:
        places["one element"] = element
    if g.ndim > 1:
        axis = int(rng.integers(g.ndim))
        places["slice"] = (*(slice(None),) * axis, element[axis])
    for kind, index in places.items():
        for exponent in EXPONENTS:
            yield Mutant(
                f"{kind} of gradient {order}, 1e-{exponent}",
                kind,
                _always(_with_change(operator.vjp, order, _scaled_at(index, 10.0**-exponent))),
                10.0**-exponent,
            )


def _scaled_at(index: tuple[Any, ...], error: float) -> Change:
    def change(g: Array) -> Array:
        g = np.array(g)
        g[index] *= g.dtype.type(1 + error)
        return g

    return change


# --------------------------------------------------------------------------------- one gradient, misshapen


def _changed(operator: Operator, order: int, g: Array, rng: np.random.Generator) -> Iterator[Mutant]:
    for name, kind, change in _changes(g, rng):
        vjp = _with_change(operator.vjp, order, change)
        yield Mutant(f"{name} of gradient {order}", kind, _always(vjp))


def _changes(g: Array, rng: np.random.Generator) -> Iterator[tuple[str, str, Change]]:
    yield "sign", "sign", np.negative
    yield "zero", "zero", np.zeros_like
    for name, factor in _factors(g.shape).items():
        yield f"factor {name}", "factor", _multiplied(factor)
    long = [axis for axis, size in enumerate(g.shape) if size > 1]
    if long:
        axis = int(rng.choice(long))
        yield f"flipped along axis {axis}", "layout", lambda g: np.flip(g, axis).copy()
        yield f"rolled by one along axis {axis}", "layout", lambda g: np.roll(g, 1, axis)
    for first in range(g.ndim):
        for second in range(first):
            if g.shape[first] == g.shape[second] > 1:
                yield f"axes {second} and {first} exchanged", "layout", _exchanged(first, second)
    if g.dtype == np.float64:
        yield "float32 inside", "float32 inside", lambda g: g.astype(np.float32).astype(np.float64)


def _factors(shape: tuple[int, ...]) -> dict[str, float]:
    """2, N, the sizes of the axes, and their inverses; 1 is not an error."""
    sizes = {"2": 2, "N": int(np.prod(shape))} | {f"size of axis {k}": n for k, n in enumerate(shape)}
    distinct = {size: name for name, size in reversed(sizes.items()) if size > 1}
    return {name: float(size) for size, name in distinct.items()} | {
        f"1/({name})": 1 / size for size, name in distinct.items()
    }


def _multiplied(factor: float) -> Change:
    return lambda g: g * g.dtype.type(factor)


def _exchanged(first: int, second: int) -> Change:
    return lambda g: np.swapaxes(g, first, second).copy()


# ---------------------------------------------------------------------------------------- a wrong cotangent


def _cotangents(operator: Operator) -> Iterator[Mutant]:
    vjp = operator.vjp
    yield Mutant("cotangent ignored", "cotangent", _always(lambda dy, *x: vjp(np.ones_like(dy), *x)))
    yield Mutant("cotangent used twice", "cotangent", _always(lambda dy, *x: vjp(dy * dy, *x)))
    yield Mutant("cotangent of the call before", "cotangent", lambda: _stale(vjp))


def _stale(vjp: Vjp) -> Vjp:
    """A vjp that keeps its cotangent, as a layer does that saves it in an attribute, and uses the old one."""
    saved: list[Array] = []

    def late(dy: Array, *inputs: Array) -> Any:
        saved.append(dy.copy())
        return vjp(saved.pop(0) if len(saved) > 1 else dy, *inputs)

    return late


# ------------------------------------------------------------------------------ the mistakes of one operator


def _specific(operator: Operator) -> Iterator[Mutant]:
    for name in EXAMPLE_MISTAKES:
        example, vjp, _ = MISTAKES[name]
        if example == operator.name:
            yield Mutant(name, "reduction" if "bias" in name else "missing term", _always(vjp))
    for name, kind, vjp in OWN_MISTAKES.get(operator.name, ()):
        yield Mutant(name, kind, _always(vjp))


def _log_softmax_over_all_rows(dy: Array, x: Array) -> Array:
    return np.asarray(dy - softmax(x) * dy.sum())


def _cross_entropy(*, target: bool, mean: bool) -> Vjp:
    def vjp(dy: Array, z: Array, labels: Array) -> Array:
        dz = softmax(z)
        if target:
            dz[np.arange(len(z)), labels] -= 1
        return np.asarray(dy * dz / z.dtype.type(len(z) if mean else 1))

    return vjp


def _maximum_to_every_tie(dy: Array, x: Array) -> Array:
    return np.asarray((x == x.max(axis=-1, keepdims=True)) * dy[:, None])


def _embedding_overwritten(dy: Array, table: Array, ids: Array) -> Array:
    dtable = np.zeros_like(table)
    dtable[ids] = dy
    return dtable


def _with_bias(vjp: Vjp, reduction: Change) -> Vjp:
    """The gradient of the bias, the last, by another reduction of dy."""
    return lambda dy, *inputs: (*vjp(dy, *inputs)[:-1], reduction(dy))


def _biases(name: str, vjp: Vjp, axes: tuple[int, ...]) -> tuple[tuple[str, str, Vjp], ...]:
    return (
        (f"{name} of the mean", "reduction", _with_bias(vjp, lambda dy: np.asarray(dy.mean(axis=axes)))),
        (
            f"{name} of one row",
            "reduction",
            _with_bias(vjp, lambda dy: np.asarray(dy[:1].sum(axis=axes))),
        ),
    )


EXAMPLE_MISTAKES = (
    *("no sum", "wrong axis", "sigmoid's"),
    *("no mean", "no projection", "no sigma", "no gamma"),
    *("bias of the mean", "bias of one row"),
)
"""Those of the tests' examples that are not made for every operator here."""

OWN_MISTAKES: dict[str, tuple[tuple[str, str, Vjp], ...]] = {
    "log_softmax": (
        ("no softmax", "missing term", lambda dy, x: dy.copy()),
        ("sum over all rows", "reduction", _log_softmax_over_all_rows),
    ),
    "log_sum_exp": (
        ("softmax over axis 0", "missing term", lambda dy, x: dy[:, None] * softmax(x.T).T),
        ("no softmax", "missing term", lambda dy, x: np.broadcast_to(dy[:, None], x.shape).copy()),
    ),
    "sigmoid": (("no 1 - y", "missing term", lambda dy, x: dy * np.asarray(OPS["sigmoid"](x))),),
    "tanh": (("1 - y", "missing term", lambda dy, x: dy * (1 - np.tanh(x))),),
    "gelu": (("tanh held", "missing term", lambda dy, x: dy * gelu_gate(x)),),
    "silu": (("sigmoid held", "missing term", lambda dy, x: dy * np.asarray(OPS["sigmoid"](x))),),
    "layer_norm": _biases("beta", EXAMPLES["layer_norm"].vjp, (0,)),
    "conv2d": _biases("bias", conv2d_vjp, (0, 2, 3)),
    CROSS_ENTROPY: (
        ("no target", "missing term", _cross_entropy(target=False, mean=True)),
        ("sum for mean", "reduction", _cross_entropy(target=True, mean=False)),
    ),
    "embedding": (("rows overwritten", "reduction", _embedding_overwritten),),
    "maximum with ties": (("every tie gets all", "tie rule", _maximum_to_every_tie),),
    **{
        f"{size}{label} MLP": (
            ("no slope", "missing term", mlp_vjp(activation, lambda dh, z: dh)),
            *_biases("last bias", mlp_vjp(activation), (0,)),
        )
        for size in ("", "small ")
        for label, activation in (("tanh", "tanh"), ("ReLU", "relu"))
    },
}
"""For each operator: name, kind, wrong vjp."""
