"""The candidate: a foreign implementation, found by path, dotted name, adapter or object."""

from __future__ import annotations

import importlib
import importlib.util
import os
import shlex
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import packages_distributions, version
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from specs import SPECS
from verify.conformance.adapters import ADAPTERS
from verify.conformance.contract import told
from verify.conformance.findings import Swept
from verify.conformance.network import NETWORK_FUNCTIONS


class TargetError(Exception):
    """The check itself could not run: the target cannot be loaded, or has nothing to check."""


class UsageError(Exception):
    """The command or the call was given something that does not exist."""


class Place(NamedTuple):
    """All that determines a case, beside the target: one that was drawn, or all numbers of the format."""

    op: str
    dtype: str
    level: str
    seed: int
    case: int
    contract: tuple[str, ...] = ()
    """What is promised other than the default."""
    swept: Swept | None = None

    @property
    def promises(self) -> list[str]:
        """What is promised, the convention included that was recognised before all numbers were visited."""
        recognised = "" if self.swept is None else self.swept.convention
        named = [f"variant={recognised}"] if recognised else []
        return [*(p for p in self.contract if not (named and p.startswith("variant="))), *named]


Replay = Callable[[Place], str]
"""How a reader runs one case again."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """The functions of the contract that a target has: `NAME` and, for gradients, `NAME_vjp`."""

    name: str
    version: str
    functions: Mapping[str, Callable[..., Any]]
    notes: tuple[str, ...]
    replay: Replay
    packages: Mapping[str, str] = field(default_factory=dict)
    """The installed package that it belongs to, and its version, if there is one."""


def load(target: object) -> Candidate:
    """Find the functions of a module path, a dotted name, the name of an adapter, or any object.

    Raises:
        UsageError: the name stands for nothing.
        TargetError: the module cannot be imported, or has no function of the contract.
    """
    if isinstance(target, os.PathLike):
        target = os.fspath(target)
    if not isinstance(target, str):
        name = getattr(target, "__name__", None)
        name = name if isinstance(name, str) else type(target).__name__
        found = _of_object(target, name, partial(_replay_of_object, name))
        return replace(found, packages=_packages(name)) if isinstance(target, ModuleType) else found
    found = _of_object(_module(target), target, partial(_replay_of_command, target))
    return replace(found, packages=_packages(target))


def _packages(target: str) -> Mapping[str, str]:
    """The packages that a module or an adapter belongs to, with their versions; none for a lone file."""
    if target in ADAPTERS:
        names = [ADAPTERS[target].needs]
    else:
        names = packages_distributions().get(target.partition(".")[0], [])
    return {name: version(name) for name in names}


def _replay_of_command(target: str, place: Place) -> str:
    words = ["refnet", "check", target, "--op", place.op, "--dtype", place.dtype]
    if place.swept is None:
        words += ["--level", place.level, "--seed", str(place.seed), "--case", str(place.case)]
    else:
        words[1] = "sweep"
        words += ["--derivative"] * place.swept.derivative
        words += [word for name, value in place.swept.settings for word in ("--setting", f"{name}={value}")]
    words += [word for option in place.promises for word in ("--contract", option)]
    return shlex.join(words)


def _replay_of_object(name: str, place: Place) -> str:
    promised = f", contract={place.promises}" if place.promises else ""
    if place.swept is not None:
        derivative, settings, _ = place.swept
        options = f", {derivative=}" if derivative else ""
        options += f", settings={dict(settings)}" if settings else ""
        return f"verify.sweep({name}, {place.op!r}, {place.dtype!r}{options}{promised})"
    ops, dtypes, level, seed, case = [place.op], [place.dtype], place.level, place.seed, place.case
    return f"verify.check({name}, {ops=}, {dtypes=}, {level=}, {seed=}, {case=}{promised})"


def _module(target: str) -> ModuleType:
    if target in ADAPTERS:
        adapter = ADAPTERS[target]
        remedy = f". The adapter needs {adapter.needs}: pip install 'refnet[{adapter.extra}]'."
        return _import(target, lambda: importlib.import_module(adapter.module), remedy)
    if target.endswith(".py") or target.startswith(".") or "/" in target or os.sep in target:
        if not os.path.isfile(target):
            wrong = "this is no file" if os.path.exists(target) else "there is no such file"
            raise UsageError(f"{target}: {wrong}. Give the path of a Python file.")
        return _import(target, lambda: _from_path(Path(target)))
    if not _exists(target):
        raise UsageError(
            f"{target or 'an empty name'}: no such module. Give the path of a Python file, the dotted "
            f"name of an installed module, or the name of an adapter: {', '.join(ADAPTERS)}."
        )
    return _import(target, lambda: importlib.import_module(target))


def _exists(dotted: str) -> bool:
    """Whether there is such a module; one whose package breaks while it is looked for does exist."""
    try:
        return importlib.util.find_spec(dotted) is not None
    except KeyboardInterrupt:
        raise
    except ModuleNotFoundError as error:
        return not f"{dotted}.".startswith(f"{error.name}.")
    except ValueError:  # an empty name, or a module without a spec
        return dotted in sys.modules
    except BaseException:
        return True


def _import(target: str, load_module: Callable[[], ModuleType], remedy: str = "") -> ModuleType:
    """Import, and put back what that may change for all: how warnings and floating-point errors are met."""
    try:
        with warnings.catch_warnings(), np.errstate():
            warnings.simplefilter("ignore")
            return load_module()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a foreign module may raise anything, SystemExit included
        missing = remedy if isinstance(error, ModuleNotFoundError) else ""
        raise TargetError(f"{target} does not import: {told(error)}{missing}") from error


def _from_path(path: Path) -> ModuleType:
    """A module from a file; its neighbours can be imported while it is executed."""
    name = f"refnet_candidate_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(path.parent.resolve()))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent.resolve()))
    return module


def _of_object(target: object, name: str, replay: Replay) -> Candidate:
    known = (*SPECS, *NETWORK_FUNCTIONS)
    functions: dict[str, Callable[..., Any]] = {}
    for wanted in known:
        function = _attribute(target, name, wanted)
        vjp = _attribute(target, name, f"{wanted}_vjp")
        if vjp is None:
            vjp = _attribute(function, f"{name}.{wanted}", "vjp")
        if callable(function):
            functions[wanted] = function
        if callable(vjp):
            functions[f"{wanted}_vjp"] = vjp
    if not functions:
        raise TargetError(
            f"{name} has no function of the contract, so nothing can be checked. Name the functions "
            f"after the contract: {', '.join(known)}; and NAME_vjp(dy, inputs...) for gradients."
        )
    stated, notes = _attribute(target, name, "__version__"), _attribute(target, name, "NOTES")
    return Candidate(
        name,
        "" if stated is None else str(stated),
        functions,
        tuple(map(str, notes)) if isinstance(notes, tuple | list) else (),
        replay,
    )


def _attribute(target: object, name: str, wanted: str) -> Any:
    """An attribute or None; looking for one can run foreign code, which may raise anything."""
    try:
        return getattr(target, wanted, None)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise TargetError(f"{name}.{wanted} cannot be read: {told(error)}") from error
