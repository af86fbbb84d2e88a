"""All numbers of a format: tables, polynomials through certified values, counts, sweeps that are stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import reduce
from operator import add
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import numpy as np
import pytest
from typer.testing import CliRunner

import verify
from refnet import OPS
from verify.arithmetic.bounds import SLACK
from verify.arithmetic.formats import (
    BFLOAT16,
    FLOAT16,
    FLOAT32,
    FLOAT64,
    Format,
    Truth,
    error_in_ulp,
    ulp,
    ulp_exponents,
)
from verify.arithmetic.interpolants import FINEST, SHORTEST, numbers, runs
from verify.cli import app
from verify.conformance import UsageError
from verify.conformance.sweeps import (
    CandidateFails,
    Offender,
    Question,
    SweepError,
    Tally,
    sweep,
    unary_operators,
)
from verify.conformance.sweeps import run as sweep_run
from verify.conformance.sweeps.block import EITHER_SIDE, _sampled_bounds, examine
from verify.conformance.sweeps.report import write_sweep
from verify.conformance.sweeps.tables import FOLDER, NUMBERS, folder, table
from verify.conformance.sweeps.tally import EDGES, worst
from verify.reports.json_report import load_schema, to_json

Array = Any
HALF = (FLOAT16, BFLOAT16)


@pytest.fixture(autouse=True)
def own_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tables that other tests have made are none of this file's."""
    monkeypatch.setenv(FOLDER, str(tmp_path_factory.getbasetemp() / "tables"))
    sweep_run._loaded.cache_clear()
    return iter([None])


# ----------------------------------------------------------------------------------------------- polynomials

QUESTIONS = [
    pytest.param(Question.of(op, "float32", derivative=derivative), id=f"{op}{' derivative' * derivative}")
    for op in unary_operators()
    for derivative in (False, True)
]


@pytest.mark.parametrize("question", QUESTIONS)
def test_polynomials_are_within_their_margins_of_certified_values(question: Question) -> None:
    """At random numbers of random runs; nearly everywhere there is a polynomial, and it is a sharp one. And
    what is granted between the sampled bounds is within the factor by which they are trusted."""
    rng, covered, count = np.random.default_rng(0), 0, 2**14
    biased = rng.integers(80, 150, 12)  # from 2^-47 to 2^22
    firsts = [int(s << 31 | e << 23 | k << 14) for s, e, k in zip(rng.integers(2, size=12), biased,
              rng.integers(2**9, size=12), strict=True)]  # fmt: skip
    for first in firsts:
        for run in runs(question.certified, [(first, count)], FLOAT32):
            if not run.coefficients:
                assert run.count <= SHORTEST
                continue
            x = numbers(run.first, run.count, FLOAT32)[rng.integers(run.count, size=4)]
            truth = question.certified(x, FLOAT64)
            off = np.abs(run(x.astype(np.float64)) - truth.nearest)
            assert (off <= run.margin).all()
            assert (run.margin <= FINEST * ulp(truth.nearest.astype(np.float32), FLOAT32)).all()
            covered += run.count
            (low, high), bounds = _sampled_bounds(question, [run])[0], question.bounds(x)
            if np.isfinite(high):
                assert (bounds >= low / EITHER_SIDE).all()
                assert (bounds <= high * EITHER_SIDE).all()
    assert covered >= 0.99 * count * len(firsts)


def test_no_polynomial_goes_through_a_kink() -> None:
    """relu6 has one at 6, in the middle of a run of 2^12 numbers around it."""
    six = int(np.array([6.0], np.float32).view(np.uint32)[0])
    question = Question.of("relu6", "float32")
    found = runs(question.certified, [(six - 2**11 + 37, 2**12)], FLOAT32)
    assert sum(run.count for run in found) == 2**12
    for run in found:
        if run.coefficients:
            assert not run.first < six < run.first + run.count - 1
    assert min(run.count for run in found) <= SHORTEST


# ---------------------------------------------------------------------------------------------------- tables


@pytest.mark.parametrize("fmt", HALF, ids=str)
def test_a_table_is_what_certified_arithmetic_finds(fmt: Format) -> None:
    question = Question.of("softsign", fmt.name)
    truth = table(question)
    some = np.random.default_rng(0).integers(NUMBERS, size=500).astype(np.uint16).view(fmt.dtype)
    with np.errstate(invalid="ignore"):
        some = some[np.isfinite(some)]
    again, place = question.certified(some, fmt), some.view(np.uint16)
    assert truth.nearest[place].tobytes() == again.nearest.tobytes()
    assert np.array_equal(truth.fraction[place], again.fraction)


def test_a_table_is_kept_and_one_that_is_damaged_is_computed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from verify.conformance.sweeps import tables

    monkeypatch.setenv(FOLDER, str(tmp_path))
    question = Question.of("relu", "float16")
    made: list[Question] = []
    compute = tables._computed

    def counted(asked: Question) -> Truth:
        made.append(asked)
        return compute(asked)

    monkeypatch.setattr(tables, "_computed", counted)

    def afresh() -> bytes:
        tables._table.cache_clear()
        truth = table(question)
        return truth.nearest.tobytes() + truth.fraction.tobytes()

    first = afresh()
    assert (len(made), afresh(), len(made)) == (1, first, 1)
    (file,) = folder().iterdir()
    whole = file.read_bytes()
    flips = (whole[:k] + bytes([whole[k] ^ 255]) + whole[k + 1 :] for k in range(0, len(whole), 9001))
    for damaged in (b"", whole[:-100], b"no table at all", *flips):
        file.write_bytes(damaged)
        before = len(made)
        assert afresh() == first
        assert len(made) == before + 1
    before = len(made)
    monkeypatch.setattr(tables, "code", lambda: b"another definition")
    assert (afresh(), len(made)) == (first, before + 1)


def test_a_table_that_cannot_be_kept_is_computed_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from verify.conformance.sweeps import tables

    (tmp_path / "file").write_text("")
    monkeypatch.setenv(FOLDER, str(tmp_path / "file" / "below"))
    tables._table.cache_clear()
    assert table(Question.of("relu", "float16")).nearest.size == NUMBERS


# ---------------------------------------------------------------------------------------------------- counts


def by_hand(question: Question, function: Callable[[Array], Array], first: int, count: int) -> Tally:
    """The counts from certified values and a bound for each number, without any filter."""
    x = numbers(first, count, question.fmt)
    got = function(x)
    truth = question.certified(x, question.fmt)
    errors = error_in_ulp(got, truth, question.fmt)
    off = ~(errors <= 0.5)
    with np.errstate(all="ignore"):
        absolute = errors * np.ldexp(1.0, ulp_exponents(truth, question.fmt))
        beyond = off & ~(absolute <= question.bounds(x) * SLACK)
    histogram, low = [], -1.0
    for high in EDGES:
        last = high == EDGES[-1]
        within = (errors > low) & (errors <= high) if not last else ~(errors <= low)
        histogram.append(int(within.sum()))
        low = high
    return Tally(inputs=count, errors=tuple(histogram), beyond=int(beyond.sum()))


def in_float32(x: Array) -> Array:
    """The textbook sigmoid, which overflows at -88.7 and is 0 there."""
    with np.errstate(all="ignore"):
        return np.asarray(1 / (1 + np.exp(-x)), dtype=x.dtype)


def off_by(ulps: int, where: float) -> Callable[[Array], Array]:
    """refnet's sigmoid, but at one number."""

    def function(x: Array) -> Array:
        y: Array = OPS["sigmoid"](x)
        at = x == x.dtype.type(where)
        bits = y.view(f"u{y.dtype.itemsize}")
        bits[at] += bits.dtype.type(ulps)
        return y

    return function


AT = {"a tail": 0xC2B00000, "subnormal": 0x80000100, "ordinary": 0x3F7F8000, "large": 0xC28F0000}
"""Bit patterns of float32 at which blocks of 2^15 begin: at -88, -3.6e-43, 0.998 and -71.5."""


@pytest.mark.parametrize("first", AT.values(), ids=AT)
@pytest.mark.parametrize("function", [OPS["sigmoid"].__call__, in_float32, off_by(40, 0.998046875)])
def test_the_counts_are_those_of_certified_arithmetic(function: Callable[[Array], Array], first: int) -> None:
    question, count = Question.of("sigmoid", "float32"), 2**15
    found, due = examine(question, function, first, count), by_hand(question, function, first, count)
    assert (found.inputs, found.errors, found.beyond) == (due.inputs, due.errors, due.beyond)


def test_what_is_wrong_is_counted() -> None:
    """So that the comparison above has something to compare."""
    question = Question.of("sigmoid", "float32")
    wrong = examine(question, off_by(40, 0.998046875), AT["ordinary"], 2**15)
    assert wrong.beyond == 1
    assert (wrong.offenders[0].x, round(wrong.offenders[0].ulp)) == ("0x1.ff00000000000p-1", 40)
    tail = examine(question, in_float32, AT["a tail"], 2**15)
    assert tail.beyond == 0  # flushing is granted
    kept = Question.of("sigmoid", "float32", contract=["subnormals=kept"])
    block = 0xC2B10000, 2**15
    assert examine(kept, in_float32, *block).flushed == examine(kept, in_float32, *block).beyond > 1000
    assert examine(kept, in_float32, *block).verdict is verify.Verdict.FAIL


def test_special_results_are_told_apart() -> None:
    question = Question.of("identity", "float16")

    def strange(x: Array) -> Array:
        y = x.copy()
        y[x == 1.0] = np.nan
        y[x == 2.0] = np.inf
        y[x == 3.0] = np.finfo(np.float16).max
        y[x == np.float16(6e-8)] = 0.0
        y[np.isnan(x)] = 1.0
        return y

    tally = reduce(add, (examine(question, strange, first, 2**15) for first in (0, 2**15)))
    assert (tally.nan, tally.overflowed, tally.saturated, tally.flushed) == (1, 1, 1, 1)
    assert (tally.nans, tally.nan_lost, tally.beyond) == (2046, 2046, 4)
    assert tally.inputs + tally.nans + len(tally.infinities) == 2**16
    assert tally.infinities == (("inf", "inf"), ("-inf", "-inf"))


def test_results_beside_the_middle_of_two_numbers_are_settled_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """silu of subnormal x is x / 2 and a little more: of two numbers that are half an ulp away, the upper one
    is right. x / 4 is the middle exactly, and either is."""
    from verify.conformance.sweeps import block

    monkeypatch.setattr(block, "MOST_CERTIFIED", 100)

    def rounded(slope: float, direction: float) -> Callable[[Array], Array]:
        def function(x: Array, **settings: Any) -> Array:
            exact = slope * x.astype(np.float64)
            y = exact.astype(np.float32)
            other = np.nextafter(y, np.float32(direction) * np.float32(np.inf))
            middle = np.abs(y - exact) == 0.5 * FLOAT32.smallest_subnormal
            return np.where(middle & ((y - exact) * direction < 0), other, y)

        return function

    silu, quarter = (
        Question.of("silu", "float32"),
        Question.of("leaky_relu", "float32", settings={"slope": 0.25}),
    )
    for first in (2**12, 2**31 + 2**12):  # subnormal numbers of both signs
        right = examine(silu, rounded(0.5, 1.0), first, 2**12)
        wrong = examine(silu, rounded(0.5, -1.0), first, 2**12)
        assert (right.errors[0], right.halfway, right.certified) == (2**12, 0, 0)
        assert (wrong.errors[:2], wrong.halfway) == ((2**11, 2**11), 0)
    for direction in (1.0, -1.0):
        tie = examine(quarter, rounded(0.25, direction), 2**31 + 2**12, 2**12)
        assert (tie.errors[0], tie.halfway) == (2**12, 2**10)


def test_subgradients_at_a_kink_are_accepted() -> None:
    """relu'(0) = 1, and the slope of subnormal numbers that are read as 0; a slope of 2 at 0 is neither."""
    question = Question.of("relu", "bfloat16", derivative=True)

    def slope(at_kink: float, flush: float) -> Callable[[Array, Array], Array]:
        def vjp(dy: Array, x: Array) -> Array:
            near = np.abs(x.astype(np.float32)) <= flush
            return np.where(near, at_kink, (x > 0).astype(np.float32)).astype(x.dtype) * dy

        return vjp

    def beyond(vjp: Callable[[Array, Array], Array]) -> int:
        return sum(examine(question, vjp, first, 2**15).beyond for first in (0, 2**15))

    assert beyond(slope(0.0, 0.0)) == beyond(slope(1.0, 0.0)) == beyond(slope(0.5, 1e-39)) == 0
    assert beyond(slope(2.0, 0.0)) == 2  # at 0 and at -0
    assert beyond(slope(0.0, 1.0)) > 10_000


def test_where_the_result_overflows_a_finite_number_is_wrong_and_infinity_right() -> None:
    def selu(limit: float) -> Callable[[Array], Array]:
        def function(x: Array) -> Array:
            y: Array = OPS["selu"](x)
            return np.where(np.isinf(y) & np.isfinite(x), y.dtype.type(limit), y)

        return function

    for dtype, first in (("float32", 0x7F700000), ("bfloat16", 0)):
        question, count = Question.of("selu", dtype), 2**15 if dtype == "bfloat16" else 2**20
        with np.errstate(over="ignore"):
            right, wrong = (examine(question, selu(y), first, count) for y in (np.inf, -7.0))
        assert (right.beyond, sum(right.errors[3:])) == (0, 0)
        assert wrong.beyond > 0
        assert wrong.offenders[0].ratio == np.inf
    report = verify.check(SimpleNamespace(selu=selu(-7.0)), ops=["selu"], dtypes=["bfloat16"], level="smoke")
    (found,) = [o for o in report.outcomes if o.aspect == "sweep:value"]
    assert found.verdict is verify.Verdict.FAIL


def test_a_result_in_memory_that_is_used_again_is_looked_at_in_time() -> None:
    question, buffer = Question.of("relu", "float32", derivative=True), np.empty(2**18, np.float32)

    def vjp(dy: Array, x: Array) -> Array:
        y = buffer[: x.size]
        y[...] = np.where(x < 64 * FLOAT32.smallest_subnormal, 9.0, x > 0) * dy
        return y

    honest = examine(question, lambda dy, x: vjp(dy, x).copy(), 0, 2**20)
    assert examine(question, vjp, 0, 2**20).beyond == honest.beyond > 0


def test_the_limits_at_infinities_are_due() -> None:
    def sigmoid(x: Array) -> Array:
        return np.where(np.isinf(x), np.float16(7.0), OPS["sigmoid"](x))

    tally = sweep(SimpleNamespace(sigmoid=sigmoid), "sigmoid", "float16").tally
    assert (tally.limits_lost, tally.beyond, tally.verdict) == (2, 0, verify.Verdict.FAIL)
    free = sweep(SimpleNamespace(sigmoid=sigmoid), "sigmoid", "float16", contract=["specials=any"])
    assert free.verdict is verify.Verdict.PASS


def test_what_is_wrong_at_an_infinity_alone_shows_no_number_that_is_right() -> None:
    def gelu(x: Array, *, approximate: str = "none") -> Array:
        return np.where(np.isneginf(x), x.dtype.type(np.nan), OPS["gelu"](x, approximate=approximate))

    report = verify.check(SimpleNamespace(gelu=gelu), ops=["gelu"], dtypes=["float16"], level="smoke")
    (found,) = [o for o in report.outcomes if o.aspect == "sweep:value"]
    assert found.reason == "not the limit at 1 of 2 infinities: inf at inf, nan at -inf"
    assert (found.worst, found.ratio, found.ulp) == (None, None, None)
    jsonschema.validate(json.loads(json.dumps(to_json(report), allow_nan=False)), load_schema())


def test_counts_add_up_in_any_order() -> None:
    question = Question.of("tanh", "float16")
    parts = [examine(question, np.tanh, first, 2**13) for first in range(0, 2**16, 2**13)]
    whole = reduce(add, parts)
    back = reduce(add, reversed(parts))
    assert whole.inputs == back.inputs == 63488
    assert (whole.errors, whole.beyond) == (back.errors, back.beyond)
    assert {o.ulp for o in whole.offenders} == {o.ulp for o in back.offenders}
    assert Tally.from_json(json.loads(json.dumps(whole.to_json()))) == whole
    assert whole + Tally() == whole


def test_the_worst_are_those_nearest_to_their_bounds_and_those_off_by_most() -> None:
    one = Offender("0x1p0", "0x1p0", "0x1p0", 3.0, 0.9, 1e-3, normal=True)
    many = [replace(one, x=float(k).hex(), ulp=float(k), ratio=1.0 / k) for k in range(1, 30)]
    flushed = [replace(o, ulp=1e6 * o.ulp, ratio=0.0, normal=False) for o in many]
    kept = worst([*many, *flushed])
    assert {o.ratio for o in kept} >= {1.0, 0.5}
    assert {o.ulp for o in kept} >= {29.0, 28.0}
    assert all(o.normal for o in kept)


# ------------------------------------------------------------------------------------------ a whole sweep


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep_run, "BLOCK", 2**12)


CANDIDATE = SimpleNamespace(tanh=np.tanh)


def swept(journal: Path | None = None, **options: Any) -> Tally:
    return sweep(CANDIDATE, "tanh", "float16", journal=journal, **options).tally


@pytest.mark.usefixtures("small_blocks")
def test_a_journal_may_end_anywhere(tmp_path: Path) -> None:
    """Whatever is left of it after a crash, nothing is lost and nothing counted twice."""
    counted: list[int] = []

    def watched(x: Array) -> Array:
        counted.append(x.size)
        return np.tanh(x)

    journal, target = tmp_path / "journal", SimpleNamespace(tanh=watched)
    whole = sweep(target, "tanh", "float16", journal=journal).tally
    assert whole == swept()
    written = journal.read_bytes()
    ends = [k for k, byte in enumerate(written) if byte == 10]
    assert len(ends) == 1 + 2**4
    rng = np.random.default_rng(0)
    for end in (*rng.integers(ends[0], len(written), 12).tolist(), ends[0], ends[3], ends[3] + 1, ends[-1]):
        journal.write_bytes(written[:end])
        counted.clear()
        assert sweep(target, "tanh", "float16", journal=journal).tally == whole
        done = sum(1 for k in ends if k < end) - 1
        assert sum(counted) <= (2**4 - max(done, 0)) * 2**12
        assert journal.read_bytes().count(b"\n") == 1 + 2**4


@pytest.mark.usefixtures("small_blocks")
def test_a_journal_of_something_else_is_refused(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    swept(journal)
    with pytest.raises(SweepError, match="another sweep: question 'tanh in float16' instead of"):
        sweep(CANDIDATE, "tanh", "bfloat16", journal=journal)
    with pytest.raises(SweepError, match="another sweep: special values"):
        swept(journal, contract=["specials=any"])
    with pytest.raises(SweepError, match="another sweep: contract"):
        swept(journal, contract=["inside=float16"])
    journal.write_text("something\nelse\n")
    with pytest.raises(SweepError, match="is no journal of a sweep"):
        swept(journal)
    assert journal.read_text() == "something\nelse\n"
    for special in (tmp_path, Path("/dev/full")):
        with pytest.raises(SweepError, match="is no file"):
            swept(special)
    with pytest.raises(SweepError, match="No such file"):
        swept(tmp_path / "missing" / "journal")


@pytest.mark.usefixtures("small_blocks")
def test_a_damaged_line_costs_its_block_alone(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    whole = swept(journal)
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[3] = lines[3].replace(b'"inputs": 4', b'"inputs": 5')
    journal.write_bytes(b"".join([*lines, lines[5]]))
    told: list[int] = []
    assert swept(journal, progress=lambda done, total: told.append(done)) == whole
    assert told[0] == 2**4 - 1


def test_a_journal_is_of_the_code_that_it_was_made_with(tmp_path: Path) -> None:
    kernels, journal = tmp_path / "kernels.py", tmp_path / "journal"
    for text in ("np.tanh(x)", "np.tanh(x) * 0"):
        kernels.write_text(f"import numpy as np\n\ndef tanh(x):\n    return {text}\n")
        sweep_run._loaded.cache_clear()
        if text == "np.tanh(x)":
            assert sweep(str(kernels), "tanh", "float16", journal=journal).verdict is verify.Verdict.PASS
        else:
            with pytest.raises(SweepError, match="another sweep: code of the candidate"):
                sweep(str(kernels), "tanh", "float16", journal=journal)


def test_what_cannot_be_sent_to_processes_is_refused() -> None:
    with pytest.raises(UsageError, match="take jobs=1"):
        sweep(SimpleNamespace(tanh=lambda x: np.tanh(x)), "tanh", "float16", jobs=2)


def test_a_process_that_ends_by_itself_is_told(tmp_path: Path) -> None:
    kernels = tmp_path / "kernels.py"
    kernels.write_text("import os\n\ndef tanh(x):\n    os._exit(9)\n")
    with pytest.raises(SweepError, match="ended by itself"):
        sweep(str(kernels), "tanh", "float16", jobs=2)


SLOW = """
    import time
    import numpy as np

    def tanh(x):
        time.sleep(0.05)
        return np.tanh(x)
"""


@pytest.mark.usefixtures("small_blocks")
def test_a_journal_has_one_writer(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    nested: list[str] = []

    def other(done: int, total: int) -> None:
        if done == 1:
            with pytest.raises(SweepError, match="another sweep is writing this journal"):
                swept(journal)
            nested.append("refused")

    whole = swept(journal, progress=other)
    assert nested == ["refused"]
    assert swept(journal) == whole


@pytest.mark.usefixtures("small_blocks")
def test_a_link_to_a_journal_is_that_journal(tmp_path: Path) -> None:
    journal, link = tmp_path / "journal", tmp_path / "link"
    link.symlink_to(journal)

    def other(done: int, total: int) -> None:
        with pytest.raises(SweepError, match="another sweep is writing this journal"):
            swept(link)

    swept(journal, progress=other)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no such signal")
def test_a_sweep_that_is_killed_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernels, journal = tmp_path / "kernels.py", tmp_path / "journal"
    kernels.write_text(textwrap.dedent(SLOW))
    monkeypatch.setattr(sweep_run, "BLOCK", 2**12)
    script = (
        "from verify.conformance.sweeps import run\n"
        "run.BLOCK = 2**12\n"
        f"run.sweep({str(kernels)!r}, 'tanh', 'float16', journal={str(journal)!r})\n"
    )
    killed = subprocess.Popen([sys.executable, "-c", script], cwd=Path(verify.__file__).parents[1])
    deadline = time.monotonic() + 120
    while not journal.exists() or journal.read_bytes().count(b"\n") < 4:
        assert killed.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    begun = journal.read_bytes().count(b"\n")
    assert 4 <= begun < 17
    told: list[int] = []
    report = sweep(
        str(kernels), "tanh", "float16", journal=journal, progress=lambda done, total: told.append(done)
    )
    assert told[0] >= begun - 2
    assert told[-1] == 16
    assert report.tally == sweep(str(kernels), "tanh", "float16").tally


@pytest.mark.usefixtures("small_blocks")
def test_any_executor_does(tmp_path: Path) -> None:
    whole = swept()
    with ThreadPoolExecutor(3) as pool:
        assert swept(executor=pool) == whole


def test_processes_share_the_work(tmp_path: Path) -> None:
    kernels = tmp_path / "kernels.py"
    kernels.write_text("import numpy as np\n\ndef tanh(x):\n    return np.tanh(x)\n")
    assert sweep(str(kernels), "tanh", "float16", jobs=2).tally == swept()


@pytest.mark.parametrize(
    ("op", "dtype", "options", "error", "text"),
    [
        ("tanj", "float16", {}, UsageError, "no unary operator. Did you mean tanh"),
        ("softmax", "float16", {}, UsageError, "softmax has more than one number in"),
        ("gelu", "float16", {"settings": {"approximate": "tanh"}}, SweepError, "gelu of .* no approximate"),
        ("tanh", "float64", {}, UsageError, "float16, bfloat16, float32 can be visited"),
        ("tanh", "float16", {"settings": {"slope": 1.0}}, UsageError, "tanh has no such setting"),
        ("elu", "float16", {"settings": {"alpha": "much"}}, UsageError, "alpha"),
        ("tanh", "float16", {"contract": ["inside"]}, UsageError, "NAME=VALUE"),
        (
            "tanh",
            "float16",
            {"contract": ["variant=half"]},
            UsageError,
            "no such convention but the reference",
        ),
        (
            "gelu",
            "float16",
            {"contract": ["variant=half"]},
            UsageError,
            "no such convention but tanh-approximation",
        ),
        ("tanh", "float16", {"derivative": True}, SweepError, "has no tanh_vjp"),
        ("relu", "float16", {}, CandidateFails, "relu: it raises ValueError: no"),
        ("identity", "float16", {}, CandidateFails, "identity: it returns float64 of shape"),
    ],
)
def test_what_cannot_be_swept_is_refused(
    op: str, dtype: str, options: dict[str, Any], error: type[Exception], text: str
) -> None:
    def relu(x: Array) -> Array:
        raise ValueError("no")

    target = SimpleNamespace(
        tanh=np.tanh, gelu=lambda x: x, relu=relu, identity=lambda x: x.astype(np.float64)
    )
    with pytest.raises(error, match=text):
        sweep(target, op, dtype, **options)


def fussy(x: Array) -> Array:
    """It asserts what is not so of one number among all."""
    if (x == x.dtype.type(0.125)).any():
        raise ValueError("not a probability")
    return np.tanh(x)


def test_the_number_at_which_a_candidate_raises_is_told() -> None:
    with pytest.raises(CandidateFails, match=r"not a probability \(.*\), at x = 0x1\.0+p-3$"):
        sweep(SimpleNamespace(tanh=fussy), "tanh", "float16")
    report = verify.check(SimpleNamespace(tanh=fussy), ops=["tanh"], dtypes=["float16"], level="smoke")
    (found,) = [o for o in report.outcomes if o.aspect == "sweep:value"]
    assert found.verdict is verify.Verdict.FAIL
    assert "at x = 0x1.0" in found.reason


def test_what_raises_everywhere_is_blamed_on_no_number() -> None:
    def unfinished(x: Array) -> Array:
        raise NotImplementedError("soon")

    with pytest.raises(CandidateFails, match=r"NotImplementedError: soon \([^)]*\)$"):
        sweep(SimpleNamespace(tanh=unfinished), "tanh", "float16")


def test_what_raises_only_with_others_is_told_too() -> None:
    def crowded(x: Array) -> Array:
        if x.size > 3:
            raise MemoryError("too many")
        return np.tanh(x)

    with pytest.raises(CandidateFails, match=r"raises MemoryError: too many \([^)]*\)$"):
        sweep(SimpleNamespace(tanh=crowded), "tanh", "float16")


# ------------------------------------------------------------------------------------------ conventions


def one_fifth(x: Array) -> Array:
    """hard_sigmoid as Keras had it."""
    wide = x.astype(np.float32)
    return np.clip(wide * np.float32(0.2) + np.float32(0.5), 0, 1).astype(x.dtype)


def one_fifth_vjp(at_kink: float) -> Callable[[Array, Array], Array]:
    def vjp(dy: Array, x: Array) -> Array:
        wide = np.abs(x.astype(np.float32))
        slope = np.where(wide < 2.5, np.float32(0.2), np.float32(0.0))
        return (np.where(wide == 2.5, np.float32(at_kink), slope) * dy.astype(np.float32)).astype(x.dtype)

    return vjp


FIFTH = ["variant=slope-one-fifth"]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_convention_is_swept_by_its_own_definition(dtype: str) -> None:
    target = SimpleNamespace(hard_sigmoid=one_fifth, hard_sigmoid_vjp=one_fifth_vjp(0.2))
    assert sweep(target, "hard_sigmoid", dtype).verdict is verify.Verdict.FAIL
    assert sweep(target, "hard_sigmoid", dtype, contract=FIFTH).tally.errors[0] > 60_000
    report = verify.check(target, ops=["hard_sigmoid"], dtypes=[dtype], level="smoke")
    verdicts = {o.aspect: o.verdict for o in report.outcomes if o.aspect.startswith("sweep")}
    assert verdicts == {"sweep:value": verify.Verdict.PASS, "sweep:vjp": verify.Verdict.PASS}


def test_a_convention_has_the_limits_of_the_reference() -> None:
    """gelu by tanh of a candidate without the setting is named, and its NaN at minus infinity is seen."""

    def gelu(x: Array) -> Array:
        wide = x.astype(np.float32)
        with np.errstate(all="ignore"):
            inner = np.float32(np.sqrt(2.0 / np.pi)) * (wide + np.float32(0.044715) * wide**3)
            return (np.float32(0.5) * wide * (1 + np.tanh(inner))).astype(x.dtype)

    def with_limits(x: Array) -> Array:
        return np.where(np.isneginf(x), x.dtype.type(0.0), gelu(x))

    for function, verdict in ((gelu, verify.Verdict.FAIL), (with_limits, verify.Verdict.PASS)):
        report = verify.check(SimpleNamespace(gelu=function), ops=["gelu"], dtypes=["float16"], level="smoke")
        found = {o.aspect: o for o in report.outcomes}
        assert found["value"].verdict is verify.Verdict.PASS
        assert found["value"].variant.startswith("tanh-approximation")
        assert found["contract:special-values"].verdict is verdict
        assert found["sweep:value"].verdict is verdict


@pytest.mark.parametrize(("at_kink", "beyond"), [(0.2, 0), (0.0, 0), (0.7, 2)])
def test_where_the_pieces_of_a_convention_meet_either_slope_is_right(at_kink: float, beyond: int) -> None:
    target = SimpleNamespace(hard_sigmoid_vjp=one_fifth_vjp(at_kink))
    found = sweep(target, "hard_sigmoid", "float16", derivative=True, contract=FIFTH)
    assert found.tally.beyond == beyond


def test_what_is_off_the_convention_at_one_number_is_found_and_replayed() -> None:
    def hard_sigmoid(x: Array) -> Array:
        return np.where(x == 1.125, x.dtype.type(0.73), one_fifth(x))

    report = verify.check(
        SimpleNamespace(hard_sigmoid=hard_sigmoid), ops=["hard_sigmoid"], dtypes=["float16"], level="smoke"
    )
    (found,) = [o for o in report.outcomes if o.verdict is verify.Verdict.FAIL]
    assert found.aspect == "sweep:value"
    assert found.replay.endswith("contract=['variant=slope-one-fifth'])")


# ------------------------------------------------------------------------------------------- in a check


def test_a_check_in_16_bits_visits_all_numbers() -> None:
    """One number among all, which no drawn case meets."""
    for dtype, where in (("float16", 0.0123), ("bfloat16", -3.5)):
        target = SimpleNamespace(sigmoid=off_by(4, where))
        report = verify.check(target, ops=["sigmoid"], dtypes=[dtype], level="smoke")
        failed = {o.aspect: o for o in report.outcomes if o.verdict is verify.Verdict.FAIL}
        assert set(failed) == {"sweep:value"}
        found = failed["sweep:value"]
        assert found.replay == f"verify.sweep(SimpleNamespace, 'sigmoid', '{dtype}')"
        assert found.worst is not None
        assert found.worst.inputs["x"] == float(np.asarray(where).astype(numbers(0, 1, BFLOAT16).dtype if
                                                dtype == "bfloat16" else np.float16)).hex()  # fmt: skip
        assert "of all" in found.reason


def test_settings_are_swept_too_and_replayed() -> None:
    def leaky_relu(x: Array, *, slope: float = 0.01) -> Array:
        wrong = slope if slope != 0.25 else 0.26
        return np.where(x > 0, x, np.float32(wrong) * x.astype(np.float32)).astype(x.dtype)

    report = verify.check(SimpleNamespace(leaky_relu=leaky_relu), ops=["leaky_relu"], dtypes=["float16"])
    (found,) = [o for o in report.outcomes if o.aspect == "sweep:value"]
    assert (found.cases, found.failing_cases) == (3, 1)
    assert found.replay.endswith("settings={'slope': 0.25})")


# ------------------------------------------------------------------------------------------ the command


def test_the_command_prints_what_it_counted(tmp_path: Path) -> None:
    kernels, document = tmp_path / "kernels.py", tmp_path / "counts.json"
    kernels.write_text("import numpy as np\n\ndef tanh(x):\n    return np.tanh(x)\n")
    arguments = ["sweep", str(kernels), "--op", "tanh", "--dtype", "float16", "--jobs", "1"]
    done = CliRunner().invoke(app, [*arguments, "--json", str(document)])
    assert done.exit_code == 0, done.output
    assert "at most 0.5 ulp" in done.output
    assert "pass: 63,488 numbers, 2,046 NaN" in done.output
    counts = json.loads(document.read_text())
    assert counts["schema"] == "refnet.sweep/1"
    assert sum(counts["tally"]["errors"]) == counts["tally"]["inputs"] == 63488
    kernels.write_text("import numpy as np\n\ndef tanh(x):\n    return np.tanh(x) * np.float16(1.01)\n")
    sweep_run._loaded.cache_clear()
    failed = CliRunner().invoke(app, arguments)
    assert failed.exit_code == 1
    assert "beyond the bound: wrong" in failed.output
    assert CliRunner().invoke(app, ["sweep", str(kernels), "--op", "tan"]).exit_code == 2
    missing = CliRunner().invoke(app, [*arguments, "--derivative"])
    assert missing.exit_code == 3
    kernels.write_text("def tanh(x):\n    raise ValueError('no')\n")
    sweep_run._loaded.cache_clear()
    assert CliRunner().invoke(app, arguments).exit_code == 1


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_an_interrupt_says_what_is_kept(tmp_path: Path, kept: bool, jobs: str) -> None:
    """As a terminal sends it: to all processes."""
    kernels, journal, begun = tmp_path / "kernels.py", tmp_path / "journal", tmp_path / "begun"
    kernels.write_text(
        "import time\nimport pathlib\n\ndef tanh(x):\n"
        f"    pathlib.Path({str(begun)!r}).touch()\n    time.sleep(60)\n"
    )
    arguments = ["sweep", str(kernels), "--op", "tanh", "--jobs", jobs]
    arguments += ["--journal", str(journal)] if kept else []
    with subprocess.Popen(
        [sys.executable, "-m", "verify.cli", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as running:
        while not begun.exists():
            assert running.poll() is None
            time.sleep(0.01)
        os.killpg(running.pid, signal.SIGINT)
        _, told = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "Traceback" not in told
    assert ("0 of 256 blocks are in" in " ".join(told.split())) is kept
    assert ("nothing is kept without --journal" in told) is not kept


def test_a_setting_is_typed_as_it_reads(tmp_path: Path) -> None:
    kernels = tmp_path / "kernels.py"
    kernels.write_text("from refnet import gelu, leaky_relu\n")
    for op, setting in (("gelu", "approximate=tanh"), ("leaky_relu", "slope=0.25")):
        arguments = ["sweep", str(kernels), "--op", op, "--dtype", "float16", "--setting", setting]
        done = CliRunner().invoke(app, [*arguments, "--jobs", "1"])
        assert done.exit_code == 0, done.output
        name, value = setting.split("=")
        assert f"{op}({name}=" in done.output
        assert value in done.output


@pytest.mark.parametrize("function", [np.tanh, lambda x: np.where(x > 1, np.inf, np.tanh(x)).astype(x.dtype)])
def test_a_report_is_written_whole_and_as_its_schema_says(
    tmp_path: Path, function: Callable[[Array], Array]
) -> None:
    report = sweep(SimpleNamespace(tanh=function), "tanh", "float16")
    path = tmp_path / "counts.json"
    write_sweep(report, path)
    document = json.loads(path.read_text())
    assert Tally.from_json(document["tally"]) == report.tally
    schema = load_schema("sweep")
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(document, schema)
    for name, value in (("schema", "refnet.sweep/2"), ("verdict", "ok"), ("more", 1), ("edges", ["much"])):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**document, name: value}, schema)


ENDLESS = """
    import time, os, pathlib

    def tanh(x):
        (pathlib.Path(__file__).parent / f"pid-{os.getpid()}").touch()
        time.sleep(600)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no such signal")
def test_processes_end_with_the_one_that_started_them(tmp_path: Path) -> None:
    kernels = tmp_path / "kernels.py"
    kernels.write_text(textwrap.dedent(ENDLESS))
    arguments = ["sweep", str(kernels), "--op", "tanh", "--dtype", "float16", "--jobs", "2"]
    killed = subprocess.Popen([sys.executable, "-m", "verify.cli", *arguments])
    deadline = time.monotonic() + 120
    while not (there := [int(path.name[4:]) for path in tmp_path.glob("pid-*")]):
        assert killed.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    killed.kill()
    killed.wait()
    while any(map(_is_running, there)):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2] if Path("/proc").exists() else True
