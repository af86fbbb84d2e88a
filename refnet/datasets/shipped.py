"""The data that ships with the package: files beside this one, and what README.md says of each."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from refnet.arguments import validate_choice
from refnet.datasets.dataset import Dataset
from refnet.datasets.table import load_csv


class Origin(NamedTuple):
    file: str
    licence: str
    source: str


ORIGINS: Mapping[str, Origin] = MappingProxyType(
    {
        "iris": Origin(
            "iris.csv",
            "CC BY 4.0",
            "R. A. Fisher (1936), Iris, UCI Machine Learning Repository, https://doi.org/10.24432/C56C76",
        ),
        "digits": Origin(
            "digits.csv.gz",
            "CC BY 4.0",
            "E. Alpaydin and C. Kaynak (1998), Optical Recognition of Handwritten Digits, "
            "UCI Machine Learning Repository, https://doi.org/10.24432/C50P49",
        ),
    }
)
"""The name of each set, its file, and whom to thank."""


def load(name: str) -> Dataset:
    """Return a set that ships with the package, in arrays of its own.

    "iris": 150 flowers, 4 lengths in cm, 3 species. "digits": 1797 images of 8 x 8 pixels from 0 to 16, 10
    digits.

    Raises:
        ArgumentError: there is no set of that name.
    """
    validate_choice("load", "name", name, ORIGINS, "Read a file of your own with load_csv.")
    origin = ORIGINS[name]
    data = load_csv(os.path.join(os.path.dirname(__file__), origin.file))
    return data._replace(name=name, common_unit=True, licence=origin.licence, source=origin.source)
