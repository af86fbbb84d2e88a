"""A check of a candidate: every operator that it has, in every dtype, under every aspect."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

import numpy as np

from specs import SPECS
from verify.arithmetic.formats import FORMATS, Format
from verify.conformance.candidate import Candidate, Place, UsageError, load
from verify.conformance.findings import Finding, outcomes
from verify.conformance.network import NETWORK_FUNCTIONS, judge_network
from verify.conformance.network_laws import put_to_network_laws
from verify.conformance.operators import NOTHING_FOR_LAWS, judge_operator
from verify.conformance.plan import LEVELS, Plan
from verify.reports.record import Outcome, Report, Verdict
from verify.suggestions import suggestion

DTYPES = ("float64", "float32")
"""The dtypes of a check that names none."""


def check(
    target: object,
    *,
    ops: Iterable[str] | None = None,
    dtypes: Iterable[str] | None = None,
    level: str = "ci",
    seed: int = 0,
    case: int | None = None,
    progress: Callable[[str], None] = lambda op: None,
) -> Report:
    """Judge a candidate: a module path, a dotted name, the name of an adapter, or any object.

    `ops` and `dtypes` restrict the check, `case` replays one case; `progress` is told of each operator.

    Raises:
        UsageError: an operator, dtype, level, case or target that does not exist.
        TargetError: the target cannot be imported, or has no function of the contract.
    """
    selection = select(ops, dtypes, level, seed, case)
    return judge_candidate(load(target), selection, progress)


class Selection(NamedTuple):
    """What is to be checked."""

    ops: Sequence[str]
    formats: Sequence[Format]
    plan: Plan


def select(
    ops: Iterable[str] | None, dtypes: Iterable[str] | None, level: str, seed: int, case: int | None
) -> Selection:
    """What these arguments of a check select.

    Raises:
        UsageError: there is no such thing.
    """
    _known("level", [level], tuple(LEVELS))
    if seed < 0 or (case is not None and case < 0):
        raise UsageError(f"seed {seed}, case {case}: seeds and cases are counted from 0.")
    formats = [FORMATS[dtype] for dtype in _known("dtype", dtypes, tuple(FORMATS), DTYPES)]
    return Selection(_known("operator", ops, (*SPECS, *NETWORK_FUNCTIONS)), formats, Plan(level, seed, case))


def _known(
    kind: str, names: Iterable[str] | None, known: Sequence[str], default: Sequence[str] | None = None
) -> Sequence[str]:
    chosen = list(names or default or known)
    for name in chosen:
        if name not in known:
            raise UsageError(f"{name}: no such {kind}. {suggestion(name, known)}")
    return chosen


def judge_candidate(
    candidate: Candidate, selection: Selection, progress: Callable[[str], None] = lambda op: None
) -> Report:
    """Judge a candidate that has been found."""
    ops, formats, plan = selection
    found: list[Outcome] = []
    for op in ops:
        progress(op)
        for fmt in formats:
            found += _check(candidate, op, fmt, plan)
    environs = {**environment(), **candidate.packages}
    return Report(
        candidate.name, candidate.version, plan.seed, plan.level, environs, tuple(found), candidate.notes
    )


def environment() -> dict[str, str]:
    """The versions that the figures of every report depend on."""
    versions = {"python": platform.python_version(), "platform": platform.platform(), "numpy": np.__version__}
    for package in ("python-flint", "sympy", "hypothesis"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "unknown"
    return versions


def _judged(
    functions: Mapping[str, Callable[..., Any]], op: str, fmt: Format, plan: Plan
) -> Sequence[Finding]:
    if op in SPECS:
        return list(judge_operator(functions, op, fmt, plan))
    found = list(judge_network(functions, op, fmt, plan))
    if op in functions and not any(finding.aspect == "contract:pure" for finding in found):
        return [*found, Finding("law:all", 0, Verdict.NOT_RUN, NOTHING_FOR_LAWS)] if found else []
    return [*found, *put_to_network_laws(functions, op, fmt, plan)]


def _check(candidate: Candidate, op: str, fmt: Format, plan: Plan) -> Iterator[Outcome]:
    findings = _judged(candidate.functions, op, fmt, plan)
    wanted = [f for f in findings if plan.wants(f.case) or f.verdict is Verdict.NOT_RUN]
    if not wanted:
        wanted = [Finding("value", 0, Verdict.NOT_RUN, f"there is nothing to check in case {plan.case}")]
    place = partial(Place, op, fmt.name, plan.level, plan.seed)
    return outcomes(op, fmt.name, wanted, lambda case: candidate.replay(place(case)))
