"""The functions of a whole network: their cases, what they should return, and how far off they may be.

The bounds come from running refnet's own network on arrays that carry (value, bound), with the slope of the
loss widened to the loosest form of it. They are wide for deep networks, because errors are carried along in
absolute terms, and narrow at the sizes here: narrower than any of the mistakes that a composition invites.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from types import MappingProxyType
from typing import Any
from zlib import crc32

import numpy as np

import specs.network
from refnet.network import forward, mlp, mlp_gradients
from refnet.optimizers import sgd_step
from refnet.training import sgd_epoch
from verify.arithmetic.bounds import ErrorBound, Floats, carried, granted_model, stored
from verify.arithmetic.certified import Kind, certify, certify_vjp, decide, pulled_back
from verify.arithmetic.contracts import Contract, Grant, contract_of, is_kept_by_reference
from verify.arithmetic.formats import Format, Truth
from verify.arithmetic.instrumented import Instrumented
from verify.arithmetic.stochastic import SAMPLES, Arithmetic, tolerances
from verify.conformance.contract import Values
from verify.conformance.due import narrowed
from verify.conformance.findings import Finding
from verify.conformance.plan import Plan
from verify.conformance.trial import Expected, Task, Trial, attempt, findings_of
from verify.laws.network import (
    BATCHES,
    LEARNING_RATES,
    SIZES,
    NetworkSubject,
    bounded_gradients,
    flat,
    layers,
)
from verify.reports.record import Verdict

SCALES = (1.0, 0.125, 3.0)
"""Of the samples: near the kinks of the hidden layers, and where softmax is all but certain."""

CASES = 2
"""One case in this many of those that an operator has: a network costs more than an operator."""

REFERENCE = NetworkSubject.of_reference()

Bounding = Callable[[Values], Instrumented]
"""What makes of an array one that carries errors with it: their bounds, or some drawn at random."""


@dataclass(frozen=True, slots=True)
class NetworkFunction:
    """A function of the contract that takes a whole network.

    `make` draws the trial of a case; `certified` gives what is due for each of its results, `bounded` runs
    refnet's own code on arrays with bounds, with the trial's settings.
    """

    aspect: str
    reference: Callable[..., Any]
    make: Callable[[int, np.random.Generator, Format], Trial]
    certified: Callable[[Trial, Format], Sequence[Truth]]
    bounded: Callable[[Trial, Bounding], Sequence[Any]]


def judge_network(
    functions: Mapping[str, Callable[..., Any]], name: str, contract: Contract, plan: Plan
) -> Iterator[Finding]:
    """All findings on one of a candidate's functions of a network in one dtype."""
    wanted, function = NETWORK_FUNCTIONS[name], functions.get(name)
    if function is None:
        yield Finding(wanted.aspect, 0, Verdict.NOT_RUN, "the candidate does not have it")
        return
    confirmed = function != wanted.reference and is_kept_by_reference(contract)
    task, fmt = Task(name, wanted.reference, {}, confirmed), contract.output
    expect = partial(expect_network, wanted, contract)
    cases = [case for case in plan.cases(every=CASES) if plan.wants(case)]
    trials = [network_trial(name, fmt, case, plan.seed) for case in cases]
    yield from findings_of([attempt(function, task, trial, fmt) for trial in trials], task, expect, fmt)


def network_trial(name: str, fmt: Format, case: int, seed: int) -> Trial:
    """The trial of a case, reproduced by its number and the seed alone."""
    rng = np.random.default_rng((seed, crc32(name.encode()), fmt.precision, case))
    return NETWORK_FUNCTIONS[name].make(case, rng, fmt)


def expect_network(wanted: NetworkFunction, contract: Contract, trial: Trial) -> list[Expected]:
    """The certified values, with the deterministic bounds and the spreads in stochastic arithmetic."""
    fmt = contract.output
    truths = wanted.certified(trial, fmt)
    with np.errstate(all="ignore"):
        runs = (wanted.bounded(trial, _exact_in(contract, statistical)) for statistical in (False, True))
        bounds = [ErrorBound(stored(d, fmt).error, stored(s, fmt).error) for d, s in zip(*runs, strict=True)]
    spreads = network_spreads(wanted, trial, contract)
    return [
        Expected(truth, narrowed(bound, spread, contract))
        for truth, bound, spread in zip(truths, bounds, spreads, strict=True)
    ]


def network_spreads(
    wanted: NetworkFunction,
    trial: Trial,
    grant: Grant,
    *,
    seed: int = 0,
    samples: int = SAMPLES,
) -> tuple[Floats, ...]:
    """The tolerances of the results of a function by stochastic arithmetic, narrow at any depth.

    Of the forms of the loss's slope each run takes one, as each implementation does: the spread is that of
    all of them together.
    """
    arithmetic = Arithmetic.of(grant, seed=seed, samples=samples)
    with np.errstate(all="ignore"):
        return tolerances([tuple(wanted.bounded(trial, arithmetic.read))], contract_of(grant).output)


def _exact_in(contract: Contract, statistical: bool) -> Bounding:
    """What makes an array of the format one that carries a bound, of 0 to begin with."""
    model = granted_model(contract, statistical=statistical)
    return lambda x: carried(x, model)


# ------------------------------------------------------------------------------------------------- cases


def _network(
    case: int, rng: np.random.Generator, fmt: Format
) -> tuple[list[tuple[Values, Values]], Values, Values]:
    """Parameters, samples and labels. The weights have the variance of He's initialisation: with larger ones
    an epoch multiplies every error, and its bound ends up infinite."""
    sizes, batch = SIZES[case % len(SIZES)], BATCHES[case % len(BATCHES)]
    params = [
        (
            (rng.standard_normal((k, m)) * np.sqrt(2.0 / k)).astype(fmt.dtype),
            rng.standard_normal(m).astype(fmt.dtype),
        )
        for k, m in pairwise(sizes)
    ]
    x = (rng.standard_normal((batch, sizes[0])) * SCALES[case % len(SCALES)]).astype(fmt.dtype)
    return params, x, rng.integers(sizes[-1], size=batch)


def _names(count: int, prefix: str = "") -> tuple[str, ...]:
    return tuple(f"{prefix}{kind}{k}" for k in range(count) for kind in ("w", "b"))


def _make_mlp(case: int, rng: np.random.Generator, fmt: Format) -> Trial:
    params, x, _ = _network(case, rng, fmt)
    shape = (len(x), len(params[-1][1]))
    return Trial(case, "value", (x, params), {}, ("z",), (shape,), {"x": x, "params": params})


def _make_gradients(case: int, rng: np.random.Generator, fmt: Format) -> Trial:
    params, x, labels = _network(case, rng, fmt)
    names, shapes = _names(len(params), "d"), tuple(array.shape for array in flat(params))
    inputs = {"params": params, "x": x, "labels": labels}
    return Trial(case, "value", (params, x, labels), {}, names, shapes, inputs)


def _make_epoch(case: int, rng: np.random.Generator, fmt: Format) -> Trial:
    params, xs, labels = _network(case, rng, fmt)
    names, shapes = _names(len(params)), tuple(array.shape for array in flat(params))
    settings = {"learning_rate": LEARNING_RATES[case % len(LEARNING_RATES)]}
    inputs = {"params": params, "xs": xs, "labels": labels}
    return Trial(case, "epoch", (params, xs, labels), settings, names, shapes, inputs)


# ----------------------------------------------------------------------------------------- what is due


def _certified_mlp(trial: Trial, fmt: Format) -> list[Truth]:
    x, params = trial.arguments
    return [certify(specs.network.mlp, (x, *flat(params)), fmt, {})]


def _certified_gradients(trial: Trial, fmt: Format) -> tuple[Truth, ...]:
    params, x, labels = trial.arguments
    inputs, one = (x, labels, *flat(params)), np.ones((), fmt.dtype)
    return certify_vjp(specs.network.mlp_loss, inputs, range(2, len(inputs)), one, fmt, {})


def _certified_epoch(trial: Trial, fmt: Format) -> list[Truth]:
    """The steps of the epoch on exact numbers, from one sample to the next without any rounding."""
    params, xs, labels = trial.arguments
    before = flat(params)

    def evaluate(kind: Kind) -> Any:
        numbers = np.frompyfunc(lambda value: kind(float(value)), 1, 1)
        rate, x = kind(trial.settings["learning_rate"]), numbers(xs)
        exact = [numbers(array) for array in before]
        for sample in range(len(xs)):
            loss = partial(specs.network.mlp_loss, x[sample : sample + 1], labels[sample : sample + 1])
            one = np.array([kind(1.0)], dtype=object)
            slopes = pulled_back(loss, exact, range(len(exact)), [one], {}, kind)
            exact = [array - rate * slope for array, slope in zip(exact, slopes, strict=True)]
        return np.concatenate([array.ravel() for array in exact])

    whole = decide(evaluate, fmt)
    ends = np.cumsum([array.size for array in before])[:-1]
    return [
        Truth(nearest.reshape(array.shape), fraction.reshape(array.shape))
        for array, nearest, fraction in zip(
            before, np.split(whole.nearest, ends), np.split(whole.fraction, ends), strict=True
        )
    ]


# ------------------------------------------------------------------------------------------------ bounds


def _bounded_mlp(trial: Trial, bound: Bounding) -> list[Any]:
    x, params = trial.arguments
    z, _ = forward(*_as_reference(x, params, bound))
    return [z]


def _bounded_gradients(trial: Trial, bound: Bounding) -> list[Any]:
    params, x, labels = trial.arguments
    return bounded_gradients(REFERENCE, *_as_reference(x, params, bound), labels)


def _bounded_epoch(trial: Trial, bound: Bounding) -> list[Any]:
    params, xs, labels = trial.arguments
    x, current = _as_reference(xs, params, bound)
    for sample in range(len(xs)):
        one = slice(sample, sample + 1)
        gradients = bounded_gradients(REFERENCE, x[one], current, labels[one])
        steps = [
            sgd_step.forward(param, gradient, **trial.settings)[0]
            for param, gradient in zip(_each(current), gradients, strict=True)
        ]
        current = layers(steps)
    return _each(current)


def _each(params: Sequence[tuple[Any, Any]]) -> list[Any]:
    return [array for layer in params for array in layer]


def _as_reference(x: Values, params: Sequence[tuple[Values, Values]], bound: Bounding) -> tuple[Any, Any]:
    """The arguments with bounds, as what refnet's code takes them for."""
    return bound(x), [(bound(w), bound(b)) for w, b in params]


NETWORK_FUNCTIONS: Mapping[str, NetworkFunction] = MappingProxyType(
    {
        "mlp": NetworkFunction("value", mlp, _make_mlp, _certified_mlp, _bounded_mlp),
        "mlp_gradients": NetworkFunction(
            "value", mlp_gradients, _make_gradients, _certified_gradients, _bounded_gradients
        ),
        "sgd_epoch": NetworkFunction("epoch", sgd_epoch, _make_epoch, _certified_epoch, _bounded_epoch),
    }
)
"""The functions of the contract that take a whole network."""
