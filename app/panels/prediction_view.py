"""Predicted scenes on a map, with what they show in numbers and files: for segmentation and for change."""

from __future__ import annotations

from urllib.parse import urlencode

import pandas as pd
import streamlit as st

from app.components.ground import choose_ground
from app.components.map_view import taken
from app.components.measures import metric_title
from app.maps.geometry import parse_view, unwrapped
from app.page import LAUNCH, empty_state, heading, run_link
from app.predictions import find_look, open_prediction
from app.routes.artifacts import artifact_url
from app.routes.predictions import choices_of, near, prediction_map_url
from app.state import store, workspace
from app.text import metres, missing, number, plain, visible
from app.view_state import choose, choose_one_of, tell
from rsfm.errors import RsfmError
from rsfm.prediction_info import PredictionInfo

#: What the maps of a task are called.
TITLES = {
    "segmentation": ("Segmentation", "What a network sees in whole scenes: classes, how sure it is, where it errs."),
    "change": ("Change", "What has changed between two dates: where, how likely, and its outlines."),
}


#: Predictions to choose from, and runs that are looked through for them; older ones are shown where the address names
#: them.
MOST, LOOKED_AT = 200, 1000


def label_of(info: PredictionInfo) -> str:
    parts = (info.scene.name, info.model.title, f"…{info.run_id[-4:]}")
    return "  ·  ".join(visible(p) for p in parts)


def finished(task: str) -> tuple[dict[str, PredictionInfo], dict[str, str]]:
    """The newest predictions of a task, newest first, and runs whose prediction cannot be read."""
    found: dict[str, PredictionInfo] = {}
    broken: dict[str, str] = {}
    for run_id in store().runs(kind="predict", states=("succeeded",), limit=LOOKED_AT)["run_id"]:
        if len(found) == MOST:
            break
        try:
            info = open_prediction(workspace(), str(run_id))
        except RsfmError as error:
            broken[str(run_id)] = str(error)
            continue
        if info.task == task:
            found[str(run_id)] = info
    return found, broken


def wanted(task: str, found: dict[str, PredictionInfo], broken: dict[str, str]) -> None:
    """Add the prediction that the address names, or say why it is not shown."""
    run_id = st.query_params.get("prediction")
    if not run_id or run_id in found or run_id in broken:
        return
    try:
        info = open_prediction(workspace(), run_id)
    except RsfmError as error:
        tell("prediction", [run_id], f"The prediction of the address cannot be shown: {plain(error)}")
        return
    if info.task == task:
        found[run_id] = info
        return
    there = TITLES[info.task][0]
    tell("prediction", [run_id], f"The prediction of the address is not shown: it is on the page {there}.")


def area(square_metres: float) -> str:
    """An area in the unit that reads best."""
    if square_metres >= 1e6:
        return f"{number(square_metres / 1e6, 3)} km²"
    if square_metres >= 1e4:
        return f"{number(square_metres / 1e4, 3)} ha"
    return f"{number(square_metres, 3)} m²"


def summary(info: PredictionInfo) -> None:
    scene = info.scene
    tiles = [("Size (px)", f"{scene.width:,} × {scene.height:,}")]
    if scene.gsd_m:
        tiles.append(("Pixel", metres(scene.gsd_m)))
    tiles.append(("Observed", f"{100 * scene.observed:.1f} %"))
    if info.polygons is not None:
        tiles += [("Places of change", f"{info.polygons.count:,}"), ("Changed area", area(info.polygons.area_m2))]
    for name, value in (info.scores.metrics if info.scores else {}).items():
        tiles.append((plain(metric_title(name)), "–" if missing(value) else number(value, 3)))
    with st.grid(len(tiles), min_column_width=130):
        for label, value in tiles:
            st.metric(label, value, border=True)


def details(info: PredictionInfo) -> None:
    run = next(iter(store().run(info.run_id).to_dict("records")), {"run_id": info.run_id, "kind": "predict"})
    model = info.model
    with st.container(horizontal=True, vertical_alignment="center"):
        run_link(run, label="Its run")
        run_link({"run_id": model.evaluation, "kind": "evaluate"}, label="Its evaluation")
        if model.synthetic:
            st.badge("trained on synthetic data", icon=":material/science:", color="violet")
    before = f", after {plain(info.scene.before)}" if info.scene.before else ""
    threshold = "" if info.threshold is None else f"  ·  change from {100 * info.threshold:g} % on"
    st.caption(
        f"{plain(info.scene.name)}{before}  ·  {plain(model.title)}, {model.adaptation}, seed {model.eval_seed}, "
        f"trained on {plain(model.trained_on)}  ·  {info.tiles:,} tiles of {info.tile_size} px, {info.overlap} px "
        f"shared{threshold}"
    )
    for remark in info.remarks:
        st.caption(f":material/info: {plain(remark)}")


def shares(info: PredictionInfo) -> None:
    """How much of the scene is what."""
    layer = info.layer("classes") or info.layer("changes")
    if layer is None:
        return
    frame = pd.DataFrame(
        {"Class": [visible(i.label) for i in layer.legend], "Share of the scene": [100 * i.share for i in layer.legend]}
    )
    if any(i.area_m2 is not None for i in layer.legend):
        frame["Area (km²)"] = [None if i.area_m2 is None else i.area_m2 / 1e6 for i in layer.legend]
    st.dataframe(
        frame, hide_index=True, alt="Share of each class",
        column_config={
            "Share of the scene": st.column_config.ProgressColumn(format="%.1f %%", min_value=0, max_value=100),
            "Area (km²)": st.column_config.NumberColumn(format="%.3f"),
        },
    )  # fmt: skip


def class_scores(info: PredictionInfo) -> None:
    if info.scores is None:
        return
    st.caption(f"Against {plain(info.scores.truth)}, {info.scores.pixels:,} pixels, pooled.")
    frame = pd.DataFrame([{**c.model_dump(), "label": visible(c.label)} for c in info.scores.classes])
    frame.columns = ["Class", "IoU", "Precision", "Recall", "Pixels in the truth"]
    digits = {c: st.column_config.NumberColumn(c, format="%.3f") for c in ("IoU", "Precision", "Recall")}
    st.dataframe(frame, hide_index=True, column_config=digits, alt="Scores of each class")


def downloads(info: PredictionInfo) -> None:
    files = [(layer.title, layer.file) for layer in info.layers if not layer.kind.startswith("image")]
    if info.polygons is not None:
        files += [("Outlines (GeoJSON)", info.polygons.geojson), ("Outlines (GeoPackage)", info.polygons.gpkg)]
    known = store().artifacts(info.run_id).set_index("path")
    with st.container(horizontal=True):
        for title, path in files:
            if path not in known.index or not known.loc[[path], "ok"].iloc[-1]:
                st.caption(f"{plain(title)}: the file is damaged or gone. Predict again.")
                continue
            # From the disk to the browser: such a file can be larger than this server's memory.
            url = artifact_url(info.run_id, str(known.loc[[path], "artifact_id"].iloc[-1]))
            st.link_button(plain(title), url, icon=":material/download:", key=f"prediction.download.{path}")


def pictures(info: PredictionInfo) -> None:
    """Of a scene without a place on Earth: its layers beside each other."""
    st.info("This scene has no place on Earth, so there is no map: its layers as pictures.", icon=":material/image:")
    with st.grid(2, min_column_width=320):
        for layer in info.layers:
            look = find_look(layer, None).key if layer.bands else ""
            # The key holds a band's name: unquoted it could end the address, and begin another one.
            query = urlencode({"bands": look, "size": 640})
            url = f"/rsfm/predictions/{info.run_id}/{layer.kind}.png?{query}"
            with st.container(gap="xxsmall"):
                st.markdown(f"![{plain(layer.title)}]({url})")
                st.caption(plain(layer.title))


def prediction_page(task: str) -> None:
    """The page of one task."""
    title, about = TITLES[task]
    heading(title, about)
    found, broken = finished(task)
    for run_id, problem in broken.items():
        st.warning(f"…{run_id[-4:]}: {plain(problem)}", icon=":material/folder_off:")
    wanted(task, found, broken)
    if not found:
        empty_state(
            ":material/map:", "No scene was predicted yet",
            "A network that an evaluation has trained on maps can draw whole scenes, of any size.",
            [(LAUNCH, "Predict a scene")],
        )  # fmt: skip
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        run_id = choose("Prediction", list(found), "prediction", format_func=lambda r: label_of(found[r]))
        assert run_id is not None
        info = found[run_id]
        others = [r for r, other in found.items() if r != run_id and _overlap(info, other)]
        beside = choose(
            "Beside it", ["none", *others], "beside", "none",
            format_func=lambda r: label_of(found[r]) if r in found else "Nothing",
            help="Another prediction of the same place: another model, another resolution. Swipe between them.",
        )  # fmt: skip
        st.page_link(LAUNCH, label="Predict another", icon=":material/rocket_launch:", query_params={"job": "predict"})
    if info.scene.bounds is None:
        pictures(info)
    else:
        url = _map_url(info, found.get(beside or ""), choose_ground())
        st.iframe(url, height=640, alt=f"Map of {visible(info.scene.name)}")
    summary(info)
    details(info)
    tab = choose_one_of("Show", ["Classes", "Scores", "Files"], "tab", label_visibility="collapsed")
    if tab == "Classes":
        shares(info)
    elif tab == "Files":
        downloads(info)
    elif info.scores is None:
        st.caption("No truth was given to this prediction: give a raster of class numbers to see where it errs.")
    else:
        class_scores(info)


def _map_url(info: PredictionInfo, beside: PredictionInfo | None, ground: str) -> str:
    """The address of the map, with the view and the choices that the page's own address holds when it begins."""
    theme = st.context.theme.type or "light"
    of = f"{info.run_id} {beside.run_id if beside else ''} {ground} {theme}"

    def place(text: str) -> tuple[str, list[str]]:
        view = parse_view(text)
        return (text, []) if view and near(view, info) else ("", [text])

    def choices(text: str) -> tuple[str, list[str]]:
        read = choices_of(text, info, beside)
        return read.stands, read.ignored

    return prediction_map_url(
        info.run_id, theme=theme, beside=beside.run_id if beside else None, at=taken("at", of, place), ground=ground,
        chosen=taken("map", of, choices),
    )  # fmt: skip


def _overlap(one: PredictionInfo, other: PredictionInfo) -> bool:
    if one.scene.bounds is None or other.scene.bounds is None:
        return False
    (w, s, e, n), (w2, s2, e2, n2) = unwrapped(one.scene.bounds), unwrapped(other.scene.bounds)
    # Either may be told with longitudes beyond 180 degrees.
    return s < n2 and s2 < n and any(w < e2 + turn and w2 + turn < e for turn in (-360, 0, 360))
