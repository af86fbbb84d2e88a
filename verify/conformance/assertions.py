"""The check of a single function, as an assertion for a test."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from specs import SPECS
from verify.conformance.candidate import Candidate, Place
from verify.conformance.check import judge_candidate, select
from verify.reports.record import Report, Verdict


def assert_conforms(
    function: Callable[..., Any],
    op: str,
    vjp: Callable[..., Any] | None = None,
    *,
    dtypes: Iterable[str] | None = None,
    level: str = "ci",
    seed: int = 0,
    case: int | None = None,
    contract: Sequence[str] = (),
) -> None:
    """Judge a function, and its vjp if there is one, as the operator of this name.

    `function(inputs..., *, settings...)` and `vjp(dy, inputs..., *, settings...)`, as in the contract;
    `contract` is what they promise other than the default, as in `check`. What follows another convention
    than the reference's conforms, with a UserWarning that names it, unless it is promised by its name;
    contract=["variant=reference"] requires the plain definition.

    Raises:
        AssertionError: something fails, or nothing could be judged; the message has the report.
        TypeError: `function` or `vjp` cannot be called.
        UsageError: there is no such operator, dtype, level or case.
    """
    _require_callable("function", function, "function(inputs..., *, settings...)")
    functions, given = {op: function}, [_written(function, "<function>"), repr(op)]
    if vjp is not None:
        _require_callable("vjp", vjp, "vjp(dy, inputs..., *, settings...), or None")
        functions[f"{op}_vjp"] = vjp
        given.append(_written(vjp, "<vjp>"))
    name = getattr(function, "__name__", type(function).__name__)
    candidate = Candidate(name, "", functions, (), partial(_replay, ", ".join(given)))
    report = judge_candidate(candidate, select([op], dtypes, level, seed, case, contract))
    if report.exit_code():
        raise AssertionError(f"{name} does not conform to {op}\n\n{report}")
    if report.count(Verdict.NOT_RUN) == len(report.outcomes):
        raise AssertionError(f"{name}: nothing of it could be judged as {op}\n\n{report}")
    for variant, text in _recognised(report, op):
        if f"variant={variant}" not in contract:
            warnings.warn(
                f"{name} follows another convention of {op} than the reference's: {text}. To require the "
                f'plain definition: contract=["variant=reference"]; or this one: ["variant={variant}"].',
                stacklevel=2,
            )


def _recognised(report: Report, op: str) -> Iterator[tuple[str, str]]:
    """The other definitions that are followed, by name and in words; a derivative at a kink is none."""
    for variant in SPECS[op].variants if op in SPECS else ():
        text = f"{variant.name}: {variant.summary}"
        if any(text in outcome.variant for outcome in report.outcomes):
            yield variant.name, text


def _require_callable(argument: str, given: object, form: str) -> None:
    if not callable(given):
        raise TypeError(f"{argument} is of type {type(given).__name__}; required: a callable, {form}.")


def _written(function: Callable[..., Any], place: str) -> str:
    """Its name, or a place to fill in where it has none, as a lambda; until then the call does not parse."""
    name = str(getattr(function, "__name__", place))
    return name if name.isidentifier() else place


def _replay(given: str, place: Place) -> str:
    dtypes, level, seed, case = [place.dtype], place.level, int(place.seed), place.case
    numbered = "" if place.swept is not None else f", {case=}"
    promised = f", contract={place.promises}" if place.promises else ""
    return f"assert_conforms({given}, {dtypes=}, {level=}, {seed=}{numbered}{promised})"
