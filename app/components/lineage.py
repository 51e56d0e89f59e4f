"""Where a model comes from and what was made of it, as a small graph of links from left to right."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from app.text import KIND_ICON, clock, missing, model_name, number, run_details, run_title, visible
from rsfm.model_info import ModelInfo, ModelOrigin

#: Uses that are shown at once, and those behind them; what is older is counted.
MAX_USES, MAX_FURTHER = 6, 100


@dataclass(frozen=True)
class Node:
    """One thing in the graph.

    Attributes:
        page: "pack", "run", "model", "embedding" or "prediction", where it has a page; else None.
        key: what that page is asked for.
    """

    label: str
    icon: str
    about: str = ""
    page: str | None = None
    key: str = ""


@dataclass(frozen=True)
class Stage:
    """Things of one step on the way, one below the other."""

    title: str
    nodes: tuple[Node, ...]
    further: tuple[Node, ...] = ()
    unlisted: int = 0


def _start(spec: Mapping[str, Any], known: Sequence[str], titles: Mapping[str, str]) -> list[Node]:
    """What the training began with, beside its data."""
    params = spec.get("method_params") or {}
    names = {"Starting weights": (spec.get("init") or {}).get("weights"), "Tokenizer": params.get("tokenizer")}
    return [
        Node(model_name(name, titles), ":material/start:", about, "model" if name in known else None, str(name))
        for about, name in names.items()
        if name
    ]


def _use(run: Mapping[str, Any], titles: Mapping[str, str], scores: Mapping[str, str]) -> Node:
    kind = str(run["kind"])
    page = {"embed": "embedding", "predict": "prediction"}.get(kind, "run") if run["state"] == "succeeded" else "run"
    about = scores.get(str(run["run_id"]), "") if run["state"] == "succeeded" else str(run["state"])
    label = visible(run["dataset"]) if kind in ("evaluate", "embed") else run_title(run, titles)
    return Node(label, KIND_ICON.get(kind, ""), about, page, str(run["run_id"]))


_USES = {
    ("evaluate", "model"): "Evaluated on", ("embed", "model"): "Maps of packs",
    ("predict", "network"): "Maps of scenes", ("pretrain", "start"): "Trained further",
}  # fmt: skip


def lineage(
    info: ModelInfo, origin: ModelOrigin | None, run: Mapping[str, Any] | None, uses: pd.DataFrame,
    packs: Sequence[str], models: Sequence[str], titles: Mapping[str, str], scores: Mapping[str, str],
) -> list[Stage]:  # fmt: skip
    """The stages from the data to what was made of the model.

    Args:
        run: the row of `Store.run` of its training, where that is here.
        uses: `Store.uses_of`.
        packs, models: names that are here.
        scores: run -> what it found, in a few words.
    """
    pack = info.trained_on or ""
    data = Node(
        visible(pack) or "not known", ":material/dataset:", "synthetic images" if info.synthetic else "",
        "pack" if pack in packs else None, pack,
    )  # fmt: skip
    spec = json.loads(run.get("spec") or "{}") if run else {}
    if run is not None:
        trained = Node(run_title(run, titles), KIND_ICON["pretrain"], run_details(run), "run", str(run["run_id"]))
    else:
        where = "in another lab" if origin is not None else "its run is gone"
        trained = Node(visible(info.run_id or "not known"), KIND_ICON["pretrain"], where)
    saved = Node(f"Step {info.step:,}", ":material/save:", f"{number(info.samples)} samples seen")
    brought = f"imported {clock(origin.imported)[:10]} from {visible(origin.file)}" if origin else ""
    stages = [
        Stage("Data and start", (data, *_start(spec, models, titles))),
        Stage("Pretraining", (trained,)),
        Stage("Checkpoint", (saved,)),
        Stage("Model", (Node(model_name(info.name, titles), ":material/deployed_code:", brought),)),
    ]
    for (kind, role), title in _USES.items():
        rows = uses[(uses["kind"] == kind) & (uses["role"] == role)]
        if len(rows):
            most = MAX_USES + MAX_FURTHER
            nodes = tuple(_use(r, titles, scores) for r in rows.head(most).to_dict("records"))
            stages.append(Stage(title, nodes[:MAX_USES], nodes[MAX_USES:], max(0, len(rows) - most)))
    if len(stages) == 4:
        stages.append(Stage("Used", (Node("not yet", ":material/hourglass_empty:"),)))
    return stages


def band_rows(info: ModelInfo) -> pd.DataFrame:
    """The model's input, channel by channel."""
    return pd.DataFrame(
        [
            {
                "channel": i, "band": visible(b.name),
                "wavelength": None if missing(b.wavelength_nm) else b.wavelength_nm, "gsd": b.gsd_m, "unit": b.unit,
                "mean": b.mean, "std": b.std,
            }
            for i, b in enumerate(info.bands)
        ]
    )  # fmt: skip
