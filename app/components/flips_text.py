"""What is said of samples that flip, and their table as a file. No streamlit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from app.components.measures import metric_title, samples_word
from app.text import plain, visible
from rsfm.comparison import CURVE, Flips


def counted(numbers: np.ndarray, weights: np.ndarray) -> str:
    """One count for each seed, in words: "12", or "12.3 on average (11 to 14)"; `weights`: of `Flips`."""
    if len(set(numbers.tolist())) == 1:
        return f"{int(numbers[0]):,}"
    return f"{numbers @ weights:,.1f} on average ({int(numbers.min()):,} to {int(numbers.max()):,})"


def summary(found: Flips, row: Mapping[str, Any], before: str, after: str) -> str:
    """What became of all samples, as Markdown."""
    gain = found.gain
    lost, won = (gain < 0).sum(axis=1), (gain > 0).sum(axis=1)
    undefined = np.isnan(gain).sum(axis=1)
    words = ("right → wrong", "wrong → right") if found.right_or_wrong else ("a lower score", "a higher score")
    n = f"{len(found.ids):,} {samples_word(row['task'])}"
    weights = found.weights
    score = found.scores @ weights
    text = (
        f"From {plain(before)} to {plain(after)}: **lost {plain(counted(lost, weights))}** ({plain(words[0])}), "
        f"**won {plain(counted(won, weights))}** ({plain(words[1])}), of {plain(n)}. "
        f"{plain(metric_title(found.metric))} {plain(f'{score[0]:.3f} → {score[1]:.3f} ({score[1] - score[0]:+.3f})')}."
    )
    if undefined.any():
        text += f" {plain(counted(undefined, weights))} have no score of their own at one of the two."
    return text


def which_seeds(found: Flips) -> str:
    """The seeds that are counted. Not Markdown."""
    parts = []
    for i, word in enumerate(("model seed", "evaluation seed")):
        seeds = sorted({s[i] for s in found.seeds if s[i] >= 0})
        if seeds:
            parts.append(f"{word}{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}")
    text = "; ".join(parts)
    how = " A sample is listed with the number of seeds that lost or won it." if len(found.seeds) > 1 else ""
    return f"{text[:1].upper()}{text[1:]}.{how}"


def confusions(found: Flips, column: str, classes: list[str]) -> str:
    """The commonest ways from one class to another among the samples that flipped. Not Markdown."""
    if found.predicted_before is None or found.predicted_after is None or not classes:
        return ""
    flipped = (found.gain < 0) if column == "lost" else (found.gain > 0)
    pairs = zip(found.predicted_before[flipped].tolist(), found.predicted_after[flipped].tolist(), strict=True)
    ways = Counter(pairs).most_common(4)
    texts = [f"{_class_name(a, classes)} → {_class_name(b, classes)} {count:,}" for (a, b), count in ways]
    return f"Most often: {', '.join(texts)}." if texts else ""


def _class_name(index: int, classes: list[str]) -> str:
    return visible(classes[index]) if 0 <= index < len(classes) else f"class {index}"


def _predicted(found: np.ndarray | None, position: int, classes: list[str]) -> str:
    """What was predicted for one sample; of several seeds, how often."""
    if found is None:
        return ""
    counts = Counter(found[:, position].tolist()).most_common()
    if len(found) == 1 or len(counts) == 1:
        return _class_name(counts[0][0], classes)
    return ", ".join(f"{_class_name(index, classes)} ({count})" for index, count in counts)


def sample_text(found: Flips, row: Mapping[str, Any], classes: list[str]) -> str:
    """What became of one sample (a row of `Flips.table`). Not Markdown."""
    position, seeds = int(row["position"]), len(found.seeds)
    if found.right_or_wrong:
        before, after = (
            _predicted(p, position, classes) for p in (found.predicted_before, found.predicted_after)
        )  # fmt: skip
        way = f"{before} → {after}" if before else f"{row['before']:.2f} → {row['after']:.2f}"
        often = [f"{word} with {int(row[word])} of {seeds} seeds" for word in ("lost", "won") if row[word]]
        return way if seeds == 1 else f"{way}; {', '.join(often)}"
    return f"{metric_title(found.metric)} {row['before']:.3f} → {row['after']:.3f} ({row['gain']:+.3f})"


def as_csv(found: Flips, row: Mapping[str, Any], before: float, after: float, classes: list[str]) -> str:
    """All samples of a curve (a row of `Store.compare`) at two severities."""
    table = found.table()
    more: dict[str, Any] = {name: row[name] for name in (*CURVE, "model_title")}
    for name, values in (("before", found.predicted_before), ("after", found.predicted_after)):
        if values is not None:
            more[f"predicted_{name}"] = [_predicted(values, i, classes) for i in range(len(table))]
    if found.labels is not None:
        more["label"] = [_class_name(int(i), classes) for i in found.labels]
    frame = table.drop(columns="position").assign(
        metric=found.metric, severity_before=before, severity_after=after, seeds=len(found.seeds), **more
    )
    return frame.to_csv(index=False)
