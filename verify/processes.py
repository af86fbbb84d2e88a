"""Processes that share work, and end with the one that gave it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import active_children, get_context, parent_process
from threading import Thread


@contextmanager
def process_pool(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """So many new interpreters: a copy of this one would inherit locks that its threads hold, those of a
    library or of a progress bar. If the work is broken off, they are ended in the midst of theirs."""
    others = active_children()
    with ProcessPoolExecutor(jobs, get_context("spawn"), initializer=_belong_to_the_parent) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in active_children():
                if process not in others:
                    process.terminate()
            raise


def _belong_to_the_parent() -> None:
    """The parent alone hears of an interrupt, and ends its processes. If it is killed it cannot, and they
    would wait for work for ever: they watch it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    if parent is not None:

        def watch() -> None:
            parent.join()
            os._exit(1)

        Thread(target=watch, daemon=True).start()
