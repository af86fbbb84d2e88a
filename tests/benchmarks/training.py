"""How fast a step of training is, beside PyTorch and scikit-learn: `python tests/benchmarks/training.py`.

All contenders of a table run in this process, on the same threads, from the same first weights, over the
same samples in the same order. One round is one epoch of each; the order of the contenders turns from round
to round. The last column shows that they have done the same work: the largest difference of a final weight
from refnet's, relative to the largest weight of its array. (In float32, 1e-3 in a bias is one sample for
which a hidden neuron lies so near the kink of ReLU that the rounding decides whether it fires.)

PyTorch is optional here: pip install torch==2.13.0
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import version
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_info, threadpool_limits

from refnet import Array, Labels, Layer, Network, initialise, sgd_epoch
from refnet.datasets import load

try:
    import torch
except ImportError:
    torch = None

LEARNING_RATE = 0.01
REST = 0.1
"""Seconds between contenders on several threads: the idle workers of one library spin, and slow the next."""


class Work(NamedTuple):
    """What every contender of a table does."""

    title: str
    sizes: tuple[int, ...]
    first: list[Layer]
    x: Array
    labels: Labels
    batch_size: int

    @property
    def steps(self) -> int:
        return -(-len(self.x) // self.batch_size)


class Contender(Protocol):
    name: str

    def reset(self) -> None:
        """Go back to the first weights, outside the clock."""

    def epoch(self) -> None:
        """One pass over the samples."""

    def weights(self) -> list[Array] | None:
        """The weights and biases of each layer in turn."""


class Refnet:
    name = "refnet"

    def __init__(self, work: Work) -> None:
        self.work = work

    def reset(self) -> None:
        self.params = self.work.first

    def epoch(self) -> None:
        w = self.work
        self.params = sgd_epoch(
            self.params, w.x, w.labels, learning_rate=LEARNING_RATE, batch_size=w.batch_size
        )

    def weights(self) -> list[Array]:
        return [array for layer in self.params for array in layer]


class PyTorch:
    """nn.Sequential, CrossEntropyLoss, optim.SGD; the batches are cut outside the clock."""

    name = "PyTorch eager"

    def __init__(self, work: Work) -> None:
        linear = [torch.nn.Linear(k, m) for k, m in pairwise(work.sizes)]
        modules = [module for layer in linear for module in (layer, torch.nn.ReLU())][:-1]
        samples, labels = torch.from_numpy(work.x), torch.from_numpy(work.labels)
        self.model = torch.nn.Sequential(*modules).to(samples.dtype)
        self.linear, self.first = linear, work.first
        self.loss = torch.nn.CrossEntropyLoss()
        self.batches = list(zip(samples.split(work.batch_size), labels.split(work.batch_size), strict=True))

    def reset(self) -> None:
        with torch.no_grad():
            for layer, (w, b) in zip(self.linear, self.first, strict=True):
                layer.weight.copy_(torch.from_numpy(w.T.copy()))
                layer.bias.copy_(torch.from_numpy(b))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=LEARNING_RATE)

    def epoch(self) -> None:
        for x, labels in self.batches:
            self.optimizer.zero_grad()
            self.loss(self.model(x), labels).backward()
            self.optimizer.step()

    def weights(self) -> list[Array]:
        return [
            a for layer in self.linear for a in (layer.weight.detach().numpy().T, layer.bias.detach().numpy())
        ]


class ScikitLearn:
    """MLPClassifier(solver="sgd") without momentum, penalty and shuffling, one iteration."""

    name = "scikit-learn"

    def __init__(self, work: Work) -> None:
        self.work = work
        self.model = MLPClassifier(
            work.sizes[1:-1],
            solver="sgd",
            alpha=0.0,
            momentum=0.0,
            learning_rate_init=LEARNING_RATE,
            batch_size=work.batch_size,
            max_iter=1,
            shuffle=False,
            warm_start=True,
        )
        self.model.fit(work.x, work.labels)

    def reset(self) -> None:
        self.model.coefs_ = [w.copy() for w, _ in self.work.first]
        self.model.intercepts_ = [b.copy() for _, b in self.work.first]

    def epoch(self) -> None:
        self.model.fit(self.work.x, self.work.labels)

    def weights(self) -> list[Array]:
        pairs = zip(self.model.coefs_, self.model.intercepts_, strict=True)
        return [array for pair in pairs for array in pair]


class Products:
    """The matrix products of a step and nothing else: what no step can be faster than with this BLAS."""

    name = "NumPy's matrix products alone"

    def __init__(self, work: Work) -> None:
        self.work = work
        rng = np.random.default_rng(0)
        self.deltas = [rng.standard_normal((work.batch_size, m)).astype(work.x.dtype) for m in work.sizes[1:]]

    def reset(self) -> None:
        pass

    def epoch(self) -> None:
        for start in range(0, len(self.work.x), self.work.batch_size):
            inputs = [self.work.x[start : start + self.work.batch_size], *self.deltas]
            for position, (w, _) in enumerate(self.work.first):
                np.dot(inputs[position], w)
                np.dot(inputs[position].T, self.deltas[position])
                if position:
                    np.dot(self.deltas[position], w.T)

    def weights(self) -> None:
        return None


def one_at_a_time(sizes: tuple[int, ...], dtype: npt.DTypeLike) -> Work:
    digits = load("digits")
    return _work(sizes, (digits.x / 16.0).astype(dtype), digits.labels, 1)


def in_batches(sizes: tuple[int, ...], dtype: npt.DTypeLike) -> Work:
    rng = np.random.default_rng(1)
    x = rng.random((1024, sizes[0])).astype(dtype)
    return _work(sizes, x, np.arange(1024) % sizes[-1], 128)


def _work(sizes: tuple[int, ...], x: Array, labels: Labels, batch_size: int) -> Work:
    first = initialise(Network(sizes), np.random.default_rng(0), dtype=x.dtype)
    title = f"{'-'.join(map(str, sizes))}, {x.dtype}, batches of {batch_size}"
    return Work(title, sizes, first, x, labels, batch_size)


def race(work: Work, contenders: Sequence[Contender], rounds: int, rest: float) -> dict[str, list[float]]:
    """Seconds per step of each contender, round by round; the first round warms up and is not counted."""
    times: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for number in track(range(rounds + 1), work.title, transient=True, console=Console(stderr=True)):
        turn = number % len(contenders)
        order = [*contenders[turn:], *contenders[:turn]]
        for contender in order if number % 2 else reversed(order):
            contender.reset()
            time.sleep(rest)
            start = time.perf_counter()
            contender.epoch()
            if number:
                times[contender.name].append((time.perf_counter() - start) / work.steps)
    return times


def deviation(got: Sequence[Array], want: Sequence[Array]) -> float:
    return max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(got, want, strict=True))


def table_of(work: Work, contenders: Sequence[Contender], times: dict[str, list[float]]) -> Table:
    table = Table(title=work.title, box=box.MARKDOWN, title_justify="left")
    table.add_column("contender")
    for heading in ("µs per step, median", "least", "time relative to refnet", "weights differ by"):
        table.add_column(heading, justify="right")
    reference = contenders[0].weights() or []
    for contender in contenders:
        own = times[contender.name]
        ratio = statistics.median(a / b for a, b in zip(own, times[contenders[0].name], strict=True))
        weights = contender.weights()
        table.add_row(
            contender.name,
            f"{statistics.median(own) * 1e6:.1f}",
            f"{min(own) * 1e6:.1f}",
            f"{ratio:.2f}",
            "-" if weights is None else f"{deviation(weights, reference):.0e}",
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description="Training beside PyTorch and scikit-learn.")
    parser.add_argument("--threads", type=int, default=1, help="of every library (1)")
    parser.add_argument("--rounds", type=int, default=21, help="of each table (21)")
    arguments = parser.parse_args()
    console = Console(width=max(110, Console().width))
    makers: list[Callable[[Work], Contender]] = [Refnet, ScikitLearn]
    if torch is None:
        console.print("Without PyTorch, which is not installed: pip install torch==2.13.0", style="bold")
    else:
        torch.set_num_threads(arguments.threads)
        makers.insert(1, PyTorch)
    warnings.simplefilter("ignore")  # scikit-learn: one iteration has not converged
    rest = REST if arguments.threads > 1 else 0.0
    with threadpool_limits(arguments.threads):
        libraries = [*(("torch",) if torch else ()), "scikit-learn", "numpy"]
        blas: list[dict[str, Any]] = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
        console.print(
            f"{arguments.threads} of {os.cpu_count()} threads, {platform.machine()}, Python "
            + platform.python_version()
            + "".join(f", {name} {version(name)}" for name in libraries)
            + "".join(f", {pool['internal_api']} {pool['architecture']}" for pool in blas[:1]),
            soft_wrap=True,
        )
        for work in (one_at_a_time((64, 32, 10), np.float64), one_at_a_time((64, 128, 64, 10), np.float64)):
            contenders = [make(work) for make in makers]
            console.print(table_of(work, contenders, race(work, contenders, arguments.rounds, rest)))
        for dtype in (np.float64, np.float32):
            work = in_batches((784, 512, 256, 10), dtype)
            contenders = [make(work) for make in (*makers, Products)]
            console.print(table_of(work, contenders, race(work, contenders, arguments.rounds, rest)))


if __name__ == "__main__":
    main()
