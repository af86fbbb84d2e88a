"""The candidate: a foreign implementation, found by path, dotted name, adapter or object."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from specs import SPECS
from verify.conformance.network import NETWORK_FUNCTIONS

ADAPTERS: Mapping[str, str] = {"sklearn": "verify.conformance.adapters.sklearn"}
"""The shipped adapters by the name that the command takes."""


class TargetError(Exception):
    """The check itself could not run: the target cannot be loaded, or has nothing to check."""


class UsageError(Exception):
    """The command or the call was given something that does not exist."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """The functions of the contract that a target has: `NAME` and, for gradients, `NAME_vjp`."""

    name: str
    version: str
    functions: Mapping[str, Callable[..., Any]]
    notes: tuple[str, ...] = ()


def load(target: object) -> Candidate:
    """Find the functions of a module path, a dotted name, the name of an adapter, or any object.

    Raises:
        UsageError: the name stands for nothing.
        TargetError: the module cannot be imported, or has no function of the contract.
    """
    if not isinstance(target, str):
        return _of_object(target, getattr(target, "__name__", type(target).__name__))
    if target in ADAPTERS:
        module = _import(target, lambda: importlib.import_module(ADAPTERS[target]))
    elif target.endswith(".py") or "/" in target:
        path = Path(target)
        if not path.is_file():
            raise UsageError(f"{target}: there is no such file. Give the path of a Python module.")
        module = _import(target, lambda: _from_path(path))
    elif _exists(target):
        module = _import(target, lambda: importlib.import_module(target))
    else:
        adapters = ", ".join(ADAPTERS)
        raise UsageError(
            f"{target}: no such module. Give the path of a Python file, the dotted name of an installed "
            f"module, or one of the adapters: {adapters}."
        )
    return _of_object(module, target)


def _exists(dotted: str) -> bool:
    try:
        return importlib.util.find_spec(dotted) is not None
    except (ImportError, ValueError):
        return False


def _import(target: str, load_module: Callable[[], ModuleType]) -> ModuleType:
    try:
        return load_module()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a foreign module may raise anything, SystemExit included
        raise TargetError(f"{target} does not import: {type(error).__name__}: {error}") from error


def _from_path(path: Path) -> ModuleType:
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


def _of_object(target: object, name: str) -> Candidate:
    functions: dict[str, Callable[..., Any]] = {}
    for wanted in (*SPECS, *NETWORK_FUNCTIONS):
        function = getattr(target, wanted, None)
        if callable(function):
            functions[wanted] = function
        vjp = getattr(target, f"{wanted}_vjp", None) or getattr(function, "vjp", None)
        if callable(vjp):
            functions[f"{wanted}_vjp"] = vjp
    if not functions:
        known = ", ".join((*SPECS, *NETWORK_FUNCTIONS))
        raise TargetError(
            f"{name} has no function of the contract, so nothing can be checked. Name the functions "
            f"after the contract: {known}; and NAME_vjp(dy, inputs...) for gradients."
        )
    version = str(getattr(target, "__version__", ""))
    return Candidate(name, version, functions, tuple(getattr(target, "NOTES", ())))


def accepted_settings(function: Callable[..., Any]) -> frozenset[str] | None:
    """The keyword arguments that a function takes; None when it takes any, or does not say."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return frozenset(
        parameter.name
        for parameter in parameters
        if parameter.kind in (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    )
