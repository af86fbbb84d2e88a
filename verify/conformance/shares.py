"""Gradients of tied elements: any share of them is right, as long as the shares add up."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from specs import Sharing, Tie
from verify.arithmetic.bounds import SLACK, granted_model
from verify.arithmetic.contracts import Contract
from verify.arithmetic.formats import Truth
from verify.conformance.trial import Expected, Results, Trial
from verify.mistakes.evidence import beyond

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


def _only(first: bool) -> Callable[[Bools], Floats]:
    """The first or the last of the elements that an output may take has all."""

    def parts(taken: Bools) -> Floats:
        order = taken if first else taken[:, ::-1]
        chosen = np.arange(taken.shape[1]) == order.argmax(axis=1)[:, None]
        return np.asarray(chosen if first else chosen[:, ::-1], dtype=np.float64)

    return parts


def _equally(taken: Bools) -> Floats:
    return np.asarray(taken / taken.sum(axis=1, keepdims=True), dtype=np.float64)


PARTS: Mapping[Sharing, Callable[[Bools], Floats]] = {
    Sharing.FIRST: _only(first=True),
    Sharing.LAST: _only(first=False),
    Sharing.EQUAL: _equally,
}
"""What part each element (columns) has of the cotangent of each output (rows)."""


def allow_shares(
    tie: Tie, contract: Contract, trial: Trial, due: Sequence[Expected], results: Results
) -> list[Expected]:
    """The candidate's own shares of tied elements, where they are possible ones; and the name of that.

    Outputs that have tied elements in common are judged together: what an element is given lies between
    what all of its outputs may give it, and all elements together are given what their outputs have to give.
    """
    dy, *inputs = trial.arguments
    (truth, bound, _), *others = due
    differs = beyond(results[0], truth, bound)
    if not differs.any():
        return [*due]
    taken = _taken(tie, contract, inputs, trial.settings).reshape(dy.size, -1)
    cotangent, got = dy.astype(np.float64).ravel(), results[0].astype(np.float64).ravel()
    tied = taken.sum(axis=1) > 1
    granted = _granted(taken, cotangent, got, contract)
    low, high = (
        np.where(tied, clipped, cotangent) @ taken
        for clipped in (np.minimum(cotangent, 0), np.maximum(cotangent, 0))
    )
    within = (got >= low - granted) & (got <= high + granted)
    accepted = np.zeros(got.size, dtype=bool)
    for outputs in _components(taken, tied):
        elements = taken[outputs].any(axis=0)
        fixed = cotangent[~tied] @ taken[~tied][:, elements]
        missing = got[elements].sum() - fixed.sum() - cotangent[outputs].sum()
        if within[elements].all() and abs(missing) <= granted[elements].sum():
            accepted |= elements
    theirs = accepted.reshape(results[0].shape) & differs
    if not theirs.any():
        return [*due]
    truth = Truth(np.where(theirs, results[0], truth.nearest), np.where(theirs, 0.0, truth.fraction))
    return [Expected(truth, bound, _name(tie, taken, cotangent, got, granted, accepted)), *others]


def _taken(tie: Tie, contract: Contract, inputs: Sequence[Any], settings: Mapping[str, Any]) -> Bools:
    """Which elements an output may take: those, too, that tie once subnormal numbers are read as 0."""
    first, *others = inputs
    flushed = np.abs(first.astype(np.float64)) < granted_model(contract, statistical=False).flushed_in_memory
    read = np.where(flushed, first.dtype.type(0), first)
    return np.asarray(tie.taken(first, *others, **settings) | tie.taken(read, *others, **settings))


def _granted(taken: Bools, cotangent: Floats, got: Floats, contract: Contract) -> Floats:
    """What rounding may do to the sum of the shares of an element.

    A share is a product or a quotient with a part that is rounded itself, 2 u of it, and of k of them k - 1
    sums are rounded: (k + 1) u of what all of them may be, to first order. The half formats compute in
    float32, and round the result once more.
    """
    u = granted_model(contract, statistical=False).unit_roundoff
    final = contract.output.unit_roundoff
    once = final * np.abs(got) if final > u else 0.0
    return np.asarray(((taken.sum(axis=0) + 1) * u * (np.abs(cotangent) @ taken) + once) * SLACK)


def _components(taken: Bools, tied: Bools) -> Iterator[Bools]:
    """The outputs with ties, as sets of those that have elements in common."""
    shared = (taken.astype(np.float64) @ taken.T > 0) & tied & tied[:, None]
    left = tied.copy()
    while left.any():
        outputs = np.arange(left.size) == left.argmax()
        while True:
            reached = shared[outputs].any(axis=0)
            if (reached == outputs).all():
                break
            outputs = reached
        left &= ~outputs
        yield outputs


def _name(tie: Tie, taken: Bools, cotangent: Floats, got: Floats, granted: Floats, accepted: Bools) -> str:
    """Nothing for the reference's convention, which may differ where subnormal numbers are read as 0."""
    for sharing, parts in PARTS.items():
        if (np.abs(cotangent @ parts(taken) - got) <= granted)[accepted].all():
            return "" if sharing is tie.convention else f"ties-{sharing.name.lower()}: {sharing.value}"
    return f"ties-{Sharing.OTHER.name.lower()}: {Sharing.OTHER.value}"
