"""A map against a raster of true classes: where it is wrong, and how good it is."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np

from rsfm.errors import RsfmError
from rsfm.inference.plan import IGNORED, UNKNOWN, Plan, Truth
from rsfm.inference.reader import on_grid, read_rows
from rsfm.metrics import METRICS, convert
from rsfm.prediction_info import NODATA, ClassScore, Scores
from rsfm.tasks import TASKS


@contextlib.contextmanager
def true_classes(truth: Truth, plan: Plan) -> Iterator[TrueClasses]:
    """The truth on the grid of the map, open for reading."""
    with on_grid(truth.scene, plan.grid, nearest=True) as dataset:
        yield TrueClasses(truth, plan, dataset)


class TrueClasses:
    """Rows of the truth, and what a map makes of them.

    Attributes:
        confusion: (K, K) pixels so far; rows are the truth, columns the map.
    """

    def __init__(self, truth: Truth, plan: Plan, dataset) -> None:  # noqa: ANN001
        self.truth, self.plan, self.dataset = truth, plan, dataset
        self.classes = plan.info.classes
        self.confusion = np.zeros((len(self.classes), len(self.classes)), np.int64)

    def rows(self, start: int, stop: int) -> np.ndarray:
        """(stop - start, width) int16 classes, `IGNORED` where none counts.

        Raises:
            RsfmError: damaged, or a number that stands for no class.
        """
        name = self.truth.scene.name
        stored, missing = read_rows(self.dataset, name, list(self.truth.scene.indexes), start, stop)
        values, absent = stored[0], missing[0] & self.truth.masked
        fits = absent | ((values >= 0) & (values <= 255) & (values == np.floor(values)))
        small = np.where(fits & ~absent, values, 0).astype(np.uint8)
        found = np.where(absent, IGNORED, np.where(fits, self.truth.table[small], UNKNOWN))
        if (found == UNKNOWN).any():
            row, column = np.argwhere(found == UNKNOWN)[0]
            raise RsfmError(
                f"The truth {name} holds {values[row, column]:g} at row {start + row}, column {column}, which stands "
                f"for none of the {len(self.classes)} classes: say with truth_values which number each class has."
            )
        return found.astype(np.int16)

    def errors(self, predicted: np.ndarray, start: int) -> np.ndarray:
        """(h, width) uint8 rows of `errors.tif` (see `error_meanings`); counts them.

        Args:
            predicted: rows of the map from `start` on, classes with `NODATA`.
        """
        truth = self.rows(start, start + len(predicted))
        counts = (truth != IGNORED) & (predicted != NODATA)
        true, found = truth[counts].astype(np.int64), predicted[counts].astype(np.int64)
        size = len(self.classes)
        self.confusion += np.bincount(true * size + found, minlength=size * size).reshape(size, size)
        errors = np.full(predicted.shape, NODATA, np.uint8)
        if self.plan.change:
            # true, found: (0, 0) true negative 0, (1, 1) true positive 1, (0, 1) false positive 2, (1, 0) negative 3
            errors[counts] = np.array([[0, 2], [3, 1]], np.uint8)[true, found]
        else:
            errors[counts] = 2 * true + (true != found)
        return errors

    def scores(self) -> Scores:
        """Of all rows so far."""
        confusion = self.confusion.astype(np.float64)
        counts, layout = confusion.ravel(), "confusion"
        if self.plan.change:
            (tn, fp), (fn, tp) = confusion
            counts, layout = np.array([tp, fp, fn, tn]), "binary"
        metrics = {name: _number(METRICS[name].of(counts, layout)) for name in TASKS[self.plan.info.task].metrics}  # type: ignore[arg-type]
        per_class = convert(confusion.ravel(), "confusion", "per_class").reshape(-1, 3)
        classes = []
        for name, (tp, fp, fn) in zip(self.classes, per_class, strict=True):
            four = np.array([tp, fp, fn, 0.0])
            classes.append(
                ClassScore(
                    label=name, iou=_number(METRICS["iou"].of(four)), precision=_number(METRICS["precision"].of(four)),
                    recall=_number(METRICS["recall"].of(four)), truth_pixels=int(tp + fn),
                )
            )  # fmt: skip
        return Scores(
            truth=self.truth.scene.name, pixels=int(confusion.sum()), metrics=metrics, classes=classes
        )  # fmt: skip


def _number(value: np.ndarray | float) -> float | None:
    """JSON has no NaN."""
    return float(value) if np.isfinite(value) else None
