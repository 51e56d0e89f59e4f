"""What was measured, in words: metrics, adaptations, degraded images, and the scale of a degradation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from app.text import missing, visible
from rsfm.degrade import OPERATORS, severity_text
from rsfm.metrics import METRICS
from rsfm.stats import is_proportion
from rsfm.tasks import ADAPTATIONS, TASKS
from rsfm.wording import samples_text

if TYPE_CHECKING:
    import pandas as pd

#: Which image of a sample was degraded.
TARGETS = {"single": "The image", "pre": "Earlier image", "post": "Later image", "both": "Both images"}


def metric_title(name: str) -> str:
    return METRICS[name].title if name in METRICS else visible(name)


def task_title(name: str) -> str:
    return TASKS[name].title if name in TASKS else visible(name)


def adaptation_title(name: str) -> str:
    """ "finetune (epochs=60)" as "Fine-tuning (epochs=60)"."""
    kind, bracket, settings = visible(name).partition(" (")
    return f"{ADAPTATIONS[kind][0] if kind in ADAPTATIONS else kind}{bracket}{settings}"


def target_title(name: str) -> str:
    return TARGETS.get(name, visible(name))


def ordered(names: Iterable[Any], first: Iterable[str]) -> list[str]:
    """Distinct names: those in `first` in its order, then the others by name."""
    known, place = {str(n) for n in names if not missing(n)}, {name: i for i, name in enumerate(first)}
    return sorted(known, key=lambda n: (place.get(n, len(place)), n))


def ordered_adaptations(names: Iterable[Any]) -> list[str]:
    """From the cheapest to the dearest, each with its plain settings first."""
    kinds = list(ADAPTATIONS)
    return sorted(
        {str(n) for n in names},
        key=lambda n: (kinds.index(k) if (k := n.partition(" (")[0]) in kinds else len(kinds), n),
    )


def ordered_tasks(names: Iterable[Any]) -> list[str]:
    return ordered(names, TASKS)


def ordered_metrics(names: Iterable[Any], task: str) -> list[str]:
    """The primary one first."""
    return ordered(names, TASKS[task].metrics if task in TASKS else ())


def primary_metric(names: Iterable[Any], task: str) -> str:
    """The one that counts where nothing is said; of an unknown task the first by name."""
    return ordered_metrics(names, task)[0]


def samples_word(task: str) -> str:
    """What a test sample of the task is: "test images" or "test pairs"."""
    return "test pairs" if task in TASKS and TASKS[task].pairs else "test images"


def interval_text(metrics: Iterable[Any]) -> str:
    """Where the intervals of scores come from, as far as test samples are concerned."""
    exact = {str(name) in METRICS and is_proportion(str(name)) for name in metrics}
    if len(exact) > 1:
        return "Clopper and Pearson's of accuracies, the bootstrap of others,"
    return "Clopper and Pearson's" if exact == {True} else "the bootstrap"


def size_text(row: Mapping[str, Any] | pd.Series) -> str:
    """How many test samples a score rests on, e.g. "55 test images of 5 scenes".

    Args:
        row: task, n and scenes (missing in scores of older evaluations).
    """
    scenes = row.get("scenes")
    return samples_text(int(row["n"]), None if missing(scenes) else int(scenes), samples_word(row["task"]))


@dataclass(frozen=True)
class Scale:
    """The severity of one degradation as an axis.

    Attributes:
        operator: its name; title: what it is called; what, unit: of its severity.
        identity: the severity that leaves images as they are; None where the operator is not known here.
        coarser: whether the severity multiplies the ground sampling distance: then the axis is logarithmic, may show
            metres, and the area under the curve is defined.
    """

    operator: str
    title: str
    what: str
    unit: str
    identity: float | None
    coarser: bool

    def level(self, severity: float) -> str:
        """4×, 0.5 px, 0.25."""
        return severity_text(self.operator, severity)

    @property
    def axis(self) -> str:
        """The severity with its unit, e.g. "Sigma (px)"."""
        named = self.what[:1].upper() + self.what[1:]
        return f"{named} ({self.unit})" if self.unit else named


def scale_of(operator: Any) -> Scale:
    name = str(operator)
    entry = OPERATORS.get(name)
    if entry is None:
        return Scale(name, visible(operator), "severity", "", None, False)
    return Scale(name, entry.title, entry.severity_name, entry.severity_unit, entry.identity, entry.changes_gsd)


def operator_title(name: str) -> str:
    return scale_of(name).title


def training_text(train_degrade: Any, operator: Any) -> str:
    """How the images were that a model was fitted on: "" as they are, else e.g. "degraded in training"."""
    if missing(train_degrade) or train_degrade in ("", "none"):
        return ""
    return "degraded in training" + ("" if train_degrade == operator else f" ({operator_title(str(train_degrade))})")
