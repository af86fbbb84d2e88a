"""How well the verdicts are calibrated: `python -m tests.benchmarks.calibration [--seeds N] [--markdown]`.

Four tables, in float32, over seeds that no test uses:

* for each operator and library, the largest error of values and gradients as a fraction of the bound;
* false alarms: how often refnet, `np.allclose`, `torch.testing.assert_close` and fixed numbers of ulp object
  to an array of good code. What `tests/deviations.py` explains is no good code, and is counted apart;
* which of them see the sloppy implementations of `tests/candidates/sloppy.py` in any array;
* sums of 16 to 16384 terms by good code: the largest error as a fraction of the statistical bound. It must be
  below 1, and is tight where it is above 0.01.

All judges see the same arrays, those of the drawn cases, and the certified value where they need one. What
is not installed is left out: pip install 'refnet[peers]'
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

from refnet import OPS
from specs import SPECS
from tests import deviations
from tests.candidates import orders
from tests.candidates.sloppy import SLOPPY, Sloppy
from verify.arithmetic.bounds import ErrorBound, value_bounds
from verify.arithmetic.certified import certify_each
from verify.arithmetic.contracts import DEFAULTS
from verify.arithmetic.formats import FLOAT32, FORMATS, Format, error_in_ulp
from verify.conformance import check
from verify.conformance.candidate import load
from verify.conformance.findings import SEVERITY
from verify.conformance.judge import judge
from verify.conformance.operators import Functions, Measured, measure_operator
from verify.conformance.plan import Plan
from verify.reports import Verdict

FIRST_SEED = 1000
"""Far from those of the tests, on which bounds and forms were settled."""

LIBRARIES: Mapping[str, tuple[str, str]] = {
    "torch": ("torch", "torch"),
    "jax": ("jax", "jax"),
    "onnxruntime": ("onnxruntime", "onnxruntime"),
    "scipy": ("scipy", "tests.candidates.by_scipy"),
    "numpy": ("numpy", "tests.candidates.plain"),
}
"""What has to be installed, and the candidate."""

WRONG = (Verdict.FAIL, Verdict.SUSPECT)

# ------------------------------------------------------------------------------------------------ the judges

Judge = Callable[[Measured, Format], bool]
"""Whether a judge objects to an array."""


def _by_refnet(measured: Measured, fmt: Format) -> bool:
    return measured.judgement.verdict in WRONG


def _by_allclose(measured: Measured, fmt: Format) -> bool:
    return not np.allclose(measured.got, measured.due.truth.nearest, equal_nan=True)


def _by_torch(measured: Measured, fmt: Format) -> bool:
    """With the tolerances that it has for the dtype."""
    import torch
    from torch.testing import assert_close

    due = torch.from_numpy(np.ascontiguousarray(measured.due.truth.nearest))
    got = torch.from_numpy(np.ascontiguousarray(measured.got))
    try:
        assert_close(got.reshape(due.shape), due, equal_nan=True)
    except AssertionError:
        return True
    return False


def _by_ulp(most: int, measured: Measured, fmt: Format) -> bool:
    with np.errstate(all="ignore"):
        return not bool((error_in_ulp(measured.got, measured.due.truth, fmt) <= most).all())


def judges() -> Mapping[str, Judge]:
    """Those that are installed, refnet first."""
    return {
        "refnet": _by_refnet,
        "allclose": _by_allclose,
        **({"assert_close": _by_torch} if find_spec("torch") else {}),
        **{f"{most} ulp": partial(_by_ulp, most) for most in (4, 8, 64)},
    }


# ---------------------------------------------------------------------------------- good code, array by array


class Alarm(NamedTuple):
    """An array of good code to which refnet objects."""

    library: str
    op: str
    seed: int
    measured: Measured

    def __str__(self) -> str:
        trial, judgement = self.measured.trial, self.measured.judgement
        index = judgement.index
        due, got = self.measured.due.truth.nearest[index], self.measured.got[index]
        return (
            f"{judgement.verdict.value} {self.library} {self.op} {trial.aspect}, seed {self.seed}, case "
            f"{trial.case}, {dict(trial.settings)}: {self.measured.output}{list(index)} is "
            f"{float(got).hex()} for {float(due).hex()}, {judgement.ratio:.3g} times the bound"
        )


@dataclass(frozen=True, slots=True)
class Score:
    """An aspect of an operator of a library, over all arrays."""

    library: str
    op: str
    aspect: str
    defect: str
    """What it is called in the table of deviations, if it is not right."""
    arrays: int
    undecided: int
    ratio: float
    """The largest error as a fraction of the bound, of arrays that are decided."""
    verdict: Verdict
    alarms: Mapping[str, int]
    """How many arrays each judge objects to."""


def scores(
    library: str, functions: Functions, op: str, seeds: Sequence[int], level: str
) -> tuple[list[Score], list[Alarm]]:
    """The aspects of an operator, and the alarms of refnet in those that are right."""
    by_aspect: dict[str, list[tuple[int, Measured]]] = {}
    for seed in seeds:
        for measured in measure_operator(functions, op, DEFAULTS["float32"], Plan(level, seed, None)):
            by_aspect.setdefault(measured.trial.aspect, []).append((seed, measured))
    found = [_score(library, op, aspect, [m for _, m in each]) for aspect, each in by_aspect.items()]
    alarms = [
        Alarm(library, op, seed, measured)
        for score in found
        for seed, measured in by_aspect[score.aspect]
        if not score.defect and _by_refnet(measured, FLOAT32)
    ]
    return found, alarms


def _score(library: str, op: str, aspect: str, measured: Sequence[Measured]) -> Score:
    known = deviations.of(library, op, FLOAT32.name, "ci")
    verdicts = [m.judgement.verdict for m in measured]
    decided = [m.judgement.ratio for m in measured if m.judgement.verdict is not Verdict.INCONCLUSIVE]
    return Score(
        library,
        op,
        aspect,
        ", ".join(row.name for row in known if row.concerns(aspect)),
        len(measured),
        verdicts.count(Verdict.INCONCLUSIVE),
        max(decided, default=0.0),
        max(verdicts, key=SEVERITY.index),
        {name: sum(objects(m, FLOAT32) for m in measured) for name, objects in judges().items()},
    )


# ------------------------------------------------------------------------------------------------ sloppy code


@dataclass(frozen=True, slots=True)
class Catch:
    """Who sees a sloppy implementation."""

    sloppy: Sloppy
    arrays: int
    ratio: float
    convention: str
    """The name under which refnet recognises it, if it is somebody's convention."""
    caught: Mapping[str, bool]
    """By each judge, in any array."""
    elsewhere: str
    """Where the whole check of refnet fails, if it does not in the arrays: known answers and laws."""

    @property
    def by_refnet(self) -> bool:
        return self.caught["refnet"] or bool(self.elsewhere)


def catch(sloppy: Sloppy, seeds: Sequence[int], level: str) -> Catch:
    """All judges on the same arrays."""
    measured = [
        (m, FORMATS[dtype])
        for dtype in sloppy.dtypes
        for seed in seeds
        for m in measure_operator(sloppy.functions, sloppy.op, DEFAULTS[dtype], Plan(level, seed, None))
    ]
    caught = {name: any(objects(m, fmt) for m, fmt in measured) for name, objects in judges().items()}
    return Catch(
        sloppy,
        len(measured),
        max((m.judgement.ratio for m, _ in measured), default=0.0),
        next((m.due.variant.partition(":")[0] for m, _ in measured if m.due.variant), ""),
        caught,
        "" if caught["refnet"] else _elsewhere(sloppy, seeds, level),
    )


def _elsewhere(sloppy: Sloppy, seeds: Sequence[int], level: str) -> str:
    candidate = SimpleNamespace(**sloppy.functions)
    failing = (
        outcome.aspect
        for seed in seeds
        for outcome in check(
            candidate, ops=[sloppy.op], dtypes=sloppy.dtypes, level=level, seed=seed
        ).outcomes
        if outcome.verdict in WRONG
    )
    return next(failing, "")


# ----------------------------------------------------------------------------------------------- long sums

TERMS = (16, 64, 256, 1024, 4096, 16384)
Draw = Callable[[np.random.Generator, tuple[int, ...]], Any]


def _fading(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    """Along the longest axis."""
    axis = int(np.argmax(shape))
    fall = np.exp(-8.0 * np.arange(shape[axis]) / shape[axis])
    return rng.standard_normal(shape) * np.expand_dims(fall, [k for k in range(len(shape)) if k != axis])


DISTRIBUTIONS: Mapping[str, Draw] = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "uniform": lambda rng, shape: rng.random(shape),
    "around 3": lambda rng, shape: rng.standard_normal(shape) + 3.0,
    "lognormal": lambda rng, shape: rng.choice((-1.0, 1.0), shape) * rng.lognormal(size=shape),
    "fading": _fading,
}
"""Terms that cancel, that add up, of all sizes, and of which few count."""

SHAPES: Mapping[str, Callable[[int], Sequence[tuple[int, ...]]]] = {
    "linear": lambda n: ((2, n), (n, 3), (3,)),
    "softmax": lambda n: ((2, n),),
    "layer_norm": lambda n: ((2, n), (n,), (n,)),
    "mse": lambda n: ((n,), (n,)),
    "mae": lambda n: ((n,), (n,)),
}
"""The operators whose sums have n terms."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """The largest error of an implementation as a fraction of the statistical bound, at a number of terms."""

    op: str
    implementation: str
    terms: int
    ratio: float


def sums(
    implementations: Mapping[str, Functions], op: str, terms: int, seeds: Iterable[int]
) -> Iterator[Ratio]:
    """Over all distributions and seeds, on equal inputs."""
    worst = dict.fromkeys((name for name, functions in implementations.items() if op in functions), 0.0)
    for seed in seeds:
        for draw in DISTRIBUTIONS.values():
            rng = np.random.default_rng((seed, terms))
            inputs = [np.asarray(draw(rng, shape), np.float32) for shape in SHAPES[op](terms)]
            for name, ratio in _ratios(implementations, op, inputs):
                worst[name] = max(worst[name], ratio)
    for name, ratio in worst.items():
        yield Ratio(op, name, terms, ratio)


def _ratios(
    implementations: Mapping[str, Functions], op: str, inputs: Sequence[Any]
) -> Iterator[tuple[str, float]]:
    spec = SPECS[op]
    (truth,) = certify_each(spec.definition, inputs, FLOAT32, spec.defaults)
    (bound,) = value_bounds(OPS[op], spec, inputs, spec.defaults, FLOAT32)
    soft = np.minimum(bound.statistical, bound.deterministic)
    for name, functions in implementations.items():
        if op in functions:
            y = np.asarray(functions[op](*inputs))
            yield name, judge(y, truth, ErrorBound(soft, soft), FLOAT32).ratio


def in_orders() -> Mapping[str, Functions]:
    """NumPy, with every sum in turn or in pairs."""
    return {
        f"numpy {total.__name__.replace('_', ' ')}": {
            op: getattr(orders.Orders(total), op) for op in SHAPES if hasattr(orders.Orders, op)
        }
        for total in (orders.in_turn, orders.in_pairs)
    }


# ------------------------------------------------------------------------------------------------- the whole


@dataclass(frozen=True, slots=True)
class Calibration:
    """All figures."""

    scores: Sequence[Score]
    alarms: Sequence[Alarm]
    catches: Sequence[Catch]
    sums: Sequence[Ratio]


Track = Callable[[Sequence[Any], str], Iterable[Any]]


def _silently(items: Sequence[Any], what: str) -> Iterable[Any]:
    return items


def calibrate(
    libraries: Iterable[str],
    ops: Sequence[str] = tuple(SPECS),
    seeds: Sequence[int] = (FIRST_SEED,),
    level: str = "ci",
    terms: Sequence[int] = TERMS,
    watched: Track = _silently,
) -> Calibration:
    """Operator by operator, so that each case is certified once for all libraries."""
    functions = {name: load(LIBRARIES[name][1]).functions for name in libraries}
    scored = [
        scores(name, functions[name], op, seeds, level)
        for op in watched(ops, "judging libraries")
        for name in functions
    ]
    catches = [catch(row, seeds, level) for row in watched(SLOPPY, "judging the sloppy") if row.op in ops]
    implementations = {**functions, **in_orders()}
    implementations.pop("numpy", None)  # its sums are those in pairs
    pairs = [(op, n) for op in SHAPES if op in ops for n in terms]
    ratios = [r for op, n in watched(pairs, "adding up") for r in sums(implementations, op, n, seeds)]
    return Calibration(
        [score for found, _ in scored for score in found],
        [alarm for _, alarms in scored for alarm in alarms],
        catches,
        ratios,
    )


# --------------------------------------------------------------------------------------------------- printing


def _table(title: str, markdown: bool, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.MARKDOWN if markdown else box.SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _cell(found: Sequence[Score]) -> str:
    """The error, and what it is called where it is not right."""
    for score in found:
        verdict = "" if score.verdict is Verdict.PASS else f"{score.verdict.value} "
        return f"{verdict}{score.ratio:.2g}" + (f" ({score.defect})" if score.defect else "")
    return "—"


def _is_of(score: Score, library: str, op: str, gradient: bool) -> bool:
    return (score.library, score.op, score.aspect == "vjp") == (library, op, gradient)


def of_operators(calibration: Calibration, markdown: bool) -> Table:
    libraries = list(dict.fromkeys(score.library for score in calibration.scores))
    columns = [f"{library} {column}" for library in libraries for column in ("value", "vjp")]
    table = _table("the largest error as a fraction of its bound", markdown, "operator", *columns)
    for op in dict.fromkeys(score.op for score in calibration.scores):
        cells = [
            _cell([s for s in calibration.scores if _is_of(s, library, op, gradient)])
            for library in libraries
            for gradient in (False, True)
        ]
        table.add_row(op, *cells)
    return table


def _share(count: int, total: int) -> str:
    return f"{count} ({100 * count / total:.2g} %)" if total else "—"


def of_alarms(calibration: Calibration, markdown: bool) -> Table:
    names = tuple(judges())
    table = _table("arrays that each judge objects to", markdown, "code", "arrays", "undecided", *names)
    libraries = dict.fromkeys(score.library for score in calibration.scores)
    for defective in (False, True):
        rows = [s for s in calibration.scores if bool(s.defect) == defective]
        of_each = [(library, [s for s in rows if s.library == library]) for library in libraries]
        kind = "defective" if defective else "good"
        for library, found in [*of_each, ("all", rows)]:
            arrays = sum(s.arrays for s in found)
            counts = [_share(sum(s.alarms[name] for s in found), arrays) for name in names]
            table.add_row(f"{kind}: {library}", str(arrays), str(sum(s.undecided for s in found)), *counts)
    return table


def of_defects(calibration: Calibration, markdown: bool) -> Table:
    """Of the defective, by whom each is seen in any array."""
    table = _table("known deviations, and who sees them", markdown, "what", "name", *judges())
    for s in calibration.scores:
        if s.defect:
            table.add_row(
                f"{s.library} {s.op} {s.aspect}", s.defect, *("x" if n else "" for n in s.alarms.values())
            )
    return table


def of_catches(calibration: Calibration, markdown: bool) -> Table:
    table = _table("sloppy implementations, and who sees them", markdown, "name", "what", "ratio", *judges())
    for found in calibration.catches:
        marks = {name: "x" if seen else "" for name, seen in found.caught.items()}
        if not found.caught["refnet"]:
            marks["refnet"] = found.elsewhere or (f"named: {found.convention}" if found.convention else "")
        row = found.sloppy
        what = f"{row.op} {row.aspect} {' '.join(row.dtypes)}: {row.says}"
        table.add_row(row.name, what, f"{found.ratio:.2g}", *marks.values())
    table.add_section()
    total = [str(sum(found.caught[name] for found in calibration.catches)) for name in judges()]
    table.add_row(f"all {len(calibration.catches)}", "seen in the arrays", "", *total)
    whole = str(sum(found.by_refnet for found in calibration.catches))
    table.add_row("", "and by known answers and laws", "", whole)
    return table


def of_sums(calibration: Calibration, markdown: bool) -> Table:
    sizes = sorted({r.terms for r in calibration.sums})
    title = "sums: the largest error as a fraction of the statistical bound"
    table = _table(title, markdown, "operator", "code", *map(str, sizes))
    for op, name in dict.fromkeys((r.op, r.implementation) for r in calibration.sums):
        of_size = {r.terms: r.ratio for r in calibration.sums if (r.op, r.implementation) == (op, name)}
        table.add_row(op, name, *(f"{of_size[size]:.2g}" for size in sizes))
    return table


TABLES = (of_operators, of_alarms, of_defects, of_catches, of_sums)


def main() -> None:
    parser = argparse.ArgumentParser(description="How well the verdicts are calibrated, in float32.")
    parser.add_argument("--seeds", type=int, default=3, help="how many (3)")
    parser.add_argument("--level", choices=("smoke", "ci"), default="ci", help="how many cases (ci)")
    parser.add_argument("--op", nargs="+", choices=SPECS, default=list(SPECS), metavar="NAME")
    parser.add_argument("--markdown", action="store_true", help="print the tables as Markdown")
    arguments = parser.parse_args()
    libraries = [name for name, (package, _) in LIBRARIES.items() if find_spec(package)]
    terminal = Console(stderr=True)

    def watched(items: Sequence[Any], what: str) -> Iterable[Any]:
        return track(items, what, transient=True, console=terminal, disable=not terminal.is_terminal)

    seeds = range(FIRST_SEED, FIRST_SEED + arguments.seeds)
    calibration = calibrate(libraries, arguments.op, seeds, arguments.level, watched=watched)
    narrow = Console().is_terminal and not arguments.markdown
    console = Console() if narrow else Console(width=max(220, Console().width))
    console.print(", ".join(f"{name} {version(name)}" for name in ("refnet", *libraries)), highlight=False)
    console.print(
        f"float32, level {arguments.level}, seeds {seeds.start} to {seeds.stop - 1}", highlight=False
    )
    for table in TABLES:
        console.print(table(calibration, arguments.markdown))
    console.print(f"alarms of refnet on good code: {len(calibration.alarms)}", highlight=False)
    for alarm in calibration.alarms:
        console.print(str(alarm), highlight=False, markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
