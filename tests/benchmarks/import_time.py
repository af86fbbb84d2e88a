"""How long `import refnet` takes beside `import numpy`: `python tests/benchmarks/import_time.py`.

Each import runs in an interpreter of its own. The rounds alternate; the time of an interpreter that imports
nothing is shown, and left in, because a user waits for it too.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

STATEMENTS = ("pass", "import numpy", "import refnet")


def seconds(statement: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description="The time of `import refnet`.")
    parser.add_argument("--rounds", type=int, default=25, help="of each import (25)")
    rounds = parser.parse_args().rounds
    times: dict[str, list[float]] = {statement: [] for statement in STATEMENTS}
    for statement in STATEMENTS:
        seconds(statement)  # compiles and reads the files from the disk
    for number in track(range(rounds), "imports", transient=True, console=Console(stderr=True)):
        for statement in STATEMENTS if number % 2 else reversed(STATEMENTS):
            times[statement].append(seconds(statement))
    table = Table(box=box.MARKDOWN)
    table.add_column("statement")
    for heading in ("ms, median", "least", "time relative to NumPy"):
        table.add_column(heading, justify="right")
    for statement, own in times.items():
        ratio = statistics.median(a / b for a, b in zip(own, times["import numpy"], strict=True))
        table.add_row(
            statement, f"{statistics.median(own) * 1e3:.0f}", f"{min(own) * 1e3:.0f}", f"{ratio:.2f}"
        )
    Console().print(table)


if __name__ == "__main__":
    main()
