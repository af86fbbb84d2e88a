"""Right: everything in a wider format, and one rounding at the end."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from tests.candidates import plain

Array = Any
WIDER = {"float16": np.float32, "float32": np.float64, "float64": np.longdouble}


def _mapped(value: Any, change: Callable[[Array], Array]) -> Any:
    if isinstance(value, list | tuple):
        return [_mapped(item, change) for item in value]
    return change(value) if isinstance(value, np.ndarray | np.floating) else value


def _run(function: Callable[..., Any], *arguments: Any, **settings: Any) -> Any:
    first = arguments[0] if isinstance(arguments[0], np.ndarray) else arguments[0][0][0]
    kind = first.dtype
    wide = _mapped(arguments, lambda a: a.astype(WIDER[kind.name]) if a.dtype == kind else a)
    return _mapped(function(*wide, **settings), lambda a: a.astype(kind))


class Widened:
    """The functions of `plain`, each run in the wider format."""

    __name__ = "in a wider format"

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return partial(_run, getattr(plain, name))
