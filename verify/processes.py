"""Processes that share work, and end with the one that gave it."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, parent_process
from threading import Thread


def process_pool(jobs: int) -> ProcessPoolExecutor:
    """So many new interpreters: a copy of this one would inherit locks that its threads hold, those of a
    library or of a progress bar."""
    return ProcessPoolExecutor(jobs, get_context("spawn"), initializer=_end_with_the_parent)


def _end_with_the_parent() -> None:
    """A parent that is killed cannot tell its processes to end, and they would wait for work for ever."""
    parent = parent_process()
    if parent is not None:

        def watch() -> None:
            parent.join()
            os._exit(1)

        Thread(target=watch, daemon=True).start()
