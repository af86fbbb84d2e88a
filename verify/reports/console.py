"""The report for a reader at a terminal, or behind a pipe."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from itertools import chain
from math import inf
from typing import TypeVar

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from verify.arithmetic.contracts import DEFAULTS
from verify.reports.neighbourhood import Shown, decimal, element, shapes_of, shown_of
from verify.reports.record import Accuracy, Outcome, Report, Verdict

COLUMNS = ("value", "vjp", "certified", "symbolic", "numerical", "bounds", "sweep", "law", "contract")
"""The aspects in the order of the table; what others there are comes after them."""

SHARED = {"step": "value", "epoch": "value"}
"""Aspects of operators that have no value: their cells stand in its column, and say what they are."""

MANY = {"sweep": "sweeps of all numbers", "law": "laws", "contract": "rules of the contract"}
"""Aspects that an operator has many of: a cell counts them."""

WIDTH = 100
"""Columns of a report that is a text."""

GAP = 2
"""Blanks between two columns of the table."""

NAME_WIDTH = 22
"""A longer name of an operator is broken at an underscore, to leave room for the verdicts."""

DTYPES = {"float64": "f64", "float32": "f32", "float16": "f16", "bfloat16": "bf16"}

WORDS = {
    Verdict.FAIL: ("FAIL", "bold red"),
    Verdict.SUSPECT: ("suspect", "yellow"),
    Verdict.INCONCLUSIVE: ("inconclusive", "magenta"),
    Verdict.PASS: ("pass", "green"),
    Verdict.NOT_RUN: ("not run", "dim"),
}
"""How a verdict is written, from the one to read first to the one to read last."""

ACCURACIES = {
    Accuracy.CORRECTLY_ROUNDED: "correctly rounded, in all cases that were drawn",
    Accuracy.CONDITIONED: "as good as the problem permits: as if every input had been rounded once",
    Accuracy.BOUNDED: "within the bound of the forms that are granted",
}

FIRST = ("value", "vjp", "step", "epoch", "sweep:value", "sweep:vjp")
"""The aspects that show most, in this order: what of an operator fails first is told in full."""

LABEL = 12
"""The column at which the details of a failure begin."""

SHORTEST = 16
"""The characters of a reason that tell anything."""

COUNT = re.compile(r"\d+ of \d+ elements of (\w+) are beyond what any rounding explains")

Key = TypeVar("Key", bound=Hashable)


def print_report(report: Report, console: Console, *, full: bool = False) -> None:
    """Print the table of verdicts, the failures, what was not decided, and the counts.

    Of the failures of an operator the one that shows most is told in full, and each of the others in a line;
    `full` tells all in full, as does a report on one operator in one dtype.
    """
    if report.outcomes:
        _print_table(report, console)
    _print_failures(report, console, full=full or len({(o.op, o.dtype) for o in report.outcomes}) == 1)
    _print_variants(report.outcomes, console)
    _print_worth(report.outcomes, console)
    _print_reasons("inconclusive: the oracle cannot decide", Verdict.INCONCLUSIVE, report.outcomes, console)
    _print_reasons("not run", Verdict.NOT_RUN, report.outcomes, console)
    if report.notes:
        _print(console, Text("notes", "bold"))
        for note in report.notes:
            _print(console, Text(note), indent=2)
        console.print()
    _print_summary(report, console)


def text_of(report: Report) -> str:
    """The report as plain text; in a notebook too, where rich would show it rather than write it."""
    text = StringIO()
    print_report(report, Console(file=text, width=WIDTH, color_system=None, force_jupyter=False))
    return text.getvalue().rstrip("\n")


def _print(console: Console, text: Text, indent: int = 0, label: str = "") -> None:
    """Print text as it is: brackets are no markup, long words are folded, nothing is cut."""
    for line in text.wrap(console, console.width - max(indent, len(label)), overflow="fold"):
        line.rstrip()
        console.print(Text.assemble((label or " " * indent, "dim"), line), highlight=False)
        label = " " * len(label)


def _print_summary(report: Report, console: Console) -> None:
    line = Text(f"{report.target} {report.version}".strip() + ": ")
    counts = [(report.count(verdict), verdict) for verdict in Verdict]
    for k, (count, verdict) in enumerate(counts):
        line.append(", " if k else "")
        line.append(f"{count} {verdict.value}", WORDS[verdict][1] if count else "")
    promised = "".join(f", {promise}" for promise in report.contract)
    line.append(f" (level {report.level}, seed {report.seed}{promised})")
    console.print(line, highlight=False, soft_wrap=True)  # one line, however narrow the terminal


def _print_table(report: Report, console: Console) -> None:
    """The table in full where the terminal is wide enough, else with bare figures for what passes."""
    full = _table(report.outcomes, brief=False)
    brief = console.width < sum(full.natural) + GAP * (len(full.natural) - 1)
    cells = _table(report.outcomes, brief=True) if brief else full
    widths = _fitted(cells.natural, cells.shortest, console.width - GAP * (len(cells.natural) - 1))
    table = Table(box=box.SIMPLE_HEAD, padding=(0, GAP - 1, 0, 0), pad_edge=False, show_edge=False)
    for heading, width in zip(cells.headings, widths, strict=True):
        table.add_column(heading, overflow="fold", width=width)
    for row in cells.rows:
        table.add_row(*row)
    console.print(table, highlight=False)
    console.print()
    _print(console, Text(_legend(report.outcomes, brief=brief), "dim"))
    console.print()


@dataclass(frozen=True, slots=True)
class _Cells:
    """The table before it is laid out."""

    headings: Sequence[str]
    rows: Sequence[Sequence[Text]]

    @property
    def natural(self) -> list[int]:
        """The widths at which no cell is wrapped."""
        return [max(len(line) for text in column for line in text.splitlines()) for column in self._columns]

    @property
    def shortest(self) -> list[int]:
        """The widths at which no word is broken."""
        return [max(len(word) for text in column for word in text.split()) for column in self._columns]

    @property
    def _columns(self) -> list[list[str]]:
        texts = [list(self.headings), *([cell.plain for cell in row] for row in self.rows)]
        return [list(column) for column in zip(*texts, strict=True)]


def _table(outcomes: Sequence[Outcome], *, brief: bool) -> _Cells:
    columns = _columns(outcomes)
    of_cell = _groups(outcomes, lambda o: (o.op, _column(o)))
    rows = [
        [Text(broken_name(op)), *(_cell(of_cell.get((op, c), ()), columns[c], brief=brief) for c in columns)]
        for op in _unique(outcome.op for outcome in outcomes)
    ]
    return _Cells(["operator", *(_heading(column) for column in columns)], rows)


def _fitted(natural: Sequence[int], shortest: Sequence[int], room: int) -> list[int]:
    """Widths that fit the room: the widest gives way first, down to its longest word if that is enough."""
    widths = list(natural)
    for least in (shortest, [1] * len(widths)):
        while sum(widths) > room and any(map(int.__gt__, widths, least)):
            widest = max((k for k, w in enumerate(widths) if w > least[k]), key=lambda k: (k > 0, widths[k]))
            widths[widest] -= 1
    return widths


def _columns(outcomes: Sequence[Outcome]) -> dict[str, list[str]]:
    """The columns of the table in order, and the dtypes that each is about."""
    present = _groups(outcomes, _column)
    order = [c for c in COLUMNS if c in present] + [c for c in present if c not in COLUMNS]
    return {column: _unique(outcome.dtype for outcome in present[column]) for column in order}


def _heading(column: str) -> str:
    return "laws" if column == "law" else column


def _legend(outcomes: Sequence[Outcome], *, brief: bool) -> str:
    columns = _columns(outcomes)
    by_dtypes: dict[str, list[str]] = {}
    for column, dtypes in columns.items():
        by_dtypes.setdefault(_names(dtypes), []).append(_heading(column))
    if len(by_dtypes) == 1:
        parts = [f"{next(iter(by_dtypes))} where a cell names none"]
    else:
        which = ", ".join(f"{dtypes} ({', '.join(those)})" for dtypes, those in by_dtypes.items())
        parts = [f"where a cell names none: {which}"]
    if any(outcome.ratio is not None for outcome in outcomes):
        which = "0.42: passed, with" if brief else "0.42:"
        parts.append(f"{which} the largest error, as a fraction of its bound")
    counted = [MANY[column] for column in columns if column in MANY]
    if counted:
        parts.append(f"{'3' if brief else '3 pass'}: so many {' or '.join(counted)}{' passed' * brief}")
    return "; ".join(parts) + "."


def _column(outcome: Outcome) -> str:
    kind = outcome.aspect.partition(":")[0]
    return SHARED.get(kind, kind)


def broken_name(name: str) -> str:
    """A name in lines of at most NAME_WIDTH characters where its underscores allow it."""
    lines = [""]
    for part in re.findall(r"[^_]*_?", name):
        if lines[-1] and len(lines[-1] + part) > NAME_WIDTH:
            lines.append("  ")
        lines[-1] += part
    return "\n".join(lines)


def _cell(outcomes: Sequence[Outcome], dtypes: Sequence[str], *, brief: bool) -> Text:
    """One line for each verdict, the worst first; the dtypes are named unless it is all of the column's."""
    lines = []
    for verdict, (word, style) in WORDS.items():
        those = [outcome for outcome in outcomes if outcome.verdict is verdict]
        if not those:
            continue
        kind, _, part = those[0].aspect.partition(":")
        parts = [kind, word] if kind in SHARED else [word]
        if part:  # laws and rules of the contract are many: how many of them
            parts.insert(0, str(len({outcome.aspect for outcome in those})))
        here = _unique(outcome.dtype for outcome in those)
        if set(here) != set(dtypes):
            parts.append(_names(here))
        ratios = [outcome.ratio for outcome in those if outcome.ratio is not None]
        if ratios and not part and verdict is not Verdict.NOT_RUN:
            parts.append(f"{_largest(ratios):.2g}")
        if brief and len(parts) > 1 and verdict is Verdict.PASS:
            parts.remove(word)
        lines.append(Text(" ".join(parts), style))
    return Text("\n").join(lines)


# ---------------------------------------------------------------------------------------------- failures


def _print_failures(report: Report, console: Console, *, full: bool) -> None:
    """An operator after the other, its failures before what is suspect."""
    troubled = [o for o in report.outcomes if o.verdict in (Verdict.FAIL, Verdict.SUSPECT)]
    in_short: list[Outcome] = []
    for those in _groups(troubled, lambda o: o.op).values():
        first, *others = sorted(those, key=_shows_most)
        _print_outcome(first, report.seed, console)
        if full:
            for outcome in others:
                console.print()
                _print_outcome(outcome, report.seed, console)
        elif others:
            _print_in_short(others, console)
            in_short += others
        console.print()
    drawn = [outcome for outcome in in_short if not outcome.aspect.startswith("sweep:")]
    if drawn:
        _print_hint(drawn[0], console)


def _shows_most(outcome: Outcome) -> tuple[bool, int, bool]:
    rank = FIRST.index(outcome.aspect) if outcome.aspect in FIRST else len(FIRST)
    return outcome.verdict is not Verdict.FAIL, rank, rank == len(FIRST) and outcome.worst is None


def _print_hint(outcome: Outcome, console: Console) -> None:
    """How to see the whole of what is told in a line, with the report's own line to replay it."""
    how = "A failure in one line is told in full by a check of its operator in its dtype alone"
    replay = re.sub(r" --case \d+", "", outcome.replay)
    for option, value in (("--op", outcome.op), ("--dtype", outcome.dtype)):
        replay = replay.replace(f"{option} {value} ", f"{option} NAME ")
    if "--dtype NAME" in replay:
        _print(console, Text(f"{how}; --json FILE has every detail of all.", "dim"))
        console.print(Text(f"  {replay}", "dim"), highlight=False, soft_wrap=True)  # to be copied
    else:
        _print(console, Text(f"{how}.", "dim"))
    console.print()


def _print_in_short(outcomes: Sequence[Outcome], console: Console) -> None:
    """A line for each failure, dtypes in which it is the same together, cut where the terminal ends."""
    rows = []
    of_aspect = _groups(outcomes, lambda o: (o.verdict, o.aspect)).values()
    alike = (_groups(those, lambda o: (_count(o), _in_short(o))).values() for those in of_aspect)
    for those in chain.from_iterable(alike):
        ratios = [outcome.ratio for outcome in those if outcome.ratio is not None]
        dtypes = _names(_unique(outcome.dtype for outcome in those))
        error = f"{_largest(ratios):.2g}" if ratios else ""
        rows.append((those[0], (those[0].aspect, dtypes, _count(those[0]), error)))
    widths = [max(map(len, column)) for column in zip(*(cells for _, cells in rows), strict=True)]
    for outcome, cells in rows:
        word, style = WORDS[outcome.verdict]
        padded = [f"{cell:{width}}  " for cell, width in zip(cells, widths, strict=True) if width]
        line = Text.assemble("  ", (word, style), " ", (padded[0], "bold"), *padded[1:])
        text = Text(_in_short(outcome))
        if console.width - len(line) < SHORTEST:  # a line of its own, rather than none
            line.rstrip()
            _print(console, line)
            line = Text("    ")
        text.truncate(console.width - len(line), overflow="ellipsis")
        console.print(line + text, highlight=False, soft_wrap=True)


def _count(outcome: Outcome) -> str:
    if outcome.verdict is not Verdict.FAIL:
        return f"{outcome.cases} cases"
    return f"{outcome.failing_cases} of {outcome.cases}"


def _in_short(outcome: Outcome) -> str:
    """The diagnosis if there is one, else the reason: what a law says; of which array, and not of how many of
    its elements."""
    named = "; ".join(f"{diagnosis.mistake}: {diagnosis.summary}" for diagnosis in outcome.diagnosis)
    reason = " ".join(outcome.reason.split())
    if outcome.aspect.startswith("law:"):
        reason, _, _ = reason.partition(": ")
    return named or COUNT.sub(r"\1 is beyond what any rounding explains", reason)


def _print_outcome(outcome: Outcome, seed: int, console: Console) -> None:
    word, style = WORDS[outcome.verdict]
    title = Text.assemble((word, style), (f" {outcome.op} {outcome.aspect} {outcome.dtype}", "bold"))
    if outcome.verdict is Verdict.FAIL:
        title.append(f": {outcome.failing_cases} of {outcome.cases} cases fail")
    else:
        title.append(f": {outcome.cases} cases")
    _print(console, title)
    for name, value in _lines(outcome, seed, console.width - LABEL):
        _print(console, Text(value), label=f"  {name:{LABEL - 2}}")
    if outcome.replay:
        # Not wrapped, so that it can be copied.
        console.print(
            Text.assemble("  ", ("replay    ", "dim"), outcome.replay), highlight=False, soft_wrap=True
        )


def _lines(outcome: Outcome, seed: int, width: int) -> Iterator[tuple[str, str]]:
    if outcome.reason:
        yield "reason", outcome.reason
    for diagnosis in outcome.diagnosis:
        yield "diagnosis", f"{diagnosis.mistake}: {diagnosis.summary}"
    if outcome.keeps and not any(outcome.keeps in diagnosis.summary for diagnosis in outcome.diagnosis):
        yield "keeps", outcome.keeps
    worst = outcome.worst
    if worst is None:
        if outcome.ulp is not None or outcome.ratio is not None:
            yield "error", _error(outcome)
        if not outcome.replay:
            yield "seed", str(seed)
        return
    settings = "".join(f", {name}={value}" for name, value in worst.settings.items())
    shapes = shapes_of(worst)
    yield "case", f"{worst.case}, seed {seed}{settings}{'; ' if shapes else ''}{shapes}"
    yield "worst", f"{element(worst.output, worst.index)}: {_error(outcome)}"
    yield "expected", decimal(worst.expected, outcome.dtype)
    yield "got", decimal(worst.got, outcome.dtype)
    for k, shown in enumerate(shown_of(outcome.op, outcome.dtype, worst)):
        yield "" if k else "inputs", _packed(shown, width)
    if outcome.variant:
        yield "variant", outcome.variant


def _error(outcome: Outcome) -> str:
    """The error, and the bound in the same unit: below half an ulp no result can be asked to be."""
    if outcome.ratio is None:
        return "not measured" if outcome.ulp is None else f"{outcome.ulp:.3g} ulp"
    times = f"{outcome.ratio:.3g} times the bound"
    if outcome.ulp is None:
        return times
    error = f"{outcome.ulp:.3g} ulp = {times}"
    if 0.0 < outcome.ratio < inf and outcome.ulp < inf:
        return f"{error} of {outcome.ulp / outcome.ratio:.3g} ulp"
    return error if outcome.worst is None else f"{error} of {outcome.worst.bound:.3g}"


def _packed(shown: Shown, width: int) -> str:
    """A line of an input in lines of the terminal, broken between elements only."""
    lines = [f"{shown.name} = " if shown.elements else shown.name]
    for k, text in enumerate(shown.elements):
        comma = ", " if k + 1 < len(shown.elements) or shown.left_out else ""
        if k and len(lines[-1] + text + comma.rstrip()) > width:
            lines.append("  ")
        lines[-1] += text + comma
    if shown.left_out:
        lines.append(f"  ... {shown.left_out} more (--json FILE)")
    return "\n".join(line.rstrip() for line in lines)


# ------------------------------------------------------------------------------------- what is no failure


def _print_variants(outcomes: Sequence[Outcome], console: Console) -> None:
    named = _groups([o for o in outcomes if o.variant], lambda o: o.variant)
    if not named:
        return
    _print(console, Text("conventions other than the reference's, recognised", "bold"))
    for variant, group in named.items():
        _print(console, Text(variant), indent=2)
        _print_where(group, console)
    console.print()


def _print_worth(outcomes: Sequence[Outcome], console: Console) -> None:
    """How accurate the results are that pass, and which contract they keep where it is not the default."""
    classes = _groups([o for o in outcomes if o.accuracy], lambda o: o.accuracy)
    if classes:
        _print(console, Text("how accurate the results are that pass", "bold"))
        for accuracy in Accuracy:
            if accuracy in classes:
                _print(console, Text(ACCURACIES[accuracy]), indent=2)
                _print_where(classes[accuracy], console)
        console.print()
    others = _groups([o for o in outcomes if o.keeps not in ("", _default(o))], lambda o: (o.dtype, o.keeps))
    if others:
        _print(
            console, Text("the strictest contract that the results keep, where it is not the default", "bold")
        )
        for (_, keeps), group in others.items():
            _print(console, Text(keeps), indent=2)
            _print_where(group, console)
        console.print()


def _default(outcome: Outcome) -> str:
    return DEFAULTS[outcome.dtype].text if outcome.dtype in DEFAULTS else ""


def _print_reasons(title: str, verdict: Verdict, outcomes: Sequence[Outcome], console: Console) -> None:
    those = [outcome for outcome in outcomes if outcome.verdict is verdict]
    if not those:
        return
    _print(console, Text(title, "bold"))
    for reason, group in _groups(those, lambda o: o.reason or "no reason given").items():
        _print(console, Text(reason), indent=2)
        _print_where(group, console)
    console.print()


def _print_where(outcomes: Iterable[Outcome], console: Console) -> None:
    """Operators that share the same aspects and dtypes share a line."""
    lines: dict[str, list[str]] = {}
    for op, of_op in _groups(outcomes, lambda o: o.op).items():
        aspects: dict[str, list[str]] = {}
        for aspect, of_aspect in _groups(of_op, lambda o: o.aspect).items():
            aspects.setdefault(_names(_unique(o.dtype for o in of_aspect)), []).append(aspect)
        what = "; ".join(f"{', '.join(names)} in {dtypes}" for dtypes, names in aspects.items())
        lines.setdefault(what, []).append(op)
    for what, ops in lines.items():
        _print(console, Text(f"{', '.join(ops)}: {what}"), indent=4)


def _largest(ratios: Iterable[float]) -> float:
    """The largest, where NaN is larger than all: `max` would lose it."""
    return max(ratios, key=lambda ratio: (ratio != ratio, ratio))


def _names(dtypes: Iterable[str]) -> str:
    return " ".join(DTYPES.get(dtype, dtype) for dtype in dtypes)


def _unique(items: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(items))


def _groups(outcomes: Iterable[Outcome], key: Callable[[Outcome], Key]) -> dict[Key, list[Outcome]]:
    groups: dict[Key, list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(key(outcome), []).append(outcome)
    return groups
