"""Small data to train on: two sets that ship with the package, and a loader for CSV files."""

from refnet.datasets.dataset import Dataset
from refnet.datasets.shipped import load
from refnet.datasets.table import load_csv

__all__ = ["Dataset", "load", "load_csv"]
