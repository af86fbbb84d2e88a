"""Files that are written whole or not at all: a reader never meets half of one."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def write_whole(path: str | os.PathLike[str], write: Callable[[BinaryIO], object]) -> None:
    """Call `write` on a file beside the target, which then takes its name.

    A target that is no regular file (`/dev/stdout`, a pipe) cannot be replaced, and is written to.

    Raises:
        OSError: the file cannot be written; what stood there before still stands.
    """
    if _is_special(path):
        with Path(path).open("wb") as file:
            write(file)
        return
    beside = _beside(path)
    try:
        with beside.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(Path(path).resolve())
    finally:
        beside.unlink(missing_ok=True)


def ensure_writable(path: str | os.PathLike[str]) -> None:
    """Find out before long work whether `write_whole` will be able to write, by writing nothing.

    Raises:
        OSError: the file cannot be written: a directory stands there, or its folder is missing or closed.
    """
    if Path(path).is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if _is_special(path):  # opening a pipe and closing it again would be the end of the file for its reader
        if not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return
    beside = _beside(path)
    try:
        with beside.open("wb"):
            pass
    finally:
        beside.unlink(missing_ok=True)


def _is_special(path: str | os.PathLike[str]) -> bool:
    """Asked of the path as given: `/dev/stdout` resolves to a name that does not exist when it is a pipe."""
    return Path(path).exists() and not Path(path).is_file()


def _beside(path: str | os.PathLike[str]) -> Path:
    target = Path(path).resolve()  # the file behind a link is replaced, not the link
    return target.with_name(f".{target.name}.{os.getpid()}.tmp")
