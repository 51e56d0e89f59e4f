"""One model: where it comes from, what it takes, how good it was found to be, and how to take it away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from app.components.lineage import MAX_FURTHER, MAX_USES, Node, Stage, band_rows, lineage
from app.components.measures import adaptation_title, metric_title, operator_title, scale_of, target_title
from app.components.model_table import headlines
from app.page import CHANGE, DATASETS, EMBEDDINGS, LAUNCH, MODELS, RUN, SEGMENTATION, model_titles
from app.predictions import open_prediction
from app.routes.models import card_of, onnx_url, package_url
from app.state import open_embedding_info, store, workspace
from app.text import KIND_ICON, method_label, metres, missing, model_name, number, plain, size, visible
from app.view_state import choose_one_of
from jobs.exports import export_onnx, onnx_file
from rsfm.errors import RsfmError
from rsfm.model_card import apart, sensor_title
from rsfm.model_info import ModelInfo, ModelOrigin, model_folder

TABS = ("Lineage", "Bands", "Scores", "Card", "Export")


def _address(node: Node) -> tuple[str, dict[str, str]] | None:
    """The page of a node, and what it is asked for; a run whose result cannot be read leads to the run."""
    match node.page:
        case "pack":
            return DATASETS, {"pack": node.key}
        case "model":
            return MODELS, {"model": node.key}
        case "embedding":
            try:
                severity = open_embedding_info(workspace(), node.key).severities[0]
                return EMBEDDINGS, {"map": f"{node.key}@{severity:g}"}
            except RsfmError:
                return RUN, {"run": node.key}
        case "prediction":
            try:
                task = open_prediction(workspace(), node.key).task
                return CHANGE if task == "change" else SEGMENTATION, {"prediction": node.key}
            except RsfmError:
                return RUN, {"run": node.key}
        case "run":
            return RUN, {"run": node.key}
    return None


def draw_stage(stage: Stage) -> None:
    with st.container(border=True, width=214, gap="xxsmall"):
        st.caption(stage.title)
        draw_nodes(stage.nodes)
        if stage.further:
            with st.expander(f"and {len(stage.further)} more"):
                draw_nodes(stage.further)
        if stage.unlisted:
            st.caption(f"{stage.unlisted:,} older ones are not listed")


def draw_nodes(nodes: Sequence[Node]) -> None:
    for node in nodes:
        address = _address(node)
        if address is None:
            st.markdown(f"{node.icon} {plain(node.label)}")
        else:
            st.page_link(address[0], label=plain(node.label), icon=node.icon or None, query_params=address[1])
        if node.about:
            st.caption(plain(node.about))


def draw_lineage(stages: Sequence[Stage]) -> None:
    """Cards from left to right, going on in the next line where the window is narrow."""
    with st.container(horizontal=True, vertical_alignment="center", gap="xsmall"):
        for i, stage in enumerate(stages):
            if 0 < i < 5:  # all uses come from the model
                st.markdown(":gray[:material/arrow_forward:]", width="content")
            draw_stage(stage)


def _lineage_tab(info: ModelInfo, folder: Path) -> None:
    current = store()
    runs = current.run(info.run_id or info.name).to_dict("records")
    uses = current.uses_of(info.name)
    measured = [str(i) for i in uses[uses["kind"] == "evaluate"]["run_id"].head(MAX_USES + MAX_FURTHER)]
    stages = lineage(
        info, ModelOrigin.read(folder), runs[0] if runs else None, uses,
        [str(n) for n in current.datasets()["name"]], [str(n) for n in current.models()["name"]], model_titles(),
        headlines(current.scores(run_id=measured)) if measured else {},
    )  # fmt: skip
    draw_lineage(stages)


def _bands_tab(info: ModelInfo) -> None:
    st.dataframe(
        band_rows(info), hide_index=True, alt="Bands that the model takes", placeholder="–",
        column_config={
            "channel": st.column_config.NumberColumn("Channel", width=80), "band": "Band",
            "wavelength": st.column_config.NumberColumn("Wavelength (nm)", format="%.4g"),
            "gsd": st.column_config.NumberColumn("Native GSD (m)", format="%.4g"), "unit": "Unit",
            "mean": st.column_config.NumberColumn("Mean", format="%.5g"),
            "std": st.column_config.NumberColumn("Standard deviation", format="%.5g"),
        },
    )  # fmt: skip
    st.caption("Values arrive in the unit and are standardised as (value − mean) / standard deviation.")


def _scores_tab(info: ModelInfo) -> None:
    uses = store().uses_of(info.name)
    runs = [str(i) for i in uses[uses["kind"] == "evaluate"]["run_id"]]
    frame = store().compare(run_id=runs) if runs else pd.DataFrame()
    if frame.empty:
        st.caption("Nothing was measured of this model yet.")
        return
    further = apart(frame)
    words: dict[str, Callable[[Any], str]] = {
        "train_degrade": lambda v: "as they are" if v == "none" else operator_title(v),
        "degrade_target": target_title, "pack_hash": lambda v: visible(v)[:8],
    }  # fmt: skip
    rows = [
        {
            "pack": f"{visible(r['dataset'])}{' (synthetic)' if r['synthetic'] else ''}",
            **{c: None if missing(r[c]) else words.get(c, visible)(r[c]) for c in further},
            "adaptation": adaptation_title(str(r["adaptation"])),
            "degradation": f"{scale_of(r['operator']).title}, {scale_of(r['operator']).level(r['severity'])}",
            "metric": metric_title(str(r["metric"])), "mean": r["mean"], "low": r["ci_low"], "high": r["ci_high"],
            "seeds": f"{int(r['seeds'])} {r['seed_kind']}", "n": int(r["n"]),
        }
        for r in frame.to_dict("records")
    ]  # fmt: skip
    digits = {"format": "%.4f", "width": 90}
    st.dataframe(
        pd.DataFrame(rows), hide_index=True, placeholder="–", alt="Scores of this model with their intervals",
        column_config={
            "pack": "Pack", **further, "adaptation": "Adaptation", "degradation": "Degradation", "metric": "Metric",
            "mean": st.column_config.NumberColumn("Value", **digits),
            "low": st.column_config.NumberColumn("From", help="95 % interval", **digits),
            "high": st.column_config.NumberColumn("To", help="95 % interval", **digits),
            "seeds": "Seeds", "n": st.column_config.NumberColumn("Test samples", format="localized"),
        },
    )  # fmt: skip


def _card_tab(info: ModelInfo, folder: Path) -> None:
    st.code(card_of(workspace(), info, folder), language="markdown", wrap_lines=True, height=560)
    brought = folder / "README.md"
    if brought.is_file():
        st.markdown("**The card that came with it**")
        with brought.open("rb") as file:
            st.code(visible_text(file.read(1_000_000)), language="markdown", wrap_lines=True, height=400)


def visible_text(data: bytes) -> str:
    return "\n".join(visible(line) for line in data.decode("utf-8", "replace").splitlines())


def _onnx(name: str) -> None:
    """Writes the encoder as ONNX when asked, then offers it."""
    file = onnx_file(workspace(), name)
    if file.is_file():
        st.link_button(f"Download ONNX ({size(file.stat().st_size)})", onnx_url(name), icon=":material/download:")
    elif st.button("Export ONNX", icon=":material/output:", key="models.onnx"):
        try:
            with st.spinner("Writing the encoder as ONNX and comparing it with the model…", show_time=True):
                remark = export_onnx(workspace(), name)
        except RsfmError as error:
            st.error(plain(error), icon=":material/block:")
        else:
            st.toast(plain(remark), icon=":material/check:", duration="long")
            st.rerun()


def _export_tab(info: ModelInfo, weights: Any) -> None:
    st.markdown("**For another lab**")
    st.caption(f"Weights ({size(weights)}), description and model card in one zip; import it there.")
    st.link_button("Download zip", package_url(info.name), icon=":material/download:", type="primary")
    st.markdown("**For other programs**")
    st.caption(
        "ONNX of the encoder: band values in, one feature vector per image out, for any number of images. It is "
        "written, and compared with the model, on the machine of the lab."
    )
    _onnx(info.name)
    st.caption("The same from a terminal:")
    st.code(f"rsfm export {info.name} --format onnx --output {info.name}.onnx", language="bash", wrap_lines=True)


def model_view(model: dict[str, Any]) -> None:
    """The view of one row of `Store.models`."""
    name = str(model["name"])
    if not missing(model["problem"]) and model["problem"]:
        st.subheader(plain(name), anchor=False)
        st.error(plain(model["problem"]), icon=":material/broken_image:")
        return
    folder = model_folder(workspace(), name)
    info = ModelInfo.read(folder)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader(plain(info.title or model_name(name)), anchor=False, width="content")
        if info.method:
            st.badge(plain(method_label(info.method)), icon=":material/model_training:")
        if info.synthetic:
            st.badge("synthetic data", icon=":material/science:", color="violet")
        if not missing(model["imported"]):
            st.badge("imported", icon=":material/upload:", color="gray")
        st.space("stretch")
        st.page_link(
            LAUNCH, label="Evaluate it", icon=KIND_ICON["evaluate"], query_params={"job": "evaluate", "model": name}
        )
    st.caption("  ·  ".join((plain(name), plain(sensor_title(info.sensor)), metres(info.gsd_m))))
    tiles = (
        ("Parameters", number(model["parameters"])), ("Architecture", plain(info.architecture)),
        ("Features", number(info.feature_dim)), ("Bands", str(len(info.bands))),
        ("Image size", f"{info.image_size} px"), ("Samples seen", number(info.samples)),
    )  # fmt: skip
    with st.grid(len(tiles), min_column_width=130):
        for label, value in tiles:
            st.metric(label, value, border=True)
    match choose_one_of("View", list(TABS), "tab", label_visibility="collapsed"):
        case "Lineage":
            _lineage_tab(info, folder)
        case "Bands":
            _bands_tab(info)
        case "Scores":
            _scores_tab(info)
        case "Card":
            _card_tab(info, folder)
        case _:
            _export_tab(info, model["bytes"])
