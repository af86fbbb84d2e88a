"""The course of a training: a row for each epoch as it ends, and the curves."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from refnet import EpochRecord, Network, Split
from refnet.datasets import Dataset
from verify.files import write_whole

PLOT_FORMATS = (".png", ".svg", ".pdf")


def heading(dataset: Dataset, sets: Split, network: Network, settings: str) -> str:
    """What is trained on what, and the head of the table that `epoch_row` continues."""
    sizes = network.sizes
    parameters = sum((k + 1) * m for k, m in pairwise(sizes))
    origin = f"{dataset.source} ({dataset.licence})\n" if dataset.licence else ""
    named = dataset.name if dataset.licence else dataset.source
    counts = (f"{len(part.labels)} {name}" for name, part in zip(sets._fields, sets, strict=True))
    return (
        f"{named}: {', '.join(counts)} samples\n"
        f"{origin}"
        f"network {'-'.join(map(str, sizes))}, {network.activation.name}, {network.head}: "
        f"{parameters} parameters\n"
        f"{settings}\n\n"
        "               training          validation\n"
        "epoch      loss  accuracy      loss  accuracy"
    )


def epoch_row(record: EpochRecord) -> str:
    """A line of the table under `heading`."""
    return (
        f"{record.epoch:5d}{record.training_loss:10.4f}{record.training_accuracy:10.1%}"
        f"{record.validation_loss:10.4f}{record.validation_accuracy:10.1%}"
    )


def write_plot(history: Sequence[EpochRecord], title: str, path: Path) -> None:
    """Draw loss and accuracy over the epochs, for the training and the validation set.

    Raises:
        OSError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(9.0, 4.0), layout="constrained")
    FigureCanvasAgg(figure)  # no window and no global state, unlike pyplot
    figure.suptitle(title)
    epochs = [record.epoch for record in history]
    for position, what in enumerate(("loss", "accuracy")):
        axes = figure.add_subplot(1, 2, position + 1)
        for name in ("training", "validation"):
            axes.plot(epochs, [getattr(record, f"{name}_{what}") for record in history], label=name)
        axes.set_xlabel("epoch")
        axes.set_ylabel(what)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    write_whole(path, lambda file: figure.savefig(file, format=path.suffix.lstrip("."), dpi=150))
