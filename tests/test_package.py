"""The built wheel, installed outside the repository, is all that a user needs."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("refnet", "verify", "specs")


@dataclass(frozen=True, slots=True)
class Installation:
    """A virtual environment that has the wheel, and a folder elsewhere to work in."""

    wheel: Path
    environment: Path
    folder: Path

    def run(self, *command: str | Path, program: str = "python") -> subprocess.CompletedProcess[str]:
        return run([self.environment / "bin" / program, *command], self.folder)


def run(command: Sequence[str | Path], folder: Path) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MYPYPATH")}
    return subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """The wheel, built from the source distribution, in an environment of its own.

    The libraries that refnet depends on are those of the running environment, by its folder on the path.
    A folder that a .pth file names is not searched for further .pth files, so an editable installation of
    the repository does not come along; and it stands after the environment's own folder.
    """
    folder = tmp_path_factory.mktemp("elsewhere")
    built = run([sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "dist", ROOT], folder)
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = (folder / "dist").glob("*.whl")
    environment = folder / "venv"
    venv.create(environment, with_pip=False, symlinks=True)
    python = environment / "bin" / "python"
    installed = run(
        [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel], folder
    )
    assert installed.returncode == 0, installed.stderr
    libraries = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site_packages,) = environment.glob("lib/python*/site-packages")
    (site_packages / "libraries.pth").write_text("\n".join(sorted(libraries)))
    return Installation(wheel, environment, folder)


def test_the_wheel_has_every_file_of_the_packages_and_no_other(installation: Installation) -> None:
    with zipfile.ZipFile(installation.wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
        licences = [name for name in archive.namelist() if name.endswith("/LICENSE")]
    there = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert packed == there
    assert {f"{package}/py.typed" for package in PACKAGES} <= packed
    assert "verify/reports/report.schema.json" in packed
    assert licences


def test_the_installed_packages_are_those_of_the_wheel(installation: Installation) -> None:
    done = installation.run(
        "-c", "import refnet, verify, specs\nfor p in refnet, verify, specs: print(p.__file__)"
    )
    assert done.returncode == 0, done.stderr
    files = done.stdout.split()
    assert len(files) == len(PACKAGES)
    assert all(Path(file).is_relative_to(installation.environment) for file in files)


def test_the_installed_command_works(installation: Installation) -> None:
    version = installation.run("--version", program="refnet")
    assert (version.returncode, version.stdout, version.stderr) == (0, "refnet 0.1.0\n", "")
    sheet = installation.run("show", "softmax", program="refnet")
    assert (sheet.returncode, sheet.stderr) == (0, "")
    assert sheet.stdout.startswith("softmax(x, *, axis=-1)\n")


def test_the_schema_and_the_data_are_read_from_the_installation(installation: Installation) -> None:
    done = installation.run(
        "-c",
        "from verify.reports.json_report import load_schema; from refnet.datasets import load\n"
        "print(load_schema()['title'], *(load(name).x.shape for name in ('iris', 'digits')))",
    )
    assert (done.returncode, done.stdout) == (0, "refnet.report/1 (150, 4) (1797, 64)\n"), done.stderr


def test_the_types_arrive(installation: Installation) -> None:
    """mypy --strict accepts a script that uses refnet, and refuses one that misuses it."""
    good, bad = installation.folder / "good.py", installation.folder / "bad.py"
    good.write_text(
        "import numpy as np\n"
        "from refnet import Array, softmax\n"
        "from verify import Report, check\n"
        "y: Array = softmax(np.zeros((2, 3)), axis=0)\n"
        "report: Report = check('my_kernels.py')\n"
    )
    bad.write_text(
        "from refnet import softmax\n"
        "from verify import check\n"
        "softmax('a row')\n"
        "check('my_kernels.py').verdict\n"
    )
    checked = run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--no-error-summary"),
            *("--python-executable", installation.environment / "bin" / "python"),
            *("--cache-dir", installation.folder / "cache", good, bad),
        ],
        installation.folder,
    )
    errors = [line for line in checked.stdout.splitlines() if ": error:" in line]
    assert len(errors) == 2, checked.stdout + checked.stderr
    assert "bad.py:3: error:" in errors[0]
    assert "[arg-type]" in errors[0]
    assert "bad.py:4: error:" in errors[1]
    assert "[attr-defined]" in errors[1]
