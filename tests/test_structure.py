"""The house: which file may import what, and that specifications and operators match one to one."""

from __future__ import annotations

import ast
import fnmatch
import inspect
import io
import math
import subprocess
import sys
import tokenize
import tomllib
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import refnet
import verify
from refnet import OPS, Operator
from specs import SPECS, Domain, Spec
from verify.laws.laws import LAWS, laws_of

ROOT = Path(__file__).parent.parent
PACKAGES = ("refnet", "verify", "specs")
FILES = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in (*PACKAGES, "tests")
    for path in (ROOT / folder).rglob("*.py")
)
BOUNDARY = ("specs/maths.py", "verify/arithmetic/*.py", "verify/conformance/adapters/*.py")
"""Where libraries without types meet ours: the one place for `type: ignore`."""

# ------------------------------------------------------------------------------------------ rules of a file


@dataclass(frozen=True, slots=True)
class Rule:
    """What no file may do: `violations` finds it in a source text, and is shown to find what is `planted`."""

    statement: str
    violations: Callable[[str, str], Iterator[str]]
    planted: tuple[tuple[str, str], ...]


THIRD_PARTIES = {
    "hypothesis": ("verify/*",),
    "ml_dtypes": ("verify/*",),
    "filelock": ("verify/conformance/sweeps/run.py",),
    "platformdirs": ("verify/conformance/sweeps/tables.py",),
    "rich": ("verify/*",),
    "typer": ("verify/cli.py",),
    "sympy": ("specs/maths.py", "verify/arithmetic/*.py"),
    "flint": ("specs/maths.py", "verify/arithmetic/*.py"),
    "sklearn": ("verify/conformance/adapters/sklearn.py",),
    "torch": ("verify/conformance/adapters/torch.py",),
    "jax": ("verify/conformance/adapters/jax.py",),
    "onnx": ("verify/conformance/adapters/onnxruntime.py",),
    "onnxruntime": ("verify/conformance/adapters/onnxruntime.py",),
    "matplotlib": ("verify/reports/*.py",),
}
"""The libraries beside NumPy, and the files that may know of them."""

OWN = {"specs": {"specs"}, "refnet": {"refnet"}, "verify": {"verify", "specs", "refnet"}}
"""What each package may import of the project: specs and refnet never see each other."""


def imported(source: str) -> Iterator[str]:
    """The top-level names of all imports, wherever they stand, those by a function included."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from (alias.name.partition(".")[0] for alias in names)
            case ast.ImportFrom(module=str(module), level=0):
                yield module.partition(".")[0]
            case ast.ImportFrom(level=level) if level:
                yield "a relative import"
            case ast.Call(func=ast.Name("__import__") | ast.Attribute(attr="__import__")):
                yield "__import__"
            case ast.Call(func=ast.Name("import_module") | ast.Attribute(attr="import_module")):
                yield "import_module"


def matches(path: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)


def forbidden_imports(path: str, source: str) -> Iterator[str]:
    package = path.partition("/")[0]
    if package == "tests":
        return
    for name in imported(source):
        if name == "import_module" and package == "verify":
            continue  # a target is imported by its name
        known = name in OWN[package] or name == "numpy" or name in sys.stdlib_module_names
        if not known and not matches(path, THIRD_PARTIES.get(name, ())):
            yield f"{path} imports {name}"


LAYERS = ("arithmetic", "laws", "reports", "mistakes", "conformance")
"""The parts of verify, of which each knows those before it alone; `gradients`, the checker of anybody's
gradients, stands beside them and knows none."""

TOOLS = ("files", "processes", "suggestions")
"""Modules for all parts, which know nothing of verify."""

OVER_ALL = ("__init__", "cli", "selfcheck")


def upward_imports(path: str, source: str) -> Iterator[str]:
    """What a part of verify may not know of: the parts above it, and the command and the API over all."""
    package, _, rest = path.partition("/")
    part = rest.partition("/")[0].removesuffix(".py")
    if package != "verify" or part in OVER_ALL:
        return
    if part in LAYERS:
        known = {*LAYERS[: LAYERS.index(part) + 1], *TOOLS}
    elif part == "gradients" or part in TOOLS:
        known = {part}
    else:
        yield f"{path} is of no part that is known"
        return
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.ImportFrom(module="verify"):
                names = [f"verify.{alias.name}" for alias in node.names]
            case ast.ImportFrom(module=str(module)):
                names = [module]
            case ast.Import():
                names = [alias.name for alias in node.names]
            case _:
                continue
        met = {(f"{name}.").split(".")[1] for name in names if name.partition(".")[0] == "verify"}
        yield from (f"{path} imports verify.{name}" for name in sorted(met - known))


def untyped_names(path: str, source: str) -> Iterator[str]:
    """Any and cast, in the package whose types are the product."""
    if not path.startswith("refnet/"):
        return
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.ImportFrom(module="typing" | "typing_extensions", names=names):
                yield from (f"{path} imports {a.name}" for a in names if a.name in ("Any", "cast"))
            case ast.Attribute(value=ast.Name("typing" | "t"), attr="Any" | "cast" as name):
                yield f"{path} uses typing.{name}"


def ignored_types(path: str, source: str) -> Iterator[str]:
    if matches(path, BOUNDARY):
        return
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and token.string.lstrip("# ").startswith(("type: ignore", "mypy:")):
            yield f"{path}:{token.start[0]} has {token.string}"


OTHER_JUDGES = ("tests/benchmarks/calibration.py",)
"""What measures how often such tolerances are wrong."""


def typed_in_tolerances(path: str, source: str) -> Iterator[str]:
    if path in OTHER_JUDGES:
        return
    names = {"allclose", "isclose", "assert_allclose", "assert_almost_equal", "rtol", "atol"}
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Attribute(attr="approx") | ast.Name("approx"), keywords=keywords):
                if "abs" not in (keyword.arg for keyword in keywords):
                    yield f"{path} uses approx with its own tolerance of one in a million"
            case ast.Name(name) | ast.Attribute(attr=name) | ast.keyword(arg=name) if name in names:
                yield f"{path} uses {name}"


RANDOM_ON_PURPOSE = ("tests/test_gradcheck.py",)
"""A function that gives other numbers at every call, so that this is found."""


def hidden_randomness(path: str, source: str) -> Iterator[str]:
    """Anything random without an explicit seed: `random`, NumPy's global generator, an unseeded one."""
    allowed = {"default_rng", "Generator", "SeedSequence", "BitGenerator"}
    if "random" in imported(source):
        yield f"{path} imports random"
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Attribute(value=ast.Attribute(value=ast.Name("np"), attr="random"), attr=name):
                if name not in allowed:
                    yield f"{path} uses np.random.{name}"
            case ast.Call(func=ast.Attribute(attr="default_rng"), args=[], keywords=[]):
                if path in RANDOM_ON_PURPOSE:
                    continue
                yield f"{path} makes a generator without a seed"


RULES = (
    Rule(
        "imports go one way",
        forbidden_imports,
        (
            ("specs/x.py", "import refnet"),
            ("specs/x.py", "from sympy import exp"),
            ("specs/x.py", "def f():\n    from verify.laws import laws"),
            ("refnet/x.py", "from specs.spec import Spec"),
            ("refnet/x.py", "import numpy as np, flint"),
            ("refnet/x.py", "from . import op"),
            ("refnet/x.py", "importlib.import_module('specs')"),
            ("verify/laws/x.py", "import sympy"),
            ("verify/x.py", "from tests import test_structure"),
            ("verify/reports/x.py", "import pandas"),
            ("verify/conformance/x.py", "from sklearn import datasets"),
            ("verify/conformance/adapters/sklearn.py", "import torch"),
        ),
    ),
    Rule(
        "the parts of verify are layers",
        upward_imports,
        (
            ("verify/arithmetic/x.py", "from verify.laws.laws import laws_of"),
            ("verify/reports/x.py", "from verify.conformance.network import draw"),
            ("verify/reports/x.py", "import verify.conformance.network"),
            ("verify/laws/x.py", "def f():\n    from verify import mistakes"),
            ("verify/laws/x.py", "from verify import check"),
            ("verify/laws/x.py", "import verify"),
            ("verify/laws/x.py", "from verify import *"),
            ("verify/files.py", "from verify.reports import Report"),
            ("verify/new/x.py", ""),
            ("verify/conformance/x.py", "from verify.cli import main"),
            ("verify/gradients/x.py", "from verify.arithmetic.formats import FORMATS"),
        ),
    ),
    Rule(
        "refnet has no Any and no cast",
        untyped_names,
        (
            ("refnet/x.py", "from typing import Any"),
            ("refnet/x.py", "from typing import Final, cast"),
            ("refnet/x.py", "import typing\nx: typing.Any = 1"),
        ),
    ),
    Rule(
        "types are ignored only at the boundary",
        ignored_types,
        (
            ("refnet/x.py", "x = 1  # type: ignore"),
            ("tests/x.py", "x = 1  # type: ignore[assignment]"),
            ("verify/laws/x.py", "# mypy: ignore-errors"),
        ),
    ),
    Rule(
        "no tolerance is typed in by hand",
        typed_in_tolerances,
        (
            ("tests/x.py", "assert np.allclose(a, b)"),
            ("tests/x.py", "np.testing.assert_allclose(a, b)"),
            ("verify/x.py", "compare(a, b, rtol=1e-5)"),
            ("tests/x.py", "assert a == pytest.approx(b)"),
        ),
    ),
    Rule(
        "nothing is random without a seed",
        hidden_randomness,
        (
            ("tests/x.py", "rng = np.random.default_rng()"),
            ("refnet/x.py", "w = np.random.randn(3)"),
            ("verify/x.py", "import random"),
        ),
    ),
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.statement)
def test_every_file_obeys(rule: Rule) -> None:
    broken = [v for path in FILES for v in rule.violations(path, (ROOT / path).read_text(encoding="utf-8"))]
    assert not broken, "\n".join(broken)


@pytest.mark.parametrize(
    ("rule", "path", "source"),
    [(rule, path, source) for rule in RULES for path, source in rule.planted],
    ids=lambda value: value.statement if isinstance(value, Rule) else None,
)
def test_a_planted_violation_is_found(rule: Rule, path: str, source: str) -> None:
    assert list(rule.violations(path, source))


def test_the_files_are_found() -> None:
    assert {path.partition("/")[0] for path in FILES} == {*PACKAGES, "tests"}
    assert "verify/arithmetic/bounds.py" in FILES


def test_third_parties_are_declared() -> None:
    """What verify imports is what an installation brings, or an extra that a message names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    of_extras = [line for extra in OPTIONAL.values() for line in extras[extra]]
    declared = " ".join([*project["dependencies"], *of_extras])
    distributions = {"flint": "python-flint", "sklearn": "scikit-learn", "ml_dtypes": "ml-dtypes"}
    for name in THIRD_PARTIES:
        assert distributions.get(name, name) in declared


# -------------------------------------------------------------------------- what an import brings with it


def third_parties_after(statement: str) -> set[str]:
    """The packages outside the standard library that a fresh interpreter has loaded after a statement."""
    code = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    at_start = subprocess.run(
        [sys.executable, "-c", "import sys; print(*{name.partition('.')[0] for name in sys.modules})"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(run.stdout.split()) - set(at_start.stdout.split()) - set(sys.stdlib_module_names)


def test_importing_refnet_loads_nothing_but_numpy() -> None:
    assert third_parties_after("import refnet") == {"refnet", "numpy"}


def test_importing_verify_loads_nothing_until_it_is_used() -> None:
    assert third_parties_after("import verify") == {"verify"}
    assert "sympy" in third_parties_after("import verify; verify.check")


def test_every_public_name_is_there() -> None:
    for package in (refnet, verify):
        assert sorted(set(package.__all__)) == sorted(package.__all__)
        assert set(package.__all__) <= set(dir(package))
        assert all(getattr(package, name) is not None for name in package.__all__)
    with pytest.raises(AttributeError, match="module 'verify' has no attribute 'chekc'"):
        _ = getattr(verify, "chekc")  # noqa: B009


def test_the_command_starts_without_the_heavy_libraries() -> None:
    loaded = third_parties_after("import verify.cli")
    assert not loaded & {"sympy", "flint", "hypothesis", "sklearn", "scipy", "matplotlib"}


# ---------------------------------------------------------------------------- specifications and operators


def tables(package: str, name: str) -> set[str]:
    """The files of a package that end in a table of this name."""
    return {
        path.stem
        for path in (ROOT / package).glob("*.py")
        if path.stem != "__init__" and assigns(path.read_text(encoding="utf-8"), name)
    }


def assigns(source: str, name: str) -> bool:
    return any(
        isinstance(node, ast.Assign | ast.AnnAssign)
        and name in (t.id for t in ast.walk(node) if isinstance(t, ast.Name) and isinstance(t.ctx, ast.Store))
        for node in ast.parse(source).body
    )


def test_tables_are_recognised() -> None:
    assert assigns("OPS = (relu,)", "OPS")
    assert assigns("OPS: tuple[int, ...] = (1,)", "OPS")
    assert not assigns("def f():\n    OPS = 1", "OPS")
    assert not assigns("x = OPS", "OPS")


def test_files_of_specifications_and_of_operators_have_the_same_stems() -> None:
    assert tables("specs", "SPECS") == tables("refnet", "OPS")
    assert "activations" in tables("specs", "SPECS")


def test_no_table_is_forgotten() -> None:
    for package, name, all_of_them in (("specs", "SPECS", SPECS), ("refnet", "OPS", OPS)):
        rows = [
            row for stem in tables(package, name) for row in getattr(import_module(f"{package}.{stem}"), name)
        ]
        assert sorted(row.name for row in rows) == sorted(all_of_them)
        assert all(all_of_them[row.name] is row for row in rows)


def disagreements(spec: Spec, op: Operator) -> Iterator[str]:
    """Where a specification and the operator of its name say different things."""
    settings = {
        name: parameter
        for name, parameter in inspect.signature(op.forward).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    gradients: Any = typing.get_type_hints(op.backward)["return"]
    pairs: tuple[tuple[str, object, object], ...] = (
        ("name", spec.name, op.name),
        ("signature", spec.signature, op.signature),
        ("arguments", tuple(item.name for item in spec.inputs), op.arguments),
        ("integers", tuple(i.name for i in spec.inputs if i.domain.is_integer), op.integers),
        ("masks", tuple(i.name for i in spec.inputs if i.domain is Domain.MASK), op.masks),
        ("settings", [setting.name for setting in spec.settings], list(settings)),
        ("gradients", tuple(spec.inputs[k].name for k in spec.differentiable), gradients._fields),
    )
    for what, specified, actual in pairs:
        if specified != actual:
            yield f"{spec.name}: {what}: specified {specified}, but the operator has {actual}"
    for setting in spec.settings:
        default = settings[setting.name].default if setting.name in settings else inspect.Parameter.empty
        if default is not inspect.Parameter.empty and default != setting.default:
            yield f"{spec.name}: the default of {setting.name}: specified {setting.default}, but is {default}"


def test_every_specification_has_an_operator_and_conversely() -> None:
    assert list(SPECS) == list(OPS)


@pytest.mark.parametrize("name", SPECS)
def test_specification_and_operator_agree(name: str) -> None:
    assert not list(disagreements(SPECS[name], OPS[name]))


@pytest.mark.parametrize(
    "change",
    [
        {"name": "softmin"},
        {"signature": "(n)->(n)"},
        {"inputs": ()},
        {"inputs": (replace(SPECS["softmax"].inputs[0], domain=Domain.INDEX),)},
        {"inputs": (replace(SPECS["softmax"].inputs[0], domain=Domain.MASK),)},
        {"settings": ()},
        {"inputs": (replace(SPECS["softmax"].inputs[0], differentiable=False),)},
        {"settings": (replace(SPECS["softmax"].settings[0], values=(0, -1)),)},
    ],
    ids=str,
)
def test_a_disagreement_is_found(change: dict[str, Any]) -> None:
    assert list(disagreements(replace(SPECS["softmax"], **change), OPS["softmax"]))


def test_every_law_of_a_specification_exists_and_every_law_has_a_use() -> None:
    named = {law for spec in SPECS.values() for law in spec.laws}
    assert named <= set(LAWS)
    assert {law.name for spec in SPECS.values() for law in laws_of(spec)} == set(LAWS)


PRIME_TO_TWELVE = "a plan moves on by twelve: their number must be prime to it, or a regime keeps one shape"


def test_every_specification_is_complete() -> None:
    for spec in SPECS.values():
        usual = set(spec.free_axes) <= {"c"} or spec.free_axes == ("n", "k", "m")
        assert usual or spec.shapes, f"{spec.name}: the checks know no sizes for {spec.free_axes}"
        assert not spec.shapes or math.gcd(len(spec.shapes), 12) == 1, f"{spec.name}: {PRIME_TO_TWELVE}"
        assert all(set(sizes) == set(spec.free_axes) for sizes in spec.shapes), spec.name
        assert all(set(settings) == set(spec.defaults) for settings in spec.combinations), spec.name
        assert dict(spec.all_settings[0]) == spec.defaults, spec.name
        for setting in spec.settings:
            assert {settings[setting.name] for settings in spec.all_settings} == set(setting.values), (
                spec.name
            )
        assert spec.summary.endswith(".")
        assert spec.cases, spec.name
        assert len({case.why for case in spec.cases}) == len(spec.cases)


# --------------------------------------------------------------------------------------------- the folders


def strangers(names: list[str], ignored: list[str]) -> list[str]:
    """What does not belong at the top level."""
    known = {"pyproject.toml", "README.md", "LICENSE", "refnet", "verify", "specs", "tests"}
    return [
        name
        for name in names
        if name not in known
        and not name.startswith(".")
        and not any(fnmatch.fnmatchcase(name, pattern.rstrip("/")) for pattern in ignored)
    ]


def test_the_top_level_holds_nothing_else() -> None:
    ignored = (ROOT / ".gitignore").read_text().split()
    assert not strangers([path.name for path in ROOT.iterdir()], ignored)
    assert strangers(["README.md", ".git", "build", "utils", "notes.md"], ignored) == ["utils", "notes.md"]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_carries_its_types(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()


DISTRIBUTIONS = {"sklearn": "scikit-learn", "flint": "python-flint", "ml_dtypes": "ml-dtypes"}
"""The distributions whose names are not those of what is imported from them."""

OPTIONAL = {
    "sklearn": "sklearn",
    "torch": "torch",
    "jax": "jax",
    "onnx": "onnx",
    "onnxruntime": "onnxruntime",
    "matplotlib": "plot",
}
"""The libraries that come with an extra, and its name; all others come with the package."""


def test_every_library_that_is_imported_is_a_dependency() -> None:
    """The wheel is tested beside the libraries of the test environment, which would hide one not declared."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for library in ("numpy", *THIRD_PARTIES):
        extra = OPTIONAL.get(library)
        declared = project["optional-dependencies"][extra] if extra else project["dependencies"]
        distribution = DISTRIBUTIONS.get(library, library)
        assert any(line.startswith((f"{distribution}>=", f"{distribution}==")) for line in declared), library
