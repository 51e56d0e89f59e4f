"""Models to choose from on the page Launch."""

from __future__ import annotations

import streamlit as st

from app.state import store
from app.text import missing, model_name, visible
from app.view_state import choose_many, put
from rsfm.registry import BASELINES, ENCODERS
from rsfm.store.runs import is_run_id


def trained_models(method: str | None = None) -> dict[str, str]:
    """Models of this workspace, or those of one method, newest first: name -> label."""
    frame = store().models()
    usable = frame[frame["problem"].isna() | (frame["problem"].astype(str) == "")]
    if method is not None:
        usable = usable[usable["method"] == method]
    labels = {}
    for row in usable.itertuples():
        title = visible(row.title) if not missing(row.title) and row.title else model_name(row.name)
        seed = "" if missing(row.seed) else f"  ·  seed {int(row.seed)}"
        labels[str(row.name)] = f"{title}{seed}  ·  …{str(row.name)[-4:]}"
    return labels


def known_models() -> dict[str, str]:
    """What can be evaluated: name -> label."""
    labels = trained_models()
    labels.update({name: f"{name}  ·  baseline" for name in BASELINES if "<" not in name})
    labels.update({f"random:{name}": f"random:{name}  ·  baseline" for name in ENCODERS})
    return labels


def model_choice(labels: dict[str, str]) -> list[str]:
    """Several models at once; at first the newest one. They stand in the URL, so that a run can lead here."""
    newest = [m for m in labels if is_run_id(m)][:1]
    chosen = choose_many(
        "Models", list(labels), "model", newest, others=True, format_func=lambda m: labels.get(m, m),
        placeholder="Choose models and baselines", wrap=True,
        help="One run per model. Type timm:<name>, torchgeo:<weights> or random:<run id> for others.",
    )  # fmt: skip
    baselines = [m for m in labels if m in BASELINES] + [f"random:{next(iter(ENCODERS))}"]
    absent = [m for m in baselines if m not in chosen]
    if absent:
        st.button(
            "Add the baselines", icon=":material/playlist_add:", type="tertiary", on_click=put,
            args=("model", [*chosen, *absent]),
        )  # fmt: skip
    return chosen
