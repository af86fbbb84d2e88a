"""The spec sheet of an operator, or of a function of a network, for a reader at a terminal: everything that
its specification says."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from rich import box
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from refnet import OPS
from specs import SPECS, Input, Kink, Setting, Slope, Spec
from specs.network import NETWORK_SPECS, NetworkSpec
from specs.spec import BATCH
from verify.arithmetic.bounds import LAMBDA, ErrorBound, value_bounds, vjp_bounds
from verify.arithmetic.certified import in_order
from verify.arithmetic.formats import FORMATS, Format, ulp
from verify.arithmetic.formulas import formula_of
from verify.laws.examples import Example, make_example, shape_at
from verify.laws.laws import laws_of
from verify.laws.network import BATCHES, LEARNING_RATES
from verify.laws.network import SIZES as NETWORK_SIZES
from verify.reports.console import broken_name
from verify.suggestions import suggestion

REQUIRED = inspect.Parameter.empty

SIZES = {"batch": 8, "n": 8, "k": 64, "m": 10, "c": 64}
SEED = (0,)
"""The example of the error bounds, of the size of a small layer: the same in every run."""


class UnknownOperator(LookupError):
    """There is no operator of this name; the message has the nearest ones."""

    def __init__(self, name: str) -> None:
        known = [*SPECS, *NETWORK_SPECS]
        super().__init__(f"{name}: no such operator. {suggestion(name, known)}")


def print_index(console: Console) -> None:
    """Print a row for each operator and each function of a network."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("operator", no_wrap=True)
    table.add_column("signature", no_wrap=True)
    table.add_column("what it is", overflow="fold")
    for spec in SPECS.values():
        table.add_row(Text(broken_name(spec.name)), Text(spec.signature), Text(spec.summary))
    for network in NETWORK_SPECS.values():
        table.add_row(Text(network.name), Text("a network"), Text(network.summary))
    console.print(table, highlight=False)
    console.print()
    console.print(Text("refnet show NAME prints the spec sheet.", "dim"), highlight=False)


def print_sheet(name: str, console: Console) -> None:
    """Print everything that is specified about one operator, or one function of a network.

    Raises:
        UnknownOperator: there is no operator of this name.
    """
    if name in SPECS:
        spec = SPECS[name]
        call, summary = _call(spec), spec.summary
        sections = _sections(spec, unicode=console.encoding.startswith("utf"))
    elif name in NETWORK_SPECS:
        network = NETWORK_SPECS[name]
        call, summary, sections = network.call, network.summary, _sections_of_network(network)
    else:
        raise UnknownOperator(name)
    console.print(Text(call, "bold"), highlight=False)
    console.print(Text(summary), highlight=False)
    for title, body in sections:
        console.print()
        console.print(Text(title, "bold"), highlight=False)
        for part in body:
            console.print(Padding(part, (0, 0, 0, 2), expand=False), highlight=False)


def _sections(spec: Spec, *, unicode: bool) -> Iterator[tuple[str, Sequence[RenderableType]]]:
    formula = formula_of(spec, unicode=unicode)
    yield "signature", [Text(_signature(spec))]
    yield "inputs", [_grid((item.name, axes, _domain(item)) for item, axes in _inputs(spec))]
    if spec.settings:
        yield "settings", [_grid((setting.name, _values(spec, setting)) for setting in spec.settings)]
    if "reduction" in spec.defaults:
        yield "the mean is over", [Text(spec.mean_over)]
    given = f" for {', '.join(formula.given)}" if formula.given else ""
    yield f"definition{given}", _equations(formula.definition, *formula.exceptions)
    if formula.derivatives:
        yield "derivative", _equations(*formula.derivatives)
    yield "laws", [_grid((law.name, law.statement) for law in laws_of(spec))]
    if spec.kinks:
        yield (
            "kinks",
            [
                Text(
                    f"At {kink.where} the derivative jumps. The reference takes {_slope(kink.convention)}; "
                    f"{_listed(kink.allowed)} are accepted{_times(kink)}, and named."
                    + (f" {kink.used_by}." if kink.used_by else "")
                )
                for kink in spec.kinks
            ],
        )
    if spec.tie is not None:
        yield (
            "ties",
            [
                Text(
                    f"Of {spec.tie.where}: {spec.tie.convention.value} (also in {spec.tie.used_by}). "
                    "Every other way to share it out is accepted, and named."
                )
            ],
        )
    if spec.variants:
        rows = [(v.name, f"{v.summary} ({v.used_by})") for v in spec.variants]
        yield "variants: conventions other than the reference's, recognised by name", [_grid(rows)]
    if spec.forms:
        rows = [("value" if f.value else "gradient", f"{f.name} ({f.used_by})") for f in spec.forms]
        yield "forms: other ways to compute the same, covered by the error bound", [_grid(rows)]
    if spec.cases:
        rows = [
            (c.why, f"{_example(spec, c.inputs, c.settings)}: {_written(c.expected)}") for c in spec.cases
        ]
        yield "special cases", [_grid(rows)]
    if spec.refusals:
        rows = [(r.why, _example(spec, r.inputs, r.settings)) for r in spec.refusals]
        yield "refused", [_grid(rows)]
    yield "error bound", _bounds(spec)
    if spec.references:
        yield "references", [Text(reference) for reference in spec.references]


def _sections_of_network(spec: NetworkSpec) -> Iterator[tuple[str, Sequence[RenderableType]]]:
    yield "arguments", [_grid(list(spec.arguments.items()))]
    yield "returns", [Text(spec.returns)]
    yield "equations", _equations(*spec.equations)
    yield "certified", [Text(spec.certified)]
    rows = [
        ("layers", ", ".join("-".join(map(str, sizes)) for sizes in NETWORK_SIZES)),
        ("samples", ", ".join(map(str, BATCHES))),
    ]
    if "learning_rate" in spec.arguments:
        rows.append(("learning_rate", ", ".join(map(str, LEARNING_RATES))))
    yield "checked with", [_grid(rows)]


# -------------------------------------------------------------------------------------------- what it is


def _call(spec: Spec) -> str:
    settings = [
        setting.name if default is REQUIRED else f"{setting.name}={default!r}"
        for setting in spec.settings
        for default in (_default(spec, setting),)
    ]
    arguments = [item.name for item in spec.inputs]
    return f"{spec.name}({', '.join([*arguments, *(['*', *settings] if settings else [])])})"


def _default(spec: Spec, setting: Setting) -> object:
    """The operator's own default: a setting that must be given has none, although the checks have values."""
    return inspect.signature(OPS[spec.name].forward).parameters[setting.name].default


def _signature(spec: Spec) -> str:
    if not spec.open:
        return f"{spec.signature}; no further axes"
    what = "batch axes" if spec.batched else "positions, of any number of axes"
    return f"{spec.signature}; ... are {what}, the same wherever they stand"


def _inputs(spec: Spec) -> Iterator[tuple[Input, str]]:
    for item, axes in zip(spec.inputs, spec.groups(0), strict=True):
        yield item, "any shape" if axes == (BATCH,) else f"({', '.join(axes)})"


def _domain(item: Input) -> str:
    return item.kind + ("" if item.differentiable else "; no gradient")


def _values(spec: Spec, setting: Setting) -> str:
    values = ", ".join(map(repr, setting.values))
    default = _default(spec, setting)
    return f"required; checked with {values}" if default is REQUIRED else f"{values}; default {default!r}"


def _slope(value: Slope) -> str:
    if isinstance(value, tuple):
        return f"({' + '.join(map(_slope, value))}) / 2"
    return value if isinstance(value, str) else f"{value:g}"


def _listed(values: Sequence[Slope]) -> str:
    *others, last = map(_slope, values)
    return f"{', '.join(others)} and {last}" if others else last


def _times(kink: Kink) -> str:
    return f", each times {kink.times}" if kink.times else ""


def _example(spec: Spec, inputs: Sequence[Any], settings: Mapping[str, Any] | None) -> str:
    arguments = {item.name: x for item, x in zip(spec.inputs, inputs, strict=True)} | dict(settings or {})
    return ", ".join(f"{name}={_written(value)}" for name, value in arguments.items())


def _written(value: Any) -> str:
    """A value as a specification writes it: in lists, or as an array where lists have no such shape."""
    return f"empty {value.shape}" if isinstance(value, np.ndarray) else repr(value)


# ------------------------------------------------------------------------------------------- error bound


def _bounds(spec: Spec) -> list[RenderableType]:
    columns = {fmt.name: _granted(spec, fmt) for fmt in FORMATS.values()}
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("ulp")
    for name in columns:
        table.add_column(name, justify="right")
    for output in next(iter(columns.values())):
        table.add_row(output, *(column[output] for column in columns.values()))
    example = _normal_example(spec, FORMATS["float64"])
    shapes = ", ".join(f"{i.name} {x.shape}" for i, x in zip(spec.inputs, example.inputs, strict=True))
    once_in = 2.0 * np.exp(-LAMBDA * LAMBDA / 2.0)
    return [
        Text(
            f"What is granted to the median element of a normal example ({shapes}): the error that no "
            f"correct computation exceeds / that random rounding exceeds with probability {once_in:.0e}. "
            "In a check every element of every case has its own bound."
        ),
        Text(),
        table,
    ]


def _granted(spec: Spec, fmt: Format) -> dict[str, str]:
    op, example = OPS[spec.name], _normal_example(spec, fmt)
    values = value_bounds(op, spec, example.inputs, example.settings, fmt)
    slopes = vjp_bounds(op, spec, example.dy, example.inputs, example.settings, fmt)
    names = (*spec.outputs, *(f"d{spec.inputs[k].name}" for k in spec.differentiable))
    y = in_order(op(*example.inputs, **example.settings))
    gradients = op.vjp(example.dy, *example.inputs, **example.settings)
    return {
        name: _in_ulp(bound, result, fmt)
        for name, bound, result in zip(names, (*values, *slopes), (*y, *gradients), strict=True)
    }


def _in_ulp(bound: ErrorBound, result: npt.NDArray[Any], fmt: Format) -> str:
    unit = ulp(result, fmt)
    with np.errstate(over="ignore"):  # of a result of 0, whose ulp is the smallest number
        figures = [float(np.median(b / unit)) for b in (bound.deterministic, bound.statistical)]
    return " / ".join("<0.01" if 0.0 < figure < 0.01 else f"{figure:.3g}" for figure in figures)


def _normal_example(spec: Spec, fmt: Format) -> Example:
    return make_example(spec, fmt, shape_at(spec, SIZES), "normal", spec.defaults, SEED)


# ---------------------------------------------------------------------------------------------- in print


def _grid(rows: Iterator[tuple[str, ...]] | Sequence[tuple[str, ...]]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    for row in rows:
        table.add_row(*(Text(cell, overflow="fold") for cell in row))
    return table


def _equations(*equations: str) -> list[RenderableType]:
    """One below the other, apart if any of them has several lines."""
    apart = "\n\n" if any("\n" in equation for equation in equations) else "\n"
    return [Text(apart.join(equations), overflow="fold")]
