"""How long a sweep takes: `python -m tests.benchmarks.sweeps [--op NAME ...] [--whole]`.

For each operator, blocks of 2^24 numbers of float32 through NumPy, PyTorch or JAX, on one core: nanoseconds
for a number, of these the candidate's own, and minutes for all 2^32. The two blocks of subnormal numbers are
visited, and a sample of the others, in which each kind has its share: most numbers are so small or so large
that a function is simple there. With --whole all are visited.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from verify.arithmetic.interpolants import numbers
from verify.conformance.candidate import load
from verify.conformance.sweeps import Question
from verify.conformance.sweeps.block import PIECE, examine
from verify.conformance.sweeps.run import BLOCK, blocks_of

Function = Callable[..., Any]
CANDIDATES = {"numpy": "tests.candidates.plain", "torch": "torch", "jax": "jax"}
EVERY = 17
"""One of the other blocks in this many: prime to the 127 of a sign, so that each sign has other ones."""


def seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measured(question: Question, function: Function, *, whole: bool) -> tuple[float, float]:
    """Nanoseconds for a number: of the sweep, and of the candidate alone."""
    blocks = blocks_of(question)
    subnormal = [blocks.pop(len(blocks) // 2), blocks.pop(0)]
    sample = blocks[:: 1 if whole else EVERY]
    x = numbers(0x3F800000, PIECE, question.fmt)
    function(x)
    rare, usual = (
        sum(seconds(partial(examine, question, function, *block)) for block in each)
        for each in (subnormal, sample)
    )
    sweep = rare + usual * len(blocks) / len(sample)
    own = min(seconds(partial(function, x)) for _ in range(16))
    return 1e9 * sweep / (BLOCK * (len(blocks) + len(subnormal))), 1e9 * own / PIECE


def main() -> None:
    parser = argparse.ArgumentParser(description="How long a sweep of float32 takes.")
    parser.add_argument("--op", nargs="+", default=["sigmoid", "tanh", "softplus", "silu", "gelu"])
    parser.add_argument("--whole", action="store_true", help="all 2^32 numbers, not a sample of them")
    arguments = parser.parse_args()
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("operator", "library", "ns for a number", "of these its own", "minutes for all"):
        table.add_column(name)
    functions = {name: load(module).functions for name, module in CANDIDATES.items() if find_spec(name)}
    for op in arguments.op:
        for library in (name for name in functions if op in functions[name]):
            sweep, own = measured(Question.of(op, "float32"), functions[library][op], whole=arguments.whole)
            table.add_row(op, library, f"{sweep:.1f}", f"{own:.1f}", f"{sweep * 2**32 / 60e9:.2f}")
    Console().print(table)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    np.seterr(all="ignore")
    main()
