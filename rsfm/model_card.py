"""A model card: what a model is, what it was trained on, how good it was found to be, and how it is fed. Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from rsfm.bands import SENSORS
from rsfm.metrics import METRICS
from rsfm.model_info import ModelInfo, tensors_of
from rsfm.registry import METHODS
from rsfm.store.view import Store
from rsfm.tasks import ADAPTATIONS

#: Rows of scores that a card holds; the rest is counted.
MAX_SCORES = 60


@dataclass(frozen=True)
class CardFacts:
    """What a card says beyond the model's own description.

    Attributes:
        parameters: of the encoder.
        spec: the request that trained it; None where its run is not in this workspace.
        scores: rows of `Store.compare`, of evaluations of this very model.
        licence, citation: of the training data.
    """

    parameters: int
    spec: Mapping[str, Any] | None = None
    scores: pd.DataFrame = field(default_factory=pd.DataFrame)
    licence: str = ""
    citation: str = ""


def _text(value: Any) -> str:
    """One line in which Markdown and HTML see nothing."""
    line = " ".join(str(value).split())
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>|#~" else c for c in line if c.isprintable())


def _table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    lines = [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
    return [*lines, *(f"| {' | '.join(_text(cell) for cell in row)} |" for row in rows)]


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            found += _flat(value, f"{prefix}{name}.")
        else:
            found.append((f"{prefix}{name}", value))
    return found


def _g(value: Any) -> str:
    return "–" if value is None or value != value else f"{float(value):.4g}"


def _short(value: Any) -> str:
    text = "" if value is None or value != value else str(value)
    return text[:60] or "–"


def sensor_title(name: str | None) -> str:
    return SENSORS[name].title if name in SENSORS else (name or "not known")


def _facts(info: ModelInfo, facts: CardFacts) -> list[str]:
    entry = METHODS.get(info.method or "")
    rows = [
        ("Name", info.name),
        ("Architecture", f"{info.architecture}, {facts.parameters:,} parameters, {info.feature_dim} features"),
        ("Method", f"{entry.title} ({entry.paper})" if entry else info.method or "not known"),
        ("Trained on", f"{info.trained_on or 'not known'}{' (synthetic images)' if info.synthetic else ''}"),
        ("Content of the data", info.trained_on_hash or "not known"),
        ("Samples seen", f"{info.samples:,} in {info.step:,} steps, model seed {info.seed}"),
        ("Sensor and grid", f"{sensor_title(info.sensor)}, {_g(info.gsd_m)} m"),
        ("Image size in training", f"{info.image_size} × {info.image_size} pixels"),
        ("Licence of the training data", facts.licence or "not recorded: look at the source before use"),
        ("Weights", info.weights_hash),
        ("Created", info.created),
    ]  # fmt: skip
    return [*_table(("", ""), rows), *([] if not facts.citation else ["", f"Data: {_text(facts.citation)}"])]


#: What tells rows of scores apart beside pack, adaptation and degradation: column, title.
_APART = {
    "split": "Split", "bands": "Bands", "train_degrade": "Training images", "degrade_target": "Degraded image",
    "pack_hash": "Content of the pack",
}  # fmt: skip


def apart(rows: pd.DataFrame) -> dict[str, str]:
    """Columns in which scores of one model differ, with their titles; the split is always among them."""
    return {c: title for c, title in _APART.items() if c == "split" or rows[c].nunique(dropna=False) > 1}


def _scores(facts: CardFacts) -> list[str]:
    rows = facts.scores
    if rows.empty:
        return ["None was measured where this card was written."]
    cells, further = [], apart(rows)
    for r in rows.head(MAX_SCORES).to_dict("records"):
        kind, _, settings = str(r["adaptation"]).partition(" (")
        title = ADAPTATIONS[kind][0] if kind in ADAPTATIONS else kind
        metric = METRICS[r["metric"]].title if r["metric"] in METRICS else r["metric"]
        data = f"{r['dataset']}{' (synthetic)' if r['synthetic'] else ''}"
        interval = f"{_g(r['ci_low'])} to {_g(r['ci_high'])}"
        cells.append(
            (data, *(_short(r[c]) for c in further), f"{title}{f' ({settings}' if settings else ''}",
             f"{r['operator']} {_g(r['severity'])}", metric,
             _g(r["mean"]), interval, f"{int(r['seeds'])} {r['seed_kind']}", f"{int(r['n']):,}")
        )  # fmt: skip
    measured = ("Adaptation", "Degradation", "Metric", "Value", "95 % interval", "Seeds", "Test samples")
    columns = ("Pack", *further.values(), *measured)
    more = len(rows) - len(cells)
    return [*_table(columns, cells), *([f"\n{more} more rows are not shown."] if more > 0 else [])]


def _start(facts: CardFacts) -> str:
    """What is known of the images that it has seen, as a sentence without its end."""
    if facts.spec is None:
        return "came from one pack as far as this card knows; with what weights it began is not known"
    weights = (facts.spec.get("init") or {}).get("weights")
    if weights:
        return f"came from one pack, after those that its starting weights had seen, {weights}"
    return "came from one pack only"


def _limits(info: ModelInfo, facts: CardFacts) -> list[str]:
    units = ", ".join(dict.fromkeys(b.unit for b in info.bands))
    lines = [
        f"Values must be in {units}, bands in the order above. Other units, other bands or another order give features "
        "without a meaning; the lab refuses them.",
        f"The images that it was trained on have {_g(info.gsd_m)} m and {_text(_start(facts))}. How it does on other "
        "sensors, seasons and regions is not known unless a score above says so.",
        "Scores hold for the named pack, split and protocol; intervals are of the test samples and the seeds.",
    ]
    if info.synthetic:
        lines.append("It was trained on synthetic images: nothing here says how it does on real ones.")
    return [f"- {line}" for line in lines]


class Described(Protocol):
    """What a card takes from the catalog's entry of the training data."""

    licence: str
    citation: str


def gather(store: Store, info: ModelInfo, folder: Path, entries: Mapping[str, Described]) -> CardFacts:
    """What this workspace knows of a model.

    Args:
        entries: the catalog, by dataset.
    """
    run = store.run(info.run_id or info.name)
    packs = store.datasets().set_index("name")["dataset"]
    entry = entries.get(str(packs.get(info.trained_on or "", info.trained_on)))
    uses = store.uses_of(info.name)
    evaluations = [str(i) for i in uses[uses["kind"] == "evaluate"]["run_id"]]
    return CardFacts(
        parameters=sum(t.numel for t in tensors_of(folder / "model.safetensors").values()),
        spec=json.loads(run["spec"].iloc[0]) if len(run) else None,
        scores=store.compare(run_id=evaluations) if evaluations else pd.DataFrame(),
        licence=entry.licence if entry else "",
        citation=entry.citation if entry else "",
    )


def model_card(info: ModelInfo, facts: CardFacts) -> str:
    """The card as Markdown. Texts that people gave (titles, names) are escaped."""
    bands = [
        (i, b.name, "–" if b.wavelength_nm is None else f"{b.wavelength_nm:g}", f"{b.gsd_m:g}", b.unit, _g(b.mean),
         _g(b.std))
        for i, b in enumerate(info.bands)
    ]  # fmt: skip
    shape = f"(B, {len(info.bands)}, H, W)"
    settings = [(name, json.dumps(v, ensure_ascii=False)) for name, v in _flat(facts.spec or {})]
    return "\n".join(
        [
            f"# {_text(info.title or info.name)}",
            "",
            *_facts(info, facts),
            "",
            "## Bands",
            "",
            "Values arrive in the unit and are standardised as (value − mean) / std; what is not finite counts as the "
            "mean.",
            "",
            *_table(("Channel", "Band", "Wavelength (nm)", "Native GSD (m)", "Unit", "Mean", "Std"), bands),
            "",
            "## Use",
            "",
            "With RSFM Lab installed:",
            "",
            "```python",
            "from pathlib import Path",
            "from rsfm.models.export import load_model",
            f"features = load_model(Path({json.dumps(info.name)})).extract(values)",
            "```",
            "",
            f"`values`: {shape} numbers in the bands' units; `features`: (B, {info.feature_dim}).",
            "",
            f"`rsfm import {info.name}.zip` brings it into another lab, `rsfm evaluate --model {info.name}` evaluates "
            "it there.",
            "",
            "## Scores",
            "",
            *_scores(facts),
            "",
            "## Limits",
            "",
            *_limits(info, facts),
            "",
            "## Settings of its training",
            "",
            *(_table(("Setting", "Value"), settings) if settings else ["Its run is not in this workspace."]),
            "",
        ]
    )
