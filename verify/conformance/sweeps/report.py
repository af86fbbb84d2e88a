"""What a sweep found, for a reader, and as JSON: schema `refnet.sweep/1`, described in
`verify/reports/sweep.schema.json` by the same rules as the report of a check."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from refnet import __version__
from verify.conformance.sweeps.tally import EDGES, SweepReport, Tally
from verify.files import write_whole
from verify.reports.json_report import figure, setting
from verify.reports.neighbourhood import decimal

SCHEMA = "refnet.sweep/1"

BAR = 40
"""The longest bar of the histogram, in characters."""

SPECIAL = {
    "beyond": "beyond the bound: wrong",
    "flushed": "flushed to 0 where a subnormal number is due, or less",
    "overflowed": "infinite where a number is due",
    "saturated": "the largest number where another is due",
    "nan": "NaN where a number is due",
    "nan_lost": "a number where NaN is due: wrong",
    "limits_lost": "not the limit at an infinity: wrong",
    "certified": "decided by certified arithmetic",
    "halfway": "half-way between two numbers, or nearly so: either is taken for right",
}
"""The counts that are told if they are not 0."""


def print_sweep(report: SweepReport, console: Console) -> None:
    """Print the classes of errors, what explains them, the worst inputs and the verdict."""
    tally, name = report.tally, f"{report.target} {report.version}".strip()
    _print(console, Text.assemble((f"{name}: {report.question.text}", "bold")))
    _print(console, Text(f"{report.question.contract.text}", "dim"))
    console.print()
    console.print(_histogram(tally), highlight=False)
    console.print()
    for line in _special(tally):
        _print(console, Text(line))
    if tally.offenders:
        console.print()
        _print(console, Text("the worst", "bold"))
        console.print(_worst(report), highlight=False)
    others = [v.name for v in report.question.spec.variants if v.is_formula]
    if report.fails and others and report.question.variant is None:
        options = " or ".join(f"--contract variant={name}" for name in others)
        _print(console, Text(f"by another convention, if it is meant: {options}"))
    verdict = Text("FAIL", "bold red") if report.fails else Text("pass", "green")
    console.print()
    _print(console, Text.assemble(verdict, f": {tally.inputs:,} numbers, {tally.nans:,} NaN"))


def _print(console: Console, text: Text) -> None:
    console.print(text, highlight=False, soft_wrap=True)


def _histogram(tally: Tally) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("error")
    table.add_column("results", justify="right")
    table.add_column("share", justify="right")
    table.add_column("")
    total = max(tally.inputs, 1)
    for name, count in zip(_names(), tally.errors, strict=True):
        bar = "█" * max(round(BAR * count / total), int(count > 0))
        table.add_row(name, f"{count:,}", f"{count / total:.4%}", Text(bar, "dim"))
    return table


def _names() -> Iterator[str]:
    yield f"at most {EDGES[0]:g} ulp"
    yield from (f"to {edge:g}" for edge in EDGES[1:-1])
    yield "beyond, or NaN"


def _special(tally: Tally) -> Iterator[str]:
    for name, meaning in SPECIAL.items():
        count = getattr(tally, name)
        if count:
            yield f"{count:,} {meaning}"
    for x, got in tally.infinities:
        yield f"{float.fromhex(got):g} at {x}"


def _worst(report: SweepReport) -> Table:
    dtype = report.question.fmt.name
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for name in ("x", "expected", "got"):
        table.add_column(name, overflow="fold")
    for name in ("ulp", "of the bound"):
        table.add_column(name, justify="right")
    for o in report.tally.offenders:
        numbers = (decimal(value, dtype) for value in (o.x, o.expected, o.got))
        table.add_row(*numbers, f"{o.ulp:.4g}", f"{o.ratio:.2g}")
    return table


def write_sweep(report: SweepReport, path: str | os.PathLike[str]) -> None:
    """Write all counts as a whole or not at all.

    Raises:
        OSError: the file cannot be written; what stood there before still stands.
    """
    question = report.question
    document = {
        "schema": SCHEMA,
        "refnet": __version__,
        "target": {"name": report.target, "version": report.version},
        "op": question.op,
        "aspect": "vjp" if question.derivative else "value",
        "dtype": question.fmt.name,
        "settings": {name: setting(value) for name, value in question.settings},
        "variant": "" if question.variant is None else question.variant.name,
        "contract": question.contract.text,
        "verdict": report.tally.verdict.value,
        "edges": [figure(edge) for edge in EDGES],
        "tally": report.tally.to_json(),
    }
    data = (json.dumps(document, indent=1, allow_nan=False) + "\n").encode()
    write_whole(path, lambda file: file.write(data))
