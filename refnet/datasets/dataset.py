"""What a set of data is."""

from __future__ import annotations

from typing import NamedTuple

from refnet.op import Array, Labels


class Dataset(NamedTuple):
    """Samples of known classes, and where they come from. Features are given as they are in the source."""

    name: str
    x: Array
    """(n, k), float64."""
    labels: Labels
    """(n,): the class of each sample, an index into `class_names`."""
    feature_names: tuple[str, ...]
    class_names: tuple[str, ...]
    common_unit: bool
    """Whether all features have one unit (pixels, centimetres): `standardise` may then scale them alike."""
    licence: str
    """Of the data that ship; empty for a file of one's own."""
    source: str
