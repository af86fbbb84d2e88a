"""The reference itself, under every witness.

The witnesses share no formula. `check` judges refnet as it judges anybody: certified values and gradients,
laws, manners. Three more come here: sympy's derivative of the definition, numerical derivatives of refnet's
forward, and refnet run in two formats, whose results may differ by both their rounding bounds and no more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any
from zlib import crc32

import numpy as np

from refnet import OPS
from specs import SPECS, Spec
from verify.arithmetic.bounds import ErrorBound, value_bounds, vjp_bounds
from verify.arithmetic.certified import certify_vjp, in_order
from verify.arithmetic.formats import (
    BFLOAT16,
    FLOAT16,
    FLOAT32,
    FLOAT64,
    FORMATS,
    Format,
    Truth,
    error_in_ulp,
)
from verify.arithmetic.symbolic import symbolic_vjp
from verify.conformance.check import check, select
from verify.conformance.findings import Finding, Measure, outcomes
from verify.conformance.judge import judge
from verify.conformance.plan import LEVELS, SETTINGS_A_TURN, draw, settings_of
from verify.gradients import GradcheckReport, gradcheck
from verify.laws.examples import REGIMES, Example, make_example, shape_at
from verify.processes import process_pool
from verify.reports.record import Outcome, Report, Verdict

SMALL = {"batch": 2, "n": 2, "k": 3, "m": 2, "c": 3}
"""The sizes at which sympy derives: expressions grow with inputs times outputs."""

INDICES = 4
"""How many masks or labels sympy derives for, if the settings do not ask for more."""

LARGER = {"batch": 4, "n": 4, "k": 5, "m": 3, "c": 5}
"""The sizes for numerical derivatives: so many elements that their gradients are never all 0 by chance."""


def selfcheck(
    *,
    ops: Iterable[str] | None = None,
    level: str = "ci",
    seed: int = 0,
    jobs: int = 1,
    progress: Callable[[str], None] = lambda op: None,
) -> Report:
    """Put refnet to every witness, in every format; `progress` is told of each operator. With several `jobs`
    the operators are shared out among as many processes.

    Raises:
        UsageError: an operator or level that does not exist.
    """
    names = select(ops, FORMATS, level, seed, None).ops
    examine = partial(_examined, level=level, seed=seed)
    if jobs > 1 and len(names) > 1:
        with process_pool(min(jobs, len(names))) as pool:
            running = {pool.submit(examine, name): name for name in names}
            for done in as_completed(running):
                progress(running[done])
        reports = [future.result() for future in running]
    else:
        reports = []
        for name in names:
            progress(name)
            reports.append(examine(name))
    return replace(reports[0], outcomes=tuple(outcome for report in reports for outcome in report.outcomes))


def _examined(op: str, *, level: str, seed: int) -> Report:
    """Everything that the witnesses find of one operator, or one function of a network."""
    judged = check("refnet", ops=[op], dtypes=FORMATS, level=level, seed=seed)
    witnessed = _witnessed(SPECS[op], level, seed) if op in SPECS else ()
    return replace(judged, outcomes=(*judged.outcomes, *witnessed))


def _witnessed(spec: Spec, level: str, seed: int) -> Iterator[Outcome]:
    spec = replace(spec, forms=())  # the code of others has no part in what refnet is asked for here
    for witness, formats in WITNESSES.items():
        if not spec.differentiable and witness in (symbolic, numerical):
            continue
        for fmt in formats:
            findings = witness(spec, fmt, LEVELS[level], seed)
            yield from outcomes(spec.name, fmt.name, findings, lambda finding: _replay(spec, level, seed))


def _replay(spec: Spec, level: str, seed: int) -> str:
    return f"refnet selfcheck --op {spec.name} --level {level} --seed {seed}"


# ---------------------------------------------------------------------------------------- sympy's derivative


def symbolic(spec: Spec, fmt: Format, cases: int, seed: int) -> Iterator[Finding]:
    """Sympy's derivative and that of the definition's operations agree, and refnet's gradient with both."""
    for number in range(cases):
        example = _with_few_indices(spec, _example(spec, fmt, number, seed, SMALL), number, seed)
        x, dy, settings = example.inputs, example.dy, example.settings
        derived = symbolic_vjp(spec, x, dy, fmt, settings)
        traced = certify_vjp(spec.definition, x, spec.differentiable, dy, fmt, settings)
        if not all(_agree(a, b, fmt) for a, b in zip(derived, traced, strict=True)):
            reason = "the oracle disagrees with itself: sympy's derivative is not that of the operations"
            yield Finding("symbolic", number, Verdict.FAIL, f"{reason}, on {example.regime} inputs")
            continue
        bounds = vjp_bounds(OPS[spec.name], spec, dy, x, settings, fmt)
        yield _compared("symbolic", number, OPS[spec.name].vjp(dy, *x, **settings), derived, bounds, fmt)


def _example(spec: Spec, fmt: Format, number: int, seed: int, sizes: Mapping[str, int]) -> Example:
    regime, origin = REGIMES[number % len(REGIMES)], (seed, crc32(spec.name.encode()), fmt.precision, number)
    settings = settings_of(spec, _turned(number))
    return make_example(spec, fmt, shape_at(spec, sizes), regime, settings, origin)


def _turned(number: int) -> int:
    """The place of the settings of a case, which move on in each turn of the regimes."""
    turn, place = divmod(number, len(REGIMES))
    return place + turn * SETTINGS_A_TURN


def _with_few_indices(spec: Spec, example: Example, number: int, seed: int) -> Example:
    """With masks and integers of which there are few: sympy derives anew for each, and for all settings."""
    combinations = len(spec.all_settings)
    which = _turned(number) % (combinations * -(-INDICES // combinations))
    drawn = make_example(spec, FLOAT64, shape_at(spec, SMALL), "normal", example.settings, (seed, which))
    return example.with_inputs(
        *(
            own if item.domain.is_floating else few
            for item, own, few in zip(spec.inputs, example.inputs, drawn.inputs, strict=True)
        )
    )


def _agree(a: Truth, b: Truth, fmt: Format) -> bool:
    """The same real numbers, to 2^-20 ulp; one that lies between two neighbours may be given to either."""
    return bool((np.abs(error_in_ulp(a.nearest, b, fmt) - np.abs(a.fraction)) < 2.0**-20).all())


def _compared(
    aspect: str,
    case: int,
    results: Sequence[Any],
    truths: Sequence[Truth],
    bounds: Sequence[ErrorBound],
    fmt: Format,
) -> Finding:
    judgements = [
        judge(np.asarray(got), truth, bound, fmt)
        for got, truth, bound in zip(results, truths, bounds, strict=True)
    ]
    worst = max(judgements, key=lambda j: (j.verdict is not Verdict.PASS, j.ratio))
    reason = "" if worst.verdict is Verdict.PASS else f"{worst.concerned} of {worst.elements} elements"
    return Finding(aspect, case, worst.verdict, reason, Measure(worst.ratio, worst.ulp))


# ------------------------------------------------------------------------------------- numerical derivatives


def numerical(spec: Spec, fmt: Format, cases: int, seed: int) -> Iterator[Finding]:
    """Derivatives of refnet's forward, taken without any formula, on inputs away from kinks and edges."""
    op = OPS[spec.name]
    for number in (n for n in range(cases) if REGIMES[n % len(REGIMES)] == "normal"):
        example = _example(spec, fmt, number, seed, LARGER)
        inputs, settings = example.inputs, example.settings
        moving = [inputs[position] for position in spec.differentiable]

        def whole(x: tuple[Any, ...], inputs: tuple[Any, ...] = inputs) -> list[Any]:
            """All arguments: targets and labels have no gradient, and stay what they are."""
            moved = dict(zip(spec.differentiable, x, strict=True))
            return [moved.get(position, item) for position, item in enumerate(inputs)]

        report = gradcheck(
            lambda *x, whole=whole, settings=settings: op(*whole(x), **settings),
            lambda dy, *x, whole=whole, settings=settings: op.vjp(dy, *whole(x), **settings),
            moving,
            seed=seed,
        )
        measure = Measure(report.ratio, report.resolution) if report.elements else None
        yield Finding("numerical", number, Verdict(report.verdict), _unless_passed(report), measure)


def _unless_passed(report: GradcheckReport) -> str:
    return "" if report.verdict == "pass" else f"{report.reason} {'; '.join(report.diagnosis)}".strip()


# --------------------------------------------------------------------------------------- two formats, bounds


def two_formats(spec: Spec, fmt: Format, cases: int, seed: int) -> Iterator[Finding]:
    """Refnet in the format and in float64 on the same inputs: off by no more than both rounding bounds."""
    op = OPS[spec.name]
    for number in range(cases):
        example = draw(spec, fmt, number, seed)
        x, dy, settings = example.inputs, example.dy, example.settings
        wide = tuple(a if a.dtype.kind in "iub" else a.astype(np.float64) for a in x)
        wide_dy = example.with_cotangents(lambda d: d.astype(np.float64)).dy
        results = (*in_order(op(*x, **settings)), *op.vjp(dy, *x, **settings))
        references = (*in_order(op(*wide, **settings)), *op.vjp(wide_dy, *wide, **settings))
        bounds = (_bounds(spec, x, dy, settings, fmt), _bounds(spec, wide, wide_dy, settings, FLOAT64))
        both = [
            ErrorBound(a.deterministic + b.deterministic, a.statistical + b.statistical)
            for a, b in zip(*bounds, strict=True)
        ]
        truths = [Truth.rounding(np.asarray(y), fmt) for y in references]
        told = [_where_bounded(*each) for each in zip(results, truths, both, strict=True)]
        yield _compared("bounds", number, told, truths, both, fmt)


def _where_bounded(result: Any, truth: Truth, bound: ErrorBound) -> Any:
    """A result where its bound is finite: elsewhere this witness says nothing, and certified values do."""
    known = np.isfinite(np.broadcast_to(bound.deterministic, truth.nearest.shape))
    return np.where(known, result, truth.nearest)


def _bounds(
    spec: Spec, x: Sequence[Any], dy: Any, settings: Mapping[str, Any], fmt: Format
) -> tuple[ErrorBound, ...]:
    """The bounds of the value and of each gradient."""
    op = OPS[spec.name]
    gradients = vjp_bounds(op, spec, dy, x, settings, fmt)
    return *value_bounds(op, spec, x, settings, fmt), *gradients


WITNESSES: Mapping[Callable[[Spec, Format, int, int], Iterator[Finding]], tuple[Format, ...]] = (
    MappingProxyType(
        {
            symbolic: (FLOAT64,),
            numerical: (FLOAT64,),
            two_formats: (FLOAT32, FLOAT16, BFLOAT16),
        }
    )
)
"""Each examines one operator in one format, given the number of cases and the seed."""
