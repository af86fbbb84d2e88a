"""Tables of correctly rounded results at all 65,536 numbers of a 16-bit format.

A table is a memory of what certified arithmetic has found, never a source of its own: its name has a digest
of the code that the results follow from, and its contents are checked against their own digest, so that a
table that is stale or damaged is computed anew.
"""

from __future__ import annotations

import os
import zlib
from dataclasses import replace
from functools import lru_cache
from hashlib import sha256
from importlib import resources
from importlib.metadata import version
from pathlib import Path

import numpy as np
from platformdirs import user_cache_path

from verify.arithmetic.contracts import DEFAULTS
from verify.arithmetic.formats import Format, Truth
from verify.arithmetic.interpolants import numbers
from verify.conformance.sweeps.question import Question
from verify.files import write_whole

FOLDER = "REFNET_CACHE"
"""The environment variable that names another folder than the user's cache."""

NUMBERS = 2**16
DIGEST = sha256().digest_size

ALIKE = 256
"""Neighbours that are certified together, all at the precision that one of them needs."""

CODE = ("specs", "verify.arithmetic")
"""The packages that the results follow from."""


def table(question: Question) -> Truth:
    """The truth at all numbers, in the order of their bit patterns; NaN where a number is not finite."""
    convention = "" if question.variant is None else question.variant.name
    promised = replace(DEFAULTS[question.fmt.name], variant=convention)
    return _table(replace(question, contract=promised))


@lru_cache(maxsize=64)
def _table(question: Question) -> Truth:
    path = folder() / f"{_name(question)}.table"
    found = _read(path, question.fmt)
    if found is None:
        found = _computed(question)
        _keep(path, found)
    return found


def folder() -> Path:
    """Where the tables are."""
    given = os.environ.get(FOLDER)
    return Path(given) if given else user_cache_path("refnet")


def _name(question: Question) -> str:
    """What it is, and a digest of all that it follows from."""
    digest = sha256(code())
    convention = question.contract.variant
    digest.update(repr((question.settings, convention, version("python-flint"))).encode())
    kind = "derivative" if question.derivative else "value"
    return f"{question.op}-{kind}-{question.fmt.name}-{digest.hexdigest()[:20]}"


@lru_cache(maxsize=2)
def code(packages: tuple[str, ...] = CODE) -> bytes:
    """A digest of the sources of some packages."""
    sources = (item for package in packages for item in resources.files(package).iterdir())
    files = sorted((item for item in sources if item.name.endswith(".py")), key=str)
    return b"".join(sha256(item.read_bytes()).digest() for item in files)


def _computed(question: Question) -> Truth:
    x = numbers(0, NUMBERS, question.fmt)
    with np.errstate(invalid="ignore"):  # ml_dtypes raises the flag for a NaN that signals
        finite = np.isfinite(x)
    nearest, fraction = np.full(NUMBERS, np.nan, question.fmt.dtype), np.zeros(NUMBERS)
    for part in np.array_split(np.flatnonzero(finite), NUMBERS // ALIKE):
        truth = question.certified(x[part], question.fmt)
        nearest[part], fraction[part] = truth.nearest, truth.fraction
    return Truth(nearest, fraction)


# -------------------------------------------------------------------------------------------------- files


def _read(path: Path, fmt: Format) -> Truth | None:
    """The table of a file; None where there is none, or one that is not whole. Nothing is read of it before
    its digest is right."""
    try:
        found = path.read_bytes()
    except OSError:
        return None
    digest, packed = found[:DIGEST], found[DIGEST:]
    if sha256(packed).digest() != digest:
        return None
    numbers_and_rest = zlib.decompress(packed)
    bits = np.frombuffer(numbers_and_rest[: 2 * NUMBERS], dtype=np.uint16)
    return Truth(bits.view(fmt.dtype), np.frombuffer(numbers_and_rest[2 * NUMBERS :], dtype=np.float64))


def _keep(path: Path, truth: Truth) -> None:
    """Write the file, if there is a place for it: the next table is then read, and otherwise computed."""
    packed = zlib.compress(truth.nearest.view(np.uint16).tobytes() + truth.fraction.tobytes())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, lambda file: file.write(sha256(packed).digest() + packed))
    except OSError:
        return
