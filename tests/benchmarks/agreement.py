"""How far PyTorch, JAX and ONNX are from the truth: `python -m tests.benchmarks.agreement [--markdown]`.

For each operator the largest error as a fraction of its derived bound, over all settings: of the values and
the gradients of PyTorch and JAX in float64, and of ONNX's node vectors in the format that they have (float32,
but for logsumexp and two of attention). Beside it stands the convention that is recognised, or the deviation
that `tests/deviations.py` explains; of the vectors, how many are of the operator, and how many of them
`tests/onnx_vectors.py` knows to be inaccurate.

What is not installed is left out: pip install 'refnet[torch,jax,onnx]'
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec

from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

from specs import SPECS
from tests import deviations
from tests.onnx_vectors import INACCURATE, ROWS, NotOurs, judged, vectors
from verify.conformance import check
from verify.conformance.plan import LEVELS
from verify.reports import Outcome, Verdict

LIBRARIES = {"torch": "PyTorch", "jax": "JAX"}
COLUMNS = {"value": ("value", "step"), "gradient": ("vjp",)}
"""The aspects that a column shows."""


def of_library(library: str, op: str, dtype: str, level: str) -> list[str]:
    """The cells of a library: values, gradients."""
    report = check(library, ops=[op], dtypes=[dtype], level=level)
    return [
        next((cell(library, o) for o in report.outcomes if o.aspect in aspects), "")
        for aspects in COLUMNS.values()
    ]


def cell(library: str, outcome: Outcome) -> str:
    """The error of an outcome, and what it is called if it is not the reference's."""
    if outcome.verdict is Verdict.NOT_RUN:
        return "—"
    error = "" if outcome.ratio is None else f"{outcome.ratio:.2g}"
    if outcome.verdict is Verdict.PASS:
        name = outcome.variant.partition(":")[0]
        return f"{error} ({name})" if name else error
    known = deviations.of(library, outcome.op, outcome.dtype, "ci")
    names = [row.name for row in known if row.concerns(outcome.aspect)]
    return " ".join([outcome.verdict.value, error, *(f"({name})" for name in names)])


def of_onnx(op: str) -> str:
    """The largest error of the vectors of an operator, and how many there are; beside it those left out."""
    ratios = dict(_ratios(op))
    sound = [ratio for name, ratio in ratios.items() if name not in INACCURATE]
    cells = [f"{max(sound):.2g} ({len(sound)})"] if sound else []
    if len(sound) < len(ratios):
        cells.append(f"{max(ratios.values()):.2g} ({len(ratios) - len(sound)} inaccurate)")
    return ", ".join(cells) or "—"


def _ratios(op: str) -> Iterator[tuple[str, float]]:
    for pattern, row in ROWS.items():
        if row.op == op:
            for vector in vectors(pattern):
                with suppress(NotOurs):
                    yield vector.name, judged(row, vector).ratio


def main() -> None:
    parser = argparse.ArgumentParser(description="How far PyTorch, JAX and ONNX are from the truth.")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    parser.add_argument("--op", nargs="+", choices=SPECS, default=list(SPECS), metavar="NAME")
    parser.add_argument("--dtype", default="float64", help="of PyTorch and JAX (float64)")
    parser.add_argument("--level", choices=LEVELS, default="ci", help="how many cases (ci)")
    arguments = parser.parse_args()
    libraries = [library for library in LIBRARIES if find_spec(library)]
    onnx = find_spec("onnx") is not None
    table = Table(box=box.MARKDOWN if arguments.markdown else box.SIMPLE_HEAD)
    table.add_column("operator")
    for library in libraries:
        for column in COLUMNS:
            table.add_column(f"{LIBRARIES[library]} {column}")
    if onnx:
        table.add_column("ONNX (vectors)")
    judge = partial(of_library, dtype=arguments.dtype, level=arguments.level)
    terminal = Console(stderr=True)
    for op in track(
        arguments.op, "judging", transient=True, console=terminal, disable=not terminal.is_terminal
    ):
        cells = [cell for library in libraries for cell in judge(library, op)]
        table.add_row(op, *cells, *([of_onnx(op)] if onnx else []))
    narrow = Console().is_terminal and not arguments.markdown
    console = Console() if narrow else Console(width=max(200, Console().width))
    names = ["refnet", "numpy", *libraries, *(["onnx"] if onnx else [])]
    console.print(", ".join(f"{name} {version(name)}" for name in names), highlight=False)
    console.print(f"the largest error as a fraction of its bound; {arguments.dtype}, level {arguments.level}")
    console.print(table)


if __name__ == "__main__":
    main()
