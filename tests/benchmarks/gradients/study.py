"""What the checkers of gradients find and miss: `python -m tests.benchmarks.gradients.study`.

Wrong vjps of every size and kind (see `mutants`) and right ones go to each checker, at the same points. All
is drawn from the seeds: equal arguments give equal tables. The default ends in a few minutes; for the record:
--operator all --dtype float64 float32 --seeds 20 --cases 100 takes hours, with --large days (torch fast too:
what fails, it checks again the slow way).
"""

from __future__ import annotations

import argparse
import math
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

from tests.benchmarks.gradients.mutants import Mutant, mutants
from tests.benchmarks.gradients.operators import OPERATORS, Inputs, Operator
from tests.benchmarks.gradients.peers import REFNET, Checker, checkers, missing
from tests.gradient_examples import Array, Vjp
from verify import gradcheck
from verify.gradients.arrays import as_tuple
from verify.gradients.report import GradcheckReport, Subject, Verdict

SCALES = (1e-3, 1.0, 1e3)
"""Of the inputs of right vjps; mutants are made at 1."""

QUICK = (
    *("softmax", "log_sum_exp", "gelu", "layer_norm", "embedding"),
    "maximum with ties",
    "small ReLU MLP",
)
"""The operators of the default."""

SIZED = ("one element", "slice", "everywhere")
"""The kinds of mutants that have a relative error."""


class Trial(NamedTuple):
    """What one checker says of one mutant, and of the right vjp at the same point.

    `error` is the largest of the mutant, relative to the largest gradient of its input for that cotangent,
    where there is a derivative: a wrong rule for ties has an error of 0, as no resolution speaks of it;
    `resolution` is what the report states, `stated` what it states for the right vjp. All NaN for the peers.
    """

    checker: str
    operator: str
    dtype: str
    seed: int
    mutant: Mutant
    right: Verdict
    verdict: Verdict
    error: float = math.nan
    resolution: float = math.nan
    stated: float = math.nan

    @property
    def killed(self) -> bool:
        """A checker that says the same of the right vjp has seen nothing."""
        return self.verdict == "fail" and self.right == "pass"

    @property
    def missed(self) -> bool:
        return self.verdict == "pass" and self.error > self.resolution


class Case(NamedTuple):
    """What one checker says of a right vjp."""

    checker: str
    operator: str
    dtype: str
    scale: float
    number: int
    verdict: Verdict
    reason: str
    resolution: float


class Recorder:
    """A vjp that remembers the cotangents it got at one point, in its own dtype, and what it answered."""

    def __init__(self, vjp: Vjp, inputs: Inputs) -> None:
        self.vjp, self.inputs = vjp, inputs
        self.calls: list[tuple[Array, tuple[Array, ...]]] = []

    def __call__(self, dy: Array, *inputs: Array) -> Any:
        gradients = self.vjp(dy, *inputs)
        pairs = zip(inputs, self.inputs, strict=True)
        if all(x.dtype == own.dtype and np.array_equal(x, own) for x, own in pairs):
            self.calls.append((np.array(dy), tuple(np.array(g) for g in as_tuple(gradients))))
        return gradients

    def error(self, operator: Operator) -> float:
        """The largest error of an element, relative to the largest gradient of its input and cotangent.

        Sums of two cotangents are left out: a checker may ask for them to see whether the vjp is linear,
        and what cancels in them makes errors large that it has compared with nothing.
        """
        worst = 0.0
        for position, (dy, gradients) in enumerate(self.calls):
            earlier = [v for v, _ in self.calls[:position] if v.any()]
            if any(np.array_equal(dy, v + w) for v in earlier for w in earlier):
                continue
            right = as_tuple(operator.vjp(dy, *self.inputs))
            for got, want, smooth in zip(gradients, right, operator.smooth(self.inputs), strict=True):
                largest = float(abs(want).max(initial=0.0))
                difference = abs(np.asarray(got, np.float64) - want).max(initial=0.0, where=smooth)
                worst = max(worst, float(difference) / largest if largest else 0.0)
        return worst


def generator(operator: Operator, *numbers: int) -> np.random.Generator:
    """By the name, so that a replay of one operator draws what the study of all drew."""
    return np.random.default_rng((zlib.crc32(operator.name.encode()), *numbers))


def trials_of(operator: Operator, dtype: str, seed: int, contenders: Sequence[Checker]) -> Iterator[Trial]:
    rng = generator(operator, seed)
    inputs = operator.inputs(rng, 1.0, dtype)
    wrong = mutants(operator, inputs, rng)
    for name, check in contenders:
        if name == REFNET.name:
            yield from _own_trials(operator, dtype, seed, inputs, wrong)
            continue
        right = check(operator.f, operator.vjp, inputs, seed)
        for mutant in wrong:
            verdict = check(operator.f, mutant.build(), inputs, seed)
            yield Trial(name, operator.name, dtype, seed, mutant, right, verdict)


def _own_trials(
    operator: Operator, dtype: str, seed: int, inputs: Inputs, wrong: Sequence[Mutant]
) -> Iterator[Trial]:
    right = gradcheck(operator.f, operator.vjp, inputs, seed=seed)
    for mutant in wrong:
        vjp = Recorder(mutant.build(), inputs)
        report = gradcheck(operator.f, vjp, inputs, seed=seed)
        yield Trial(
            REFNET.name,
            operator.name,
            dtype,
            seed,
            mutant,
            right.verdict,
            report.verdict,
            vjp.error(operator),
            report.resolution,
            right.resolution,
        )


def cases_of(
    operator: Operator, dtype: str, scale: float, number: int, contenders: Sequence[Checker]
) -> Iterator[Case]:
    inputs = operator.inputs(generator(operator, number, SCALES.index(scale)), scale, dtype)
    for name, check in contenders:
        if name == REFNET.name:
            report = gradcheck(operator.f, operator.vjp, inputs, seed=number)
        else:
            verdict = check(operator.f, operator.vjp, inputs, number)
            report = GradcheckReport(verdict, "", Subject(operator.name, name, number))
        yield Case(
            name, operator.name, dtype, scale, number, report.verdict, report.reason, report.resolution
        )


def group(mutant: Mutant) -> str:
    """The row of a mutant: three decades of relative errors are one."""
    if mutant.relative_error is None:
        return mutant.kind
    last = 3 * math.ceil(-math.log10(mutant.relative_error) / 3)
    return f"{mutant.kind}, 1e-{last - 2} to 1e-{last}"


def _table(title: str, first: Sequence[str], others: Sequence[str]) -> Table:
    table = Table(title=title, box=box.MARKDOWN, title_justify="left")
    for heading in first:
        table.add_column(heading)
    for heading in others:
        table.add_column(heading, justify="right")
    return table


def kills(trials: Sequence[Trial], names: Sequence[str]) -> Table:
    table = _table(
        "Mutants killed (failed, while the right vjp passes at the same point) / all",
        ("dtype", "mutant"),
        names,
    )
    rows = dict.fromkeys((t.dtype, group(t.mutant)) for t in trials)
    for dtype, kind in sorted(rows, key=lambda row: (row[0] != "float64", row[1].split(",")[0] not in SIZED)):
        cells = []
        for name in names:
            own = [t for t in trials if (t.dtype, group(t.mutant), t.checker) == (dtype, kind, name)]
            cells.append(f"{sum(t.killed for t in own)}/{len(own)}")
        table.add_row(dtype, kind, *cells)
    return table


def measured(trials: Sequence[Trial]) -> str:
    """The smallest error from which on all were found."""
    found = math.nan
    for trial in sorted(trials, key=lambda t: t.error, reverse=True):
        if trial.verdict != "fail":
            break
        found = trial.error
    return "-" if math.isnan(found) else f"{found:.0e}"


def resolutions(trials: Sequence[Trial]) -> Table:
    table = _table(
        "refnet: the error from which on all were found, relative to the largest gradient of the input",
        ("operator", "dtype"),
        (*SIZED, "stated for the right vjp", "mutants", "missed above the stated"),
    )
    own = [t for t in trials if t.checker == REFNET.name]
    for operator, dtype in dict.fromkeys((t.operator, t.dtype) for t in own):
        rows = [t for t in own if (t.operator, t.dtype) == (operator, dtype)]
        table.add_row(
            operator,
            dtype,
            *(measured([t for t in rows if t.mutant.kind == kind]) for kind in SIZED),
            f"{max(t.stated for t in rows):.0e}",
            str(len(rows)),
            str(sum(t.missed for t in rows)),
        )
    return table


def alarms(cases: Sequence[Case], names: Sequence[str]) -> Table:
    table = _table("Right vjps: false alarms + inconclusive / all", ("dtype", "operators", "scale"), names)

    def network(case: Case) -> str:
        return "ReLU networks" if "ReLU" in case.operator else "others"

    for dtype, kind, scale in dict.fromkeys((c.dtype, network(c), c.scale) for c in cases):
        cells = []
        for name in names:
            own = [
                c for c in cases if (c.dtype, network(c), c.scale, c.checker) == (dtype, kind, scale, name)
            ]
            verdicts = Counter(c.verdict for c in own)
            cells.append(f"{verdicts['fail']} + {verdicts['inconclusive']} / {len(own)}")
        table.add_row(dtype, kind, f"{scale:g}", *cells)
    return table


def _replay(operator: str, dtype: str, number: int, seeds: int) -> str:
    return (
        f"python -m tests.benchmarks.gradients.study --operator '{operator}' --dtype {dtype} "
        f"--first {number} --seeds {seeds} --cases {1 - seeds}"
    )


def remarks(trials: Sequence[Trial], cases: Sequence[Case]) -> Iterator[str]:
    """refnet's misses and false alarms with the lines that replay them, and why it was inconclusive."""
    for t in (t for t in trials if t.checker == REFNET.name):
        if t.missed or (t.verdict == "pass" and t.error == 0):
            sizes = f"error {t.error:.1e}, resolution {t.resolution:.1e}"
            yield f"{t.verdict}: {t.mutant.name}, {sizes}: {_replay(t.operator, t.dtype, t.seed, 1)}"
    own = [c for c in cases if c.checker == REFNET.name]
    for c in own:
        if c.verdict == "fail":
            replay = _replay(c.operator, c.dtype, c.number, 0)
            yield f"false alarm at scale {c.scale:g}: {c.reason}: {replay}"
    undecided = [c for c in own if c.verdict == "inconclusive"]
    for operator, dtype, scale in dict.fromkeys((c.operator, c.dtype, c.scale) for c in undecided):
        rows = [c for c in undecided if (c.operator, c.dtype, c.scale) == (operator, dtype, scale)]
        reasons = Counter(map(_reason, rows))
        told = ", ".join(f"{count} x {reason}" for reason, count in reasons.items())
        yield f"inconclusive: {operator}, {dtype}, scale {scale:g}: {told}"


def _reason(case: Case) -> str:
    """Without its numbers."""
    for reason in ("vacuous", "noise", "kink", "domain edge", "lie outside their error bars"):
        if reason in case.reason.partition(";")[0]:
            return reason
    return "too low a resolution" if "could have passed" in case.reason else case.reason


def _run(title: str, jobs: Sequence[Callable[[], Iterator[Any]]]) -> list[Any]:
    terminal = Console(stderr=True)
    progress = track(jobs, title, transient=True, console=terminal, disable=not terminal.is_terminal)
    return [result for job in progress for result in job()]


def main() -> None:
    parser = argparse.ArgumentParser(description="What the checkers of gradients find and miss.")
    parser.add_argument("--seeds", type=int, default=1, help="points at which mutants are made (1)")
    parser.add_argument("--cases", type=int, default=3, help="right vjps of each operator and scale (3)")
    parser.add_argument("--first", type=int, default=0, help="of the seeds and of the cases (0)")
    parser.add_argument("--dtype", nargs="+", choices=("float64", "float32"), default=["float64"])
    names = [operator.name for operator in OPERATORS]
    parser.add_argument(
        "--operator", nargs="+", choices=(*names, "all"), default=QUICK, metavar="NAME", help=", ".join(names)
    )
    parser.add_argument(
        "--large", action="store_true", help="with 'all', those that take seconds or more too"
    )
    parser.add_argument("--checker", nargs="+", choices=[c.name for c in checkers()], metavar="NAME")
    arguments = parser.parse_args()
    console = Console(width=max(150, Console().width))
    if missing():
        console.print(missing(), style="bold", markup=False)
    contenders = [c for c in checkers() if c.name in (arguments.checker or [c.name])]
    chosen = [
        operator
        for operator in OPERATORS
        if operator.name in arguments.operator
        or ("all" in arguments.operator and (arguments.large or not operator.large))
    ]
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    numbers = range(arguments.first, arguments.first + arguments.cases)
    trials: list[Trial] = _run(
        "mutants",
        [
            partial(trials_of, operator, dtype, seed, contenders)
            for dtype in arguments.dtype
            for operator in chosen
            for seed in seeds
        ],
    )
    cases: list[Case] = _run(
        "right vjps",
        [
            partial(cases_of, operator, dtype, scale, number, contenders)
            for dtype in arguments.dtype
            for scale in SCALES
            for operator in chosen
            for number in numbers
        ],
    )
    shown = [c.name for c in contenders]
    libraries = [n for n in ("torch", "jax", "autograd", "scipy") if any(s.startswith(n) for s in shown)]
    console.print(", ".join(f"{name} {version(name)}" for name in ("refnet", "numpy", *libraries)))
    if trials:
        console.print(kills(trials, shown))
        if REFNET.name in shown:
            console.print(resolutions(trials))
    if cases:
        console.print(alarms(cases, shown))
    for remark in remarks(trials, cases):
        console.print(remark, soft_wrap=True, highlight=False, markup=False)


if __name__ == "__main__":
    main()
