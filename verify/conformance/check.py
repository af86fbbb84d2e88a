"""A check of a candidate: every operator that it has, in every dtype, under every aspect."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from refnet import OPS
from specs import SPECS, Kink, Spec, Variant
from verify.arithmetic.bounds import ErrorBound, value_bound, vjp_bounds
from verify.arithmetic.certified import certify, certify_vjp
from verify.arithmetic.formats import FORMATS, Format, Truth
from verify.conformance.candidate import Candidate, UsageError, accepted_settings, load
from verify.conformance.contract import Call, ContractViolation, Values, call
from verify.conformance.judge import judge
from verify.conformance.network import NETWORK_FUNCTIONS, network_case
from verify.conformance.plan import LEVELS, make_case
from verify.conformance.tally import Tally
from verify.laws.examples import Example, output_shape
from verify.laws.law import LawViolation, NotApplicable, Subject
from verify.laws.laws import laws_of
from verify.mistakes.diagnosis import Evidence, diagnose
from verify.reports.record import Outcome, Report, Verdict

DTYPES = ("float64", "float32")
"""The dtypes of a check that names none."""

LAW_CASES = 2
"""One case in this many is put to the laws, which cost more than a judgement."""

SEEN_BY_THE_CALL = ("pure", "residuals-are-kept")
"""Laws that the contract of a call covers, or that only the reference can show."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run: `case` replays a single one."""

    target: str
    level: str
    seed: int
    case: int | None

    def numbers(self) -> Sequence[int]:
        return range(LEVELS[self.level]) if self.case is None else [self.case]

    def replay(self, op: str, dtype: str) -> str:
        return f"refnet check {self.target} --op {op} --dtype {dtype} --seed {self.seed}"


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
        UsageError: an operator, dtype, level or target that does not exist.
        TargetError: the target cannot be imported, or has no function of the contract.
    """
    chosen_ops = _known("operator", ops, (*SPECS, *NETWORK_FUNCTIONS))
    chosen_dtypes = _known("dtype", dtypes, tuple(FORMATS), DTYPES)
    _known("level", [level], tuple(LEVELS))
    candidate = load(target)
    plan = Plan(candidate.name, level, seed, case)
    outcomes: list[Outcome] = []
    for op in chosen_ops:
        progress(op)
        for dtype in chosen_dtypes:
            outcomes += _check_op(candidate, op, FORMATS[dtype], plan)
    return Report(
        candidate.name, candidate.version, seed, level, environment(), tuple(outcomes), candidate.notes
    )


def _known(
    kind: str, names: Iterable[str] | None, known: Sequence[str], default: Sequence[str] | None = None
) -> Sequence[str]:
    chosen = list(names) if names else list(default or known)
    for name in chosen:
        if name not in known:
            raise UsageError(f"{name}: no such {kind}. There are: {', '.join(known)}.")
    return chosen


def environment() -> dict[str, str]:
    """The versions that the figures of a report depend on."""
    versions = {"python": platform.python_version(), "platform": platform.platform(), "numpy": np.__version__}
    for package in ("python-flint", "sympy", "hypothesis"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "unknown"
    return versions


def _check_op(candidate: Candidate, op: str, fmt: Format, plan: Plan) -> Iterator[Outcome]:
    aspect = NETWORK_FUNCTIONS[op].aspect if op in NETWORK_FUNCTIONS else "value"
    if op not in candidate.functions:
        return iter([Outcome(op, aspect, fmt.name, Verdict.NOT_RUN, 0, reason="the candidate does not have it")])
    if op in NETWORK_FUNCTIONS:
        return _check_network(candidate.functions[op], op, fmt, plan)
    return _OpCheck(candidate, SPECS[op], fmt, plan).outcomes()


# -------------------------------------------------------------------------------------- single operators


class _OpCheck:
    """One operator of a candidate in one dtype."""

    def __init__(self, candidate: Candidate, spec: Spec, fmt: Format, plan: Plan) -> None:
        self.spec, self.fmt, self.plan = spec, fmt, plan
        self.value = candidate.functions[spec.name]
        self.vjp = candidate.functions.get(f"{spec.name}_vjp")
        self.accepted = accepted_settings(self.value)
        self.tallies: dict[str, Tally] = {}
        self.evidence: list[Evidence] = []
        examples = [(number, make_case(spec, fmt, number, plan.seed)) for number in plan.numbers()]
        self.examples = [(number, e) for number, e in examples if self._accepts(e.settings)]
        self.skipped = len(examples) - len(self.examples)

    def outcomes(self) -> Iterator[Outcome]:
        self._judge_values(None)
        value = self.tallies["value"]
        if value.verdict in (Verdict.FAIL, Verdict.SUSPECT) and self.plan.case is None:
            self._try_variants()
        if self.plan.case is None:
            self._judge_special_values()
        if self.vjp is not None:
            self._judge_gradients()
        if not self.tallies["value"].variant:
            self._put_to_the_laws()
        for tally in self.tallies.values():
            found = [e for e in self.evidence if e.aspect == tally.aspect]
            failed = tally.verdict is Verdict.FAIL
            yield tally.outcome(len(self.examples), diagnose(self.spec.name, found) if failed else ())
        if self.vjp is None:
            yield Outcome(
                self.spec.name,
                "vjp",
                self.fmt.name,
                Verdict.NOT_RUN,
                0,
                reason=f"the candidate has no {self.spec.name}_vjp",
            )
        if self.skipped:
            lacking = sorted({s.name for s in self.spec.settings} - (self.accepted or set()))
            yield Outcome(
                self.spec.name,
                "settings",
                self.fmt.name,
                Verdict.NOT_RUN,
                self.skipped,
                reason=f"the candidate takes no {', '.join(lacking)}: only the default was checked",
            )

    # calls ------------------------------------------------------------------------------------------

    def _accepts(self, settings: Mapping[str, Any]) -> bool:
        defaults = self.spec.defaults
        return self.accepted is None or all(
            name in self.accepted or value == defaults[name] for name, value in settings.items()
        )

    def _passed(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The settings that are passed: those that the candidate takes."""
        return {k: v for k, v in settings.items() if self.accepted is None or k in self.accepted}

    def _tally(self, aspect: str) -> Tally:
        if aspect not in self.tallies:
            replay = self.plan.replay(self.spec.name, self.fmt.name)
            self.tallies[aspect] = Tally(self.spec.name, aspect, self.fmt.name, replay)
        return self.tallies[aspect]

    def _manners(self, number: int, done: Call) -> None:
        for aspect, trouble in (("contract:pure", done.impurity), ("contract:repeatable", done.repeated)):
            tally = self._tally(aspect)
            if trouble:
                tally.violation(number, trouble)
            else:
                tally.passed(number)

    def _inputs(self, example: Example) -> dict[str, Any]:
        return {item.name: x for item, x in zip(self.spec.inputs, example.inputs, strict=True)}

    # values -----------------------------------------------------------------------------------------

    def _judge_values(self, variant: Variant | None) -> None:
        tally = self._tally("value")
        for number, example in self.examples:
            shape = output_shape(self.spec, example.inputs, example.settings)
            settings = self._passed(example.settings)
            try:
                done = call(self.value, example.inputs, settings, [shape], self.fmt.dtype)
            except ContractViolation as violation:
                tally.violation(number, str(violation))
                continue
            self._manners(number, done)
            truth, bound = self._expected_value(example, variant)
            judgement = judge(done.results[0], truth, bound, self.fmt)
            tally.add(
                number, judgement, "y", done.results[0], truth, self._inputs(example), example.settings
            )
            if judgement.verdict is Verdict.FAIL:
                self.evidence.append(Evidence("value", example, (done.results[0],), (truth,), (bound,)))

    def _expected_value(self, example: Example, variant: Variant | None) -> tuple[Truth, ErrorBound]:
        inputs, definition, divisor = example.inputs, self.spec.definition, 1
        if variant is not None:
            divisor = variant.divisor
            inputs = variant.prepare(*inputs) if variant.prepare else inputs

        def convention(*args: Any, **kwargs: Any) -> Any:
            return definition(*args, **kwargs) / divisor

        settings = dict(example.settings)
        truth = certify(definition if divisor == 1 else convention, inputs, self.fmt, settings)
        bound = value_bound(
            OPS[self.spec.name], self.spec, inputs, settings, self.fmt, flush_to_zero=grants_flush(self.fmt)
        )
        return truth, ErrorBound(bound.deterministic / divisor, bound.statistical / divisor)

    def _try_variants(self) -> None:
        """A candidate that follows a named variant in every case passes, and the variant is named."""
        reference = dict(self.tallies)
        for variant in self.spec.variants:
            self.tallies = {k: v for k, v in reference.items() if not k.startswith(("value", "contract:"))}
            kept, self.evidence = self.evidence, []
            self._judge_values(variant)
            if self.tallies["value"].verdict is Verdict.PASS:
                self.tallies["value"].variant = variant.name
                self.tallies["value"].reason = f"{variant.summary} ({variant.used_by})"
                return
            self.evidence = kept
        self.tallies = reference

    def _judge_special_values(self) -> None:
        tally = self._tally("contract:special-values")
        variant = next((v for v in self.spec.variants if v.name == self.tallies["value"].variant), None)
        for case in self.spec.cases:
            settings = {**self.spec.defaults, **(case.settings or {})}
            inputs = special_inputs(self.spec, case.inputs, self.fmt)
            unclear = variant is not None and not all(np.isfinite(x).all() for x in inputs)
            if unclear or not self._accepts(settings) or not all(x.size for x in inputs):
                continue
            example = Example(inputs, settings, np.zeros(()), "special")
            shape = output_shape(self.spec, inputs, settings)
            try:
                done = call(self.value, inputs, self._passed(settings), [shape], self.fmt.dtype)
            except ContractViolation as violation:
                tally.violation(0, f"{case.why}: {violation}")
                continue
            expected = np.broadcast_to(np.asarray(case.expected, np.float64), shape).astype(self.fmt.dtype)
            truth = Truth(expected, np.zeros(shape))
            _, bound = self._bound_at(example)
            if variant is not None:
                truth, bound = self._expected_value(example, variant)
            judgement = judge(done.results[0], truth, bound, self.fmt)
            if judgement.verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE):
                got, due = done.results[0][judgement.index], truth.nearest[judgement.index]
                tally.violation(
                    0, f"{case.why}: {case.inputs} gives {float(got)!r} where {float(due)!r} is due"
                )
            else:
                tally.passed(0)

    def _bound_at(self, example: Example) -> tuple[None, ErrorBound]:
        return None, value_bound(
            OPS[self.spec.name],
            self.spec,
            example.inputs,
            example.settings,
            self.fmt,
            flush_to_zero=grants_flush(self.fmt),
        )

    # gradients --------------------------------------------------------------------------------------

    def _judge_gradients(self) -> None:
        assert self.vjp is not None
        tally = self._tally("vjp")
        names = [f"d{self.spec.inputs[k].name}" for k in self.spec.differentiable]
        for number, example in self.examples:
            shapes = [example.inputs[k].shape for k in self.spec.differentiable]
            settings = self._passed(example.settings)
            arguments = (example.dy, *example.inputs)
            try:
                done = call(self.vjp, arguments, settings, shapes, self.fmt.dtype)
            except ContractViolation as violation:
                tally.violation(number, str(violation))
                continue
            self._manners(number, done)
            truths = certify_vjp(
                self.spec.definition,
                example.inputs,
                self.spec.differentiable,
                example.dy,
                self.fmt,
                dict(example.settings),
            )
            bounds = vjp_bounds(
                OPS[self.spec.name],
                self.spec,
                example.dy,
                example.inputs,
                example.settings,
                self.fmt,
                flush_to_zero=grants_flush(self.fmt),
            )
            failed = False
            for name, got, truth, bound in zip(names, done.results, truths, bounds, strict=True):
                allowed, convention = at_kinks(self.spec.kinks, example, got, truth)
                judgement = judge(got, allowed, bound, self.fmt)
                tally.add(number, judgement, name, got, allowed, self._inputs(example), example.settings)
                if convention and judgement.verdict is Verdict.PASS:
                    tally.variant, tally.reason = convention, "a subgradient other than the reference's"
                failed |= judgement.verdict is Verdict.FAIL
            if failed:
                self.evidence.append(Evidence("vjp", example, done.results, truths, bounds))

    # laws -------------------------------------------------------------------------------------------

    def _put_to_the_laws(self) -> None:
        subject = Subject(self.spec, self._guarded(self.value), self._guarded(self.vjp))
        for law in laws_of(self.spec):
            if law.name in SEEN_BY_THE_CALL or (law.gradient and self.vjp is None):
                continue
            for number, example in self.examples[::LAW_CASES]:
                try:
                    law.check(subject, example, self.fmt)
                except NotApplicable:
                    continue
                except LawViolation as violation:
                    self._tally(f"law:{law.name}").violation(number, f"{law.statement}: {violation}")
                except Exception as error:  # whatever a foreign function does is its own failure
                    self._tally(f"law:{law.name}").violation(number, f"{type(error).__name__}: {error}")
                else:
                    self._tally(f"law:{law.name}").passed(number)

    def _guarded(self, function: Any) -> Any:
        """The candidate's function for a law: the contract's manners, and settings that it lacks set aside."""
        if function is None:
            return None

        def run(*arguments: Any, **settings: Any) -> Any:
            if not self._accepts(settings):
                raise NotApplicable("a setting that the candidate lacks")
            with np.errstate(all="ignore"):
                result = function(*(a.copy() for a in arguments), **self._passed(settings))
            return result if function is self.value or isinstance(result, tuple) else (result,)

        return run


def grants_flush(fmt: Format) -> bool:
    """Subnormal results may be flushed to zero, except in float16, which lives on them."""
    return fmt.name != "float16"


def special_inputs(spec: Spec, inputs: Sequence[Any], fmt: Format) -> tuple[Values, ...]:
    """The inputs of a known answer as arrays: labels as integers, everything else in the format."""
    return tuple(
        np.asarray(x, dtype=np.int64 if item.domain.name == "LABEL" and _whole(x) else fmt.dtype)
        for item, x in zip(spec.inputs, inputs, strict=True)
    )


def _whole(x: Any) -> bool:
    return bool(np.asarray(x).dtype.kind in "iu")


def at_kinks(
    kinks: Sequence[Kink], example: Example, got: Values, truth: Truth
) -> tuple[Truth, str]:
    """The truth, with the candidate's own subgradient where it takes an allowed one at a kink."""
    nearest, name = truth.nearest, ""
    for kink in kinks:
        on_it = np.asarray(kink.distance(*example.inputs) == 0)
        for slope in kink.allowed:
            theirs = on_it & (got == (slope * example.dy.astype(np.float64)).astype(got.dtype))
            other = theirs & (got != nearest)
            if slope != kink.convention and other.any():
                nearest = np.where(other, got, nearest)
                name = f"derivative-{slope:g}-at-{kink.where.replace(' ', '')}"
    return Truth(nearest, truth.fraction), name


# ------------------------------------------------------------------------------------- the whole network


def _check_network(
    function: Callable[..., Any], op: str, fmt: Format, plan: Plan
) -> Iterator[Outcome]:
    network, replay = NETWORK_FUNCTIONS[op], plan.replay(op, fmt.name)
    tally = Tally(op, network.aspect, fmt.name, replay)
    pure = Tally(op, "contract:pure", fmt.name, replay)
    repeatable = Tally(op, "contract:repeatable", fmt.name, replay)
    for number in plan.numbers():
        case = network_case(op, fmt, number, plan.seed)
        try:
            done = call(function, case.arguments, case.settings, case.shapes, fmt.dtype)
        except ContractViolation as violation:
            tally.violation(number, str(violation))
            continue
        for manners, trouble in ((pure, done.impurity), (repeatable, done.repeated)):
            if trouble:
                manners.violation(number, trouble)
            else:
                manners.passed(number)
        expected = network.expect(case, fmt)
        for name, got, (truth, bound) in zip(case.outputs, done.results, expected, strict=True):
            tally.add(number, judge(got, truth, bound, fmt), name, got, truth, case.inputs(), case.settings)
    for each in (tally, pure, repeatable):
        if each.verdicts:
            yield each.outcome(len(plan.numbers()))
