"""How long the check of a right vjp takes: `python -m tests.benchmarks.gradients.speed`.

refnet, torch and jax check the same NumPy pairs at the same float64 points; "torch ops" checks PyTorch's own
operator instead, without the price of the wrapping. All run in this process, and their order turns from round
to round; the first round warms up and is not counted. The checks do not do equal work: refnet's is exact to
about ten digits for each element, torch slow to three; torch fast and jax look along one direction.

The peers are optional: pip install 'refnet[peers]'
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table
from threadpoolctl import threadpool_limits

from tests.benchmarks.gradients.operators import OPERATORS, Inputs, Operator
from tests.benchmarks.gradients.peers import checkers, missing, torch_verdict
from verify.gradients.report import Verdict

try:
    import torch
except ImportError:
    torch = None

SHOWN = ("refnet", "torch slow", "torch fast", "jax")

NAMES = ("softmax", "layer_norm", "linear", "conv2d", "tanh MLP", "ReLU MLP")

Check = Callable[[], Verdict]


def native() -> dict[str, Callable[..., Any]]:
    """The operators in PyTorch's own functions."""

    def mlp(activation: Callable[[Any], Any]) -> Callable[..., Any]:
        return lambda x, w, b, v, c: activation(x @ w + b) @ v + c

    functional = torch.nn.functional
    return {
        "softmax": lambda x: torch.softmax(x, -1),
        "layer_norm": lambda x, gamma, beta: functional.layer_norm(x, gamma.shape, gamma, beta),
        "linear": lambda x, w, b: x @ w + b,
        "conv2d": functional.conv2d,
        "tanh MLP": mlp(torch.tanh),
        "ReLU MLP": mlp(torch.relu),
    }


def checks(operator: Operator, inputs: Inputs) -> dict[str, Check]:
    """Every contender's check of this operator."""
    found: dict[str, Check] = {
        checker.name: partial(checker.check, operator.f, operator.vjp, inputs, 0)
        for checker in checkers()
        if checker.name in SHOWN
    }
    if torch is not None:
        function = native()[operator.name]
        tensors = tuple(torch.from_numpy(x.copy()).requires_grad_() for x in inputs)
        for mode, fast in (("slow", False), ("fast", True)):
            found[f"torch {mode}, torch ops"] = partial(torch_verdict, function, tensors, fast)
    return found


def race(title: str, contenders: dict[str, Check], rounds: int) -> dict[str, list[float]]:
    """Seconds of each, round by round."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    terminal = Console(stderr=True)
    for number in track(
        range(rounds + 1), title, transient=True, console=terminal, disable=not terminal.is_terminal
    ):
        turn = number % len(names)
        for name in (names[turn:] + names[:turn])[:: 1 if number % 2 else -1]:
            start = time.perf_counter()
            contenders[name]()
            if number:
                times[name].append(time.perf_counter() - start)
    return times


def table_of(title: str, names: list[str], rows: dict[str, list[str]]) -> Table:
    table = Table(title=title, box=box.MARKDOWN, title_justify="left")
    table.add_column("operator")
    for name in names:
        table.add_column(name, justify="right")
    for operator, cells in rows.items():
        table.add_row(operator, *cells)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description="How long the check of a right vjp takes.")
    parser.add_argument("--rounds", type=int, default=5, help="of each operator (5)")
    parser.add_argument("--threads", type=int, default=1, help="of every library (1)")
    parser.add_argument("--operator", nargs="+", choices=NAMES, default=NAMES, metavar="NAME")
    arguments = parser.parse_args()
    console = Console(width=max(140, Console().width))
    if missing():
        console.print(missing(), style="bold", markup=False)
    if torch is not None:
        torch.set_num_threads(arguments.threads)
    milliseconds: dict[str, list[str]] = {}
    ratios: dict[str, list[str]] = {}
    names: list[str] = []
    with threadpool_limits(arguments.threads):
        for operator in (o for o in OPERATORS if o.name in arguments.operator):
            contenders = checks(operator, operator.inputs(np.random.default_rng(0), 1.0, np.float64))
            names = list(contenders)
            verdicts = {name: check() for name, check in contenders.items()}
            times = race(operator.name, contenders, arguments.rounds)
            milliseconds[operator.name] = [
                f"{statistics.median(times[name]) * 1e3:.1f}"
                + ("" if verdicts[name] == "pass" else f" ({verdicts[name]})")
                for name in names
            ]
            pairs = {name: zip(times["refnet"], times[name], strict=True) for name in names}
            ratios[operator.name] = [f"{statistics.median(a / b for a, b in pairs[n]):.1f}" for n in names]
    libraries = [name for name in ("torch", "jax") if any(n.startswith(name) for n in names)]
    console.print(", ".join(f"{name} {version(name)}" for name in ("refnet", "numpy", *libraries)))
    console.print(
        table_of("Milliseconds of a check, median; its verdict unless it passes", names, milliseconds)
    )
    console.print(table_of("refnet's time relative to each, median of the rounds", names, ratios))


if __name__ == "__main__":
    main()
