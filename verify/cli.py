"""The command `refnet`: what it takes, what it prints, and the code with which it ends.

Exit codes: 0 nothing fails, 1 something fails, 2 wrong usage, 3 the work itself could not be done, 130
interrupted. What only one command needs is imported there: `refnet --help` must not wait for sympy.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console
from rich.text import Text

from refnet import __version__

if TYPE_CHECKING:
    from refnet.datasets import Dataset
    from verify.reports import Report

SOMETHING_FAILS, WRONG_USAGE, NOT_DONE, INTERRUPTED = 1, 2, 3, 130

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="markdown",  # which fills the lines of a paragraph
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Level(StrEnum):
    """How many cases are drawn for each operator and dtype."""

    smoke = "smoke"
    ci = "ci"
    deep = "deep"


def main() -> None:
    """The entry point: whatever goes wrong unforeseen is a defect of refnet, never a failing candidate."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a formula on a terminal that knows only ASCII
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception:
        traceback.print_exc()
        print(f"refnet {__version__}: this is a defect of refnet, not of what was checked", file=sys.stderr)
        sys.exit(NOT_DONE)


# ---------------------------------------------------------------------------------------------- terminal


class _Output(Console):
    """Standard output. When its reader goes away (`| head`), the work goes on without it: the exit code and
    the files that were asked for are still right."""

    def on_broken_pipe(self) -> None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: object, code: int) -> NoReturn:
    """End with a message on standard error."""
    shown = "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in str(message))
    text = Text.assemble(("refnet: ", "bold"), shown, overflow="fold")
    Console(stderr=True).print(text, highlight=False, soft_wrap=True)
    raise typer.Exit(code)


def _print(console: Console, text: str) -> None:
    console.print(Text(text), highlight=False, soft_wrap=True)


@contextmanager
def _progress(total: int, console: Console | None = None) -> Iterator[Callable[[str], None]]:
    """A bar, on standard error unless told otherwise, that is told what comes next; it leaves no trace, and
    there is none in a pipe."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = console or Console(stderr=True)
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=total)
        started = False

        def begin(name: str) -> None:
            nonlocal started
            bar.update(task, description=name, advance=1 if started else 0)
            started = True

        yield begin


def _writable(path: Path | None) -> None:
    """Complain about a file that cannot be written before the work rather than after it."""
    from verify.files import ensure_writable

    try:
        if path is not None:
            ensure_writable(path)
    except OSError as error:
        _unwritten(path, error)


def _write(path: Path | None, write: Callable[[Path], None], console: Console) -> None:
    """Write a file that was asked for, and say so."""
    if path is None:
        return
    try:
        write(path)
    except OSError as error:
        _unwritten(path, error)
    _print(console, f"written: {path}")


def _unwritten(path: Path | None, error: OSError) -> NoReturn:
    _fail(f"{path} cannot be written: {error.strerror or error}", NOT_DONE)


def _deliver(report: Report, json: Path | None, *, strict: bool, full: bool) -> NoReturn:
    """Write the file first, which a closed pipe cannot take away; then print, then the verdict."""
    from verify.reports import print_report, write_json

    try:
        if json is not None:
            write_json(report, json)
    except OSError as error:
        _unwritten(json, error)
    print_report(report, _Output(), full=full)
    raise typer.Exit(report.exit_code(strict=strict))


# ---------------------------------------------------------------------------------------------- commands

TargetArgument = Annotated[
    str,
    typer.Argument(
        metavar="TARGET",
        help="The path of a Python file, the dotted name of a module, or a shipped adapter: sklearn, "
        "torch, jax or onnxruntime.",
    ),
]
ContractOption = Annotated[
    list[str] | None,
    typer.Option(
        "--contract",
        metavar="NAME=VALUE",
        help="What is promised other than the default of the dtype; may be repeated. inside, saved, "
        "products: a format; subnormals: kept or flushed; specials: required or any; variant: a name.",
    ),
]
OpOption = Annotated[
    list[str] | None,
    typer.Option("--op", metavar="NAME", help="An operator; may be repeated. All of them, if none is named."),
]
LevelOption = Annotated[Level, typer.Option(help="How many cases: smoke 8, ci 40, deep 400 per operator.")]
SeedOption = Annotated[int, typer.Option(min=0, help="The seed of all cases.")]
JsonOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Also write the report as JSON (refnet.report/1).")
]
StrictOption = Annotated[
    bool, typer.Option("--strict", help="Exit 1 also if something is suspect or inconclusive.")
]


def _version(wanted: bool) -> None:
    if wanted:
        print(f"refnet {__version__}")
        raise typer.Exit


@app.callback()
def refnet(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """The correctness oracle for neural networks.

    Exit codes: 0 nothing fails, 1 something fails, 2 wrong usage, 3 the work itself could not be done,
    130 interrupted.
    """


@app.command()
def check(
    target: TargetArgument,
    op: OpOption = None,
    dtype: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="float64, float32, float16 or bfloat16; may be repeated. float64 and float32, if none.",
        ),
    ] = None,
    level: LevelOption = Level.ci,
    seed: SeedOption = 0,
    case: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Replay this one case, as a report names it.")
    ] = None,
    contract: ContractOption = None,
    strict: StrictOption = False,
    json: JsonOption = None,
) -> None:
    """Judge an implementation against the reference: values, gradients, steps, training and laws.

    TARGET has some of the functions of the contract, `NAME(inputs..., *, settings...)` for values and
    `NAME_vjp(dy, inputs..., *, settings...)` for gradients; `refnet show` lists the names.

    Exit codes: 0 nothing fails; 1 something fails (with --strict: or is suspect or inconclusive); 2 wrong
    usage: no such target, operator or dtype; 3 the check could not run: the target does not import or has
    no function of the contract, or the report cannot be written; 130 interrupted.
    """
    _writable(json)
    from specs import SPECS
    from verify.conformance import TargetError, UsageError
    from verify.conformance import check as judge
    from verify.conformance.network import NETWORK_FUNCTIONS

    names = op or {*SPECS, *NETWORK_FUNCTIONS}
    try:
        with _progress(len(names)) as begin:
            report = judge(
                target,
                ops=op,
                dtypes=dtype,
                level=level.value,
                seed=seed,
                case=case,
                contract=contract or [],
                progress=begin,
            )
    except UsageError as error:
        _fail(error, WRONG_USAGE)
    except TargetError as error:
        _fail(error, NOT_DONE)
    _deliver(report, json, strict=strict, full=case is not None)


@app.command()
def selfcheck(
    op: OpOption = None,
    level: LevelOption = Level.ci,
    seed: SeedOption = 0,
    strict: StrictOption = False,
    json: JsonOption = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes that share the work.")] = os.cpu_count() or 1,
) -> None:
    """Put the reference itself to every witness: certified, symbolic and numerical values, bounds, laws.

    Exit codes: 0 nothing fails; 1 something fails (with --strict: or is suspect or inconclusive); 2 wrong
    usage; 3 the check could not run, or the report cannot be written; 130 interrupted.
    """
    _writable(json)
    from specs import SPECS
    from verify.conformance import UsageError
    from verify.selfcheck import selfcheck as examine

    try:
        with _progress(len(op or SPECS)) as begin:
            report = examine(ops=op, level=level.value, seed=seed, jobs=jobs, progress=begin)
    except UsageError as error:
        _fail(error, WRONG_USAGE)
    _deliver(report, json, strict=strict, full=True)


@app.command()
def sweep(
    target: TargetArgument,
    op: Annotated[str, typer.Option("--op", metavar="NAME", help="An operator of one array, elementwise.")],
    dtype: Annotated[
        str, typer.Option(metavar="NAME", help="float16 or bfloat16: 2^16 inputs; float32: 2^32.")
    ] = "float32",
    derivative: Annotated[
        bool, typer.Option("--derivative", help="Its NAME_vjp at a cotangent of 1, not its value.")
    ] = False,
    setting: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="A setting other than its default; may be repeated."),
    ] = None,
    contract: ContractOption = None,
    journal: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Keep what is done here: a sweep that was stopped goes on."),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes that share the work.")] = os.cpu_count() or 1,
    json: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write all counts as JSON (refnet.sweep/1).")
    ] = None,
) -> None:
    """Put every number of a format to a unary operator, or to its derivative: how many results are rounded
    correctly, how far off the others are, and at which inputs.

    Exit codes: 0 nothing is beyond its bound; 1 something is, or the candidate raises; 2 wrong usage; 3 the
    sweep could not run, or a file cannot be written; 130 interrupted (with --journal, the next one goes on).
    """
    _writable(json)
    from verify.conformance import TargetError, UsageError
    from verify.conformance.sweeps import CandidateFails, SweepError
    from verify.conformance.sweeps import sweep as examine
    from verify.conformance.sweeps.report import print_sweep, write_sweep

    try:
        with _share(journal) as advance:
            report = examine(
                target,
                op,
                dtype,
                derivative=derivative,
                settings=dict(map(_setting, setting or [])),
                contract=contract or [],
                journal=journal,
                jobs=jobs,
                progress=advance,
            )
    except UsageError as error:
        _fail(error, WRONG_USAGE)
    except CandidateFails as error:
        _fail(error if json is None else f"{error} There are no counts for {json}.", SOMETHING_FAILS)
    except (TargetError, SweepError) as error:
        _fail(error, NOT_DONE)
    console = _Output()
    _write(json, lambda path: write_sweep(report, path), console)
    print_sweep(report, console)
    raise typer.Exit(SOMETHING_FAILS if report.fails else 0)


def _setting(given: str) -> tuple[str, str | int | float]:
    """A setting as it is typed: a number if it reads as one."""
    name, equals, value = given.partition("=")
    if not equals:
        _fail(f"{given}: a setting is given as NAME=VALUE.", WRONG_USAGE)
    for kind in (int, float):
        with suppress(ValueError):
            return name, kind(value)
    return name, value


@contextmanager
def _share(journal: Path | None) -> Iterator[Callable[[int, int], None]]:
    """A bar of blocks that are done, with the time that is left; if it is interrupted, what is kept of it."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TimeElapsedColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)
        try:
            yield lambda done, total: bar.update(task, completed=done, total=total)
        except KeyboardInterrupt:
            done, of = int(bar.tasks[0].completed), int(bar.tasks[0].total or 0)
            kept = "nothing is kept without --journal FILE"
            if journal is not None:
                kept = f"{done} of {of} blocks are in {journal}: the same command goes on there"
            _print(console, f"refnet: interrupted; {kept}.")
            raise


@app.command()
def show(
    op: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="An operator or a function of a network. None: a table of all."),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Draw an elementwise operator and its derivative: png, svg or pdf."
        ),
    ] = None,
) -> None:
    """Print the spec sheet of an operator: definition, derivative, laws, conventions, error bound; or that of
    a function of a network: equations, shapes, what is certified.

    Exit codes: 0; 2 no such operator, or none that has a curve; 3 the file cannot be written or matplotlib is
    missing.
    """
    from verify.reports.curves import NoCurve, curve_of, write_curves
    from verify.reports.sheet import UnknownOperator, print_index, print_sheet

    console = _Output()
    try:
        if op is None:
            if plot is not None:
                _fail("--plot draws one operator: name it", WRONG_USAGE)
            print_index(console)
            return
        if plot is not None:
            curve_of(op)
        _plottable(plot)
        _writable(plot)
        print_sheet(op, console)
    except (UnknownOperator, NoCurve) as error:
        _fail(error, WRONG_USAGE)
    _write(plot, lambda path: write_curves(op, path), console)


@app.command()
def train(
    data: Annotated[
        str,
        typer.Option(metavar="NAME|FILE.csv", help="digits or iris, which ship, or a CSV file of your own."),
    ],
    hidden: Annotated[
        list[int],
        typer.Option(min=0, metavar="N", help="Neurons of a hidden layer; repeat for more; 0: none."),
    ] = [32],  # noqa: B006  (typer reads it, nobody changes it)
    activation: Annotated[
        str, typer.Option(metavar="NAME", help="Of the hidden layers: relu, tanh, sigmoid or identity.")
    ] = "relu",
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training set.")] = 20,
    batch_size: Annotated[int, typer.Option(min=1, help="Samples in each step.")] = 1,
    learning_rate: Annotated[float, typer.Option(help="The gradient's factor in each step.")] = 0.02,
    seed: SeedOption = 0,
    label: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The column of the classes in a CSV file.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the curves: .png, .svg or .pdf (extra: plot).")
    ] = None,
    save: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Save the network (npz) for features as they are.")
    ] = None,
) -> None:
    """Train a multilayer perceptron by stochastic gradient descent, and print what every epoch does.

    The data are split into training, validation and test sets, and the features standardised by the
    training set. The seed decides the split, the first weights and the order of the samples.

    Exit codes: 0 trained; 1 the loss is no longer finite; 2 wrong usage; 3 the data cannot be read, a file
    cannot be written or matplotlib is missing; 130 interrupted.
    """
    import numpy as np

    from refnet import ArgumentError, Network, Scaling, evaluate, initialise, run_epochs, split
    from refnet.storage import ACTIVATIONS, save_network
    from verify.reports.training import epoch_row, heading, write_plot

    _plottable(plot)
    _writable(plot)
    _writable(save)
    if activation not in ACTIVATIONS:
        known = "Common ones, all elementwise: relu, tanh, sigmoid, identity."
        _fail(f"{activation}: no such activation. {known}", WRONG_USAGE)
    dataset = _dataset(data, label)
    try:
        sets = split(dataset.x, dataset.labels, seed=seed)
        scaling = Scaling.of(sets.training.x, common=dataset.common_unit)
        training, validation, test = (part._replace(x=scaling.apply(part.x)) for part in sets)
        network = Network.for_data(
            dataset.x.shape[1],
            len(dataset.class_names),
            hidden=[size for size in hidden if size],
            activation=ACTIVATIONS[activation],
        )
        rng = np.random.default_rng(seed)
        params = initialise(network, rng)
        run = run_epochs(
            params,
            training,
            validation,
            rng,
            learning_rate=learning_rate,
            batch_size=batch_size,
            activation=network.activation,
            head=network.head,
        )
    except ArgumentError as error:
        _fail(error, WRONG_USAGE)
    console, history = _Output(), []
    settings = f"learning rate {learning_rate:g}, batch size {batch_size}, seed {seed}"
    _print(console, heading(dataset, sets, network, settings))
    with _progress(epochs, console) as begin:
        for epoch in range(1, epochs + 1):
            begin(f"epoch {epoch}")
            record, params = next(run)
            history.append(record)
            _print(console, epoch_row(record))
            if not np.isfinite(record.training_loss):
                _fail("the loss is no longer finite: take a smaller --learning-rate", SOMETHING_FAILS)
    result = evaluate(params, *test, activation=network.activation, head=network.head)
    _print(console, f"\ntest accuracy {result.accuracy:.1%}, loss {result.loss:.4f}")
    title = f"{dataset.name}, {'-'.join(map(str, network.sizes))}, {settings}"
    _write(plot, lambda path: write_plot(history, title, path), console)
    _write(save, lambda path: save_network(path, network, scaling.folded(params)), console)


def _plottable(path: Path | None) -> None:
    """Complain before the work about curves that cannot be drawn after it."""
    from importlib.util import find_spec

    from verify.reports.training import PLOT_FORMATS

    if path is None:
        return
    if path.suffix not in PLOT_FORMATS:
        _fail(f"{path}: a plot is one of {', '.join(PLOT_FORMATS)}", WRONG_USAGE)
    if find_spec("matplotlib") is None:
        _fail(
            "--plot needs matplotlib: pip install matplotlib, or refnet with its extra, '.[plot]'", NOT_DONE
        )


def _dataset(data: str, label: str | None) -> Dataset:
    """A set that ships, or a CSV file; a label is a name, or the index of a column."""
    from refnet import ArgumentError
    from refnet.datasets import load, load_csv
    from refnet.datasets.shipped import ORIGINS

    if data in ORIGINS:
        return load(data)
    if not Path(data).is_file():
        _fail(f"{data}: neither a file nor one of {', '.join(ORIGINS)}, which ship", WRONG_USAGE)
    column = -1 if label is None else int(label) if label.lstrip("-").isdigit() else label
    try:
        return load_csv(data, label=column)
    except ArgumentError as error:
        _fail(error, WRONG_USAGE if error.argument == "label" else NOT_DONE)
    except OSError as error:
        _fail(f"{data} cannot be read: {error.strerror or error}", NOT_DONE)


if __name__ == "__main__":
    main()
