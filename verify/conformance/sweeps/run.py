"""A sweep from beginning to end: its blocks, shared out among processes, and the journal of what is done.

Each block is counted once, whatever happens: its tally is one line of the journal, and a line counts if it is
whole. A sweep that is started again with the same journal does the blocks that are missing.
"""

from __future__ import annotations

import inspect
import json
import os
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from contextlib import ExitStack, contextmanager
from functools import lru_cache, reduce
from hashlib import sha256
from operator import add
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from refnet import __version__
from specs.spec import SettingValue
from verify.conformance.candidate import Candidate, UsageError, load
from verify.conformance.contract import settings_to_pass
from verify.conformance.sweeps.block import examine
from verify.conformance.sweeps.question import Question, SweepError
from verify.conformance.sweeps.tables import CODE, code
from verify.conformance.sweeps.tally import SweepReport, Tally
from verify.files import ensure_writable, write_whole
from verify.processes import process_pool

BLOCK = 2**24
"""Numbers in a block: half a second's work, and 256 lines of a journal for float32."""

Block = tuple[int, int]
"""The first bit pattern and the number of them."""

AHEAD = 2
"""Blocks for each process that are handed over before the first result is there."""


def sweep(
    target: object,
    op: str,
    dtype: str,
    *,
    derivative: bool = False,
    settings: Mapping[str, SettingValue] | None = None,
    contract: Sequence[str] = (),
    journal: str | os.PathLike[str] | None = None,
    executor: Executor | None = None,
    jobs: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> SweepReport:
    """Put every number of float16, bfloat16 or float32 to a unary operator of a candidate, or its derivative.

    `target` is that of `verify.check`, and so is `contract`. With a `journal`, a file, the sweep can be
    stopped at any time, and goes on where it was when it is started again. The blocks go to `executor`, which
    may be of any kind that takes the target (a name is the safest), or to `jobs` processes of its own.
    `progress` is told how many blocks are done, and how many there are.

    Raises:
        UsageError: there is no such target, operator, format, setting or promise, or processes cannot share
            the target.
        CandidateFails: it raises, or returns what cannot be judged.
        SweepError: the candidate lacks the function or a setting, or its process ended by itself; the journal
            is that of another sweep, or another one is writing it.
        TargetError: as for `verify.check`.
    """
    question = Question.of(op, dtype, derivative=derivative, settings=settings, contract=contract)
    candidate = load(target)
    function = candidate.functions.get(question.function)
    if function is None:
        raise SweepError(f"{candidate.name} has no {question.function}.")
    _, lacking = settings_to_pass(function, question.keywords, question.spec.defaults, explicit=False)
    if lacking:
        raise SweepError(f"{question.function} of {candidate.name} takes no {', '.join(lacking)}.")
    blocks = blocks_of(question)
    with _journal(journal, candidate, question) as (done, note):
        tallies, missing = dict(done), [block for block in blocks if block[0] not in done]
        progress(len(tallies), len(blocks))
        with _executor(executor, min(jobs, len(missing)), target) as (pool, ahead):
            for first, tally in _results(pool, ahead, target, question, missing):
                note(first, tally)
                tallies[first] = tally
                progress(len(tallies), len(blocks))
    total = reduce(add, (tallies[first] for first, _ in blocks), Tally())
    return SweepReport(candidate.name, candidate.version, question, total, candidate.notes)


def blocks_of(question: Question) -> list[Block]:
    """All bit patterns of the format, those of positive numbers first."""
    bits = 8 * question.fmt.dtype.itemsize
    size = min(BLOCK, 2 ** (bits - 1))
    return [(first, size) for first in range(0, 2**bits, size)]


# -------------------------------------------------------------------------------------------- processes


@lru_cache(maxsize=4)
def _loaded(target: str) -> Candidate:
    return load(target)


def work(target: object, question: Question, block: Block) -> Tally:
    """One block, wherever this runs: the candidate is loaded there, once."""
    candidate = _loaded(target) if isinstance(target, str) else load(target)
    return examine(question, candidate.functions[question.function], *block)


@contextmanager
def _executor(given: Executor | None, jobs: int, target: object) -> Iterator[tuple[Executor | None, int]]:
    """Where the blocks go, and how many at a time; None is here, one after the other."""
    if given is not None or jobs < 2:
        yield given, AHEAD * (os.cpu_count() or 1)
        return
    try:
        pickle.dumps(target)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        told = (
            "processes share the work only of a name, or of an object that can be sent to them: take jobs=1"
        )
        raise UsageError(f"{error}: {told}.") from None
    with process_pool(jobs) as pool:
        yield pool, AHEAD * jobs


def _results(
    pool: Executor | None, ahead: int, target: object, question: Question, blocks: Sequence[Block]
) -> Iterator[tuple[int, Tally]]:
    """The tallies of blocks, as they are ready."""
    if pool is None:
        for block in blocks:
            yield block[0], work(target, question, block)
        return
    waiting: dict[Future[Tally], int] = {}
    try:
        for block in blocks:
            waiting[pool.submit(work, target, question, block)] = block[0]
            if len(waiting) < ahead:
                continue
            yield from _ready(waiting)
        while waiting:
            yield from _ready(waiting)
    finally:
        for future in waiting:
            future.cancel()


def _ready(waiting: dict[Future[Tally], int]) -> Iterator[tuple[int, Tally]]:
    """At least one result."""
    done, _ = wait(waiting, return_when=FIRST_COMPLETED)
    for future in done:
        first = waiting.pop(future)
        try:
            tally = future.result()
        except BrokenExecutor:
            raise SweepError(f"the process that had the numbers from {first:#x} on ended by itself") from None
        yield first, tally


# ---------------------------------------------------------------------------------------------- journal


@contextmanager
def _journal(
    path: str | os.PathLike[str] | None, candidate: Candidate, question: Question
) -> Iterator[tuple[Mapping[int, Tally], Callable[[int, Tally], None]]]:
    """The blocks that are done, and how to note another one."""
    if path is None:
        yield {}, lambda first, tally: None
        return
    heading = _heading(candidate, question)
    with ExitStack() as stack:
        with _told(path):
            if Path(path).exists() and not Path(path).is_file():  # a device may have no end
                raise SweepError(f"{path} is no file. A journal is one.")
            ensure_writable(path)
            stack.enter_context(_locked(Path(path)))
            done, whole = _read(Path(path), heading)
            write_whole(path, lambda file: file.write(b"".join([_line(heading), *whole])))
            file = stack.enter_context(Path(path).open("ab"))

        def note(first: int, tally: Tally) -> None:
            with _told(path):
                file.write(_line({"first": first, **tally.to_json()}))
                file.flush()
                os.fsync(file.fileno())

        yield done, note


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """As the only sweep that writes this journal; a lock goes with its process, however that ends.

    Its file stays: whoever waits for one that is removed has the lock of nothing.
    """
    whole = path.resolve()
    lock = FileLock(whole.with_name(f".{whole.name}.lock"), timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise SweepError(
            f"{path}: another sweep is writing this journal. Wait for it, or name another file."
        ) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _told(path: str | os.PathLike[str]) -> Iterator[None]:
    """What goes wrong with the file, as an error of the sweep."""
    try:
        yield
    except OSError as error:
        raise SweepError(f"{path}: {error.strerror or error}") from None


def _heading(candidate: Candidate, question: Question) -> dict[str, Any]:
    """What the blocks of a journal are about: nothing else may be added to it, and nothing that another
    version of the candidate or of the oracle has found."""
    return {
        "schema": "refnet.sweep/1",
        "refnet": __version__,
        "target": candidate.name,
        "version": candidate.version,
        "question": question.text,
        "contract": question.contract.text,
        "special values": question.contract.specials,
        "block": BLOCK,
        "code of the candidate": _code_of(candidate.functions[question.function]),
        "code of the oracle": sha256(code((*CODE, "refnet", __package__))).hexdigest()[:20],
    }


def _code_of(function: Callable[..., Any]) -> str:
    """A digest of the file in which a function is written; empty where there is none to be had."""
    try:
        file = inspect.getsourcefile(inspect.unwrap(function))
        return "" if file is None else sha256(Path(file).read_bytes()).hexdigest()[:20]
    except (TypeError, ValueError, OSError):
        return ""


def _line(document: Mapping[str, Any]) -> bytes:
    """One line with a digest of what it says, so that half of one is not taken for a whole."""
    text = json.dumps(document, sort_keys=True)
    return f"{sha256(text.encode()).hexdigest()[:16]} {text}\n".encode()


def _read(path: Path, heading: Mapping[str, Any]) -> tuple[dict[int, Tally], list[bytes]]:
    """The blocks of a journal, and the lines that they stand in: those that are whole, wherever they are.

    Raises:
        SweepError: it is the journal of another sweep.
    """
    if not path.exists():
        return {}, []
    first, *lines = path.read_bytes().splitlines(keepends=True) or [b""]
    found = _document(first)
    if found is None and not _line(heading).startswith(first):
        raise SweepError(f"{path} is no journal of a sweep. Name another file, or remove it.")
    if found is not None and found != heading:
        raise SweepError(
            f"{path} is the journal of another sweep: {_difference(found, heading)}. Name another file, or "
            "remove it."
        )
    done: dict[int, Tally] = {}
    whole = []
    for line in lines:
        document = _document(line)
        if document is not None and document["first"] not in done:
            done[document.pop("first")] = Tally.from_json(document)
            whole.append(line)
    return done, whole


def _document(line: bytes) -> dict[str, Any] | None:
    """What a line says; None if it is not whole."""
    digest, _, text = line.rstrip(b"\n").partition(b" ")
    if not line.endswith(b"\n") or sha256(text).hexdigest()[:16].encode() != digest:
        return None
    document: dict[str, Any] = json.loads(text)
    return document


def _difference(found: Mapping[str, Any], due: Mapping[str, Any]) -> str:
    """What it is about in the place of what is asked."""
    differing = [name for name in due if found.get(name) != due[name]]
    return ", ".join(f"{name} {found.get(name)!r} instead of {due[name]!r}" for name in differing)
