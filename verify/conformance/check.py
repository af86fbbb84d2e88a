"""A check of a candidate: every operator that it has, in every dtype, under every aspect."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

import numpy as np

from specs import SPECS
from verify.arithmetic.contracts import REFERENCE, Contract, promised
from verify.arithmetic.formats import FORMATS
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
    contract: Sequence[str] = (),
    progress: Callable[[str], None] = lambda op: None,
) -> Report:
    """Judge a candidate: a module path, a dotted name, the name of an adapter, or any object.

    `ops` and `dtypes` restrict the check, `case` replays one case; `progress` is told of each operator.
    `contract` says what the candidate promises other than the default of each dtype, as the command line
    takes it: ["inside=float16", "subnormals=kept"], see `verify.arithmetic.contracts`.

    Raises:
        UsageError: an operator, dtype, level, case, promise or target that does not exist.
        TargetError: the target cannot be imported, or has no function of the contract.
    """
    selection = select(ops, dtypes, level, seed, case, contract)
    return judge_candidate(load(target), selection, progress)


class Selection(NamedTuple):
    """What is to be checked."""

    ops: Sequence[str]
    contracts: Sequence[Contract]
    plan: Plan
    promises: tuple[str, ...] = ()
    """What of the contracts is not the default, as it was given."""


def select(
    ops: Iterable[str] | None,
    dtypes: Iterable[str] | None,
    level: str,
    seed: int,
    case: int | None,
    contract: Sequence[str] = (),
) -> Selection:
    """What these arguments of a check select.

    Raises:
        UsageError: there is no such thing.
    """
    _known("level", [level], tuple(LEVELS))
    if seed < 0 or (case is not None and case < 0):
        raise UsageError(f"seed {seed}, case {case}: seeds and cases are counted from 0.")
    formats = [FORMATS[dtype] for dtype in _known("dtype", dtypes, tuple(FORMATS), DTYPES)]
    chosen = _known("operator", ops, (*SPECS, *NETWORK_FUNCTIONS))
    try:
        contracts = [promised(contract, fmt) for fmt in formats]
    except ValueError as error:
        raise UsageError(str(error)) from None
    variant = contracts[0].variant
    specs = [SPECS[op] for op in chosen if op in SPECS]
    variants = {REFERENCE, *(each.name for spec in specs for each in spec.variants)}
    if variant and variant not in variants:
        raise UsageError(
            f"{variant}: none of the operators has such a variant. {suggestion(variant, sorted(variants))}"
        )
    return Selection(chosen, contracts, Plan(level, seed, case), tuple(contract))


def _known(
    kind: str, names: Iterable[str] | None, known: Sequence[str], default: Sequence[str] | None = None
) -> Sequence[str]:
    """The names, all of them known; one alone need not be in a list."""
    if names is None:
        return default or known
    chosen = [names] if isinstance(names, str) else list(names)
    if not chosen:
        raise UsageError(f"the list of {kind}s is empty. Name one, as {known[0]!r}, or leave the list out.")
    for name in chosen:
        if not isinstance(name, str):
            raise UsageError(f"{name!r}: each {kind} is given by its name, as {known[0]!r}.")
        if name not in known:
            raise UsageError(f"{name or 'an empty name'}: no such {kind}. {suggestion(name, known)}")
    return chosen


def judge_candidate(
    candidate: Candidate, selection: Selection, progress: Callable[[str], None] = lambda op: None
) -> Report:
    """Judge a candidate that has been found."""
    ops, contracts, plan, promises = selection
    found: list[Outcome] = []
    for op in ops:
        progress(op)
        for contract in contracts:
            found += _check(candidate, op, contract, plan, promises)
    environs = {**environment(), **candidate.packages}
    return Report(
        candidate.name,
        candidate.version,
        plan.seed,
        plan.level,
        environs,
        tuple(found),
        candidate.notes,
        contract=promises,
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
    functions: Mapping[str, Callable[..., Any]], op: str, contract: Contract, plan: Plan
) -> Sequence[Finding]:
    if op in SPECS:
        return list(judge_operator(functions, op, contract, plan))
    found = list(judge_network(functions, op, contract, plan))
    if op in functions and not any(finding.aspect == "contract:pure" for finding in found):
        return [*found, Finding("law:all", 0, Verdict.NOT_RUN, NOTHING_FOR_LAWS)] if found else []
    return [*found, *put_to_network_laws(functions, op, contract, plan)]


def _check(
    candidate: Candidate, op: str, contract: Contract, plan: Plan, promises: tuple[str, ...]
) -> Iterator[Outcome]:
    findings, fmt = _judged(candidate.functions, op, contract, plan), contract.output
    wanted = [f for f in findings if plan.wants(f.case) or f.verdict is Verdict.NOT_RUN]
    if not wanted:
        wanted = [Finding("value", 0, Verdict.NOT_RUN, f"there is nothing to check in case {plan.case}")]
    place = partial(Place, op, fmt.name, plan.level, plan.seed, contract=promises)
    return outcomes(
        op, fmt.name, wanted, lambda finding: candidate.replay(place(case=finding.case, swept=finding.swept))
    )
