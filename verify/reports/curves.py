"""An elementwise operator and its derivative, drawn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import cycle, islice, product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from refnet import OPS
from specs import SPECS, Spec
from verify.files import write_whole

Floats = npt.NDArray[np.float64]

REACH = 6.0
"""From -6 to 6: beyond, an activation is a straight line to the eye."""

POINTS = 1201
"""One in a hundredth: kinks at whole numbers and halves are among them."""

CURVES = 6
"""As many combinations of the settings as an eye tells apart."""


STYLES = ("-", "--", ":")
"""In turn, so that of curves in one place all are seen."""


class NoCurve(ValueError):
    """The operator is not a function of one number."""


def write_curves(name: str, path: Path) -> None:
    """Draw an operator, and beside it its derivative, for its settings in turn; a kink is a gap.

    Raises:
        NoCurve: it is not elementwise; the message says which are.
        OSError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    spec = curve_of(name)
    figure = Figure(figsize=(9.0, 4.0), layout="constrained")
    FigureCanvasAgg(figure)  # no window and no global state, unlike pyplot
    figure.suptitle(f"{name}: {spec.summary}")
    left, right = (figure.add_subplot(1, 2, position) for position in (1, 2))
    x = np.linspace(-REACH, REACH, POINTS)
    for settings, style in zip(islice(_settings(spec), CURVES), cycle(STYLES), strict=False):
        label = ", ".join(f"{setting} = {value}" for setting, value in settings.items())
        (line,) = left.plot(x, OPS[name](x, **settings), label=label, linestyle=style)
        for piece in _pieces(spec, x):
            slope = OPS[name].vjp(np.ones_like(piece), piece, **settings)[0]
            right.plot(piece, slope, color=line.get_color(), linestyle=style)
    for axes, what in ((left, "y"), (right, "dy/dx")):
        axes.set_xlabel("x")
        axes.set_ylabel(what)
        axes.axhline(0.0, color="grey", linewidth=0.5)
        axes.axvline(0.0, color="grey", linewidth=0.5)
        axes.grid(alpha=0.3)
    if spec.settings:
        left.legend()
    write_whole(path, lambda file: figure.savefig(file, format=path.suffix.lstrip("."), dpi=150))


def curve_of(name: str) -> Spec:
    """The specification of an operator that has a curve.

    Raises:
        NoCurve: it has none.
    """
    curves = [spec.name for spec in SPECS.values() if spec.signature == "(...)->(...)"]
    if name not in curves:
        raise NoCurve(f"{name} is not elementwise, and has no curve. These have: {', '.join(curves)}.")
    return SPECS[name]


def _settings(spec: Spec) -> Iterator[Mapping[str, Any]]:
    """All combinations, the defaults first."""
    names = [setting.name for setting in spec.settings]
    for values in product(*(setting.values for setting in spec.settings)):
        yield dict(zip(names, values, strict=True))


def _pieces(spec: Spec, x: Floats) -> Iterator[Floats]:
    """The numbers between one kink and the next: at a kink itself the derivative has no one value."""
    distances = [np.abs(kink.distance(x)) for kink in spec.kinks]
    nearest = np.min(distances, axis=0) if distances else np.ones_like(x)
    cuts = np.flatnonzero(nearest < (x[1] - x[0]) / 2.0)
    yield from (piece for piece in (np.delete(p, 0) if p[0] in x[cuts] else p for p in np.split(x, cuts)))
