"""Embeddings: how a model lays a pack's images out, and what lies near what."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import streamlit as st

from app.components.embedding import Coloring, by_category, by_number, chosen_points, points_map
from app.components.ground import choose_ground
from app.components.measures import adaptation_title, scale_of
from app.embedded import Points, points_of
from app.imaging import find_view
from app.page import DATASETS, LAUNCH, empty_state, heading
from app.panels.sample_grid import labels_of, sample_grid
from app.routes.embeddings import LAYOUTS, points_url
from app.routes.maps import MAX_CHOSEN, map_url
from app.routes.thumbnails import thumbnail_url
from app.selection import clear, select, selected
from app.state import open_embedding_info, open_pack, store, workspace
from app.text import metres, missing, number, plain, visible
from app.view_state import choose, choose_one_of, page_control, page_number, put
from rsfm.comparison.outcomes import outcomes
from rsfm.embedding_info import EmbeddingInfo
from rsfm.errors import RsfmError
from rsfm.packs import Pack
from rsfm.store.runs import is_run_id

PER_PAGE = 36
#: Stands in an address for a split and a row.
SAMPLE = "SAMPLE"


@dataclass(frozen=True)
class Shown:
    """One map on the page: an embedding at one severity."""

    key: str
    run_id: str
    embedding: EmbeddingInfo
    severity: float

    @property
    def layer(self) -> str:
        return str(self.embedding.about["layer"])

    @property
    def title(self) -> str:
        return f"{visible(self.embedding.about['model_title'])} · {severity_text(self.embedding, self.severity)}"


def severity_text(embedding: EmbeddingInfo, severity: float) -> str:
    """`as they are`, or how they were degraded."""
    scale = scale_of(embedding.about["operator"])
    if severity == scale.identity:
        return "as they are"
    gsd = embedding.figures(severity)["gsd_m"]
    coarser = f" ({metres(gsd)})" if gsd and scale.coarser else ""
    return f"{scale.title.lower()} {severity:g}{scale.unit}{coarser}"


# -- which maps ----------------------------------------------------------------------------------------------------
def known_maps() -> tuple[dict[str, tuple[str, float]], dict[str, EmbeddingInfo], dict[str, str]]:
    """Key -> run and severity; run -> what it shows; run -> why it cannot be shown. Newest first."""
    keys: dict[str, tuple[str, float]] = {}
    found: dict[str, EmbeddingInfo] = {}
    broken: dict[str, str] = {}
    runs = [str(r) for r in store().runs(kind="embed", states=("succeeded",), limit=100)["run_id"]]
    # A link may lead to one that is older than those.
    asked = [v.partition("@")[0] for name in ("map", "beside") for v in st.query_params.get_all(name)]
    for run_id in dict.fromkeys([*runs, *(r for r in asked if is_run_id(r))]):
        try:
            found[run_id] = open_embedding_info(workspace(), run_id)
        except RsfmError as error:
            broken[run_id] = str(error)
            continue
        keys.update({f"{run_id}@{severity:g}": (run_id, severity) for severity in found[run_id].severities})
    return keys, found, broken


def map_label(info: EmbeddingInfo, run_id: str, severity: float) -> str:
    about = info.about
    parts = (about["dataset"], about["model_title"], severity_text(info, severity), f"…{run_id[-4:]}")
    return "  ·  ".join(visible(p) for p in parts)


def choose_maps(keys: dict[str, tuple[str, float]], found: dict[str, EmbeddingInfo]) -> list[Shown]:
    labels = {key: map_label(found[run], run, severity) for key, (run, severity) in keys.items()}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        first = choose("Map", list(keys), "map", format_func=lambda k: labels.get(k, k))
        assert first is not None
        content = found[keys[first][0]].about["pack_hash"]
        same = [k for k, (run, _) in keys.items() if k != first and found[run].about["pack_hash"] == content]
        beside = choose(
            "Beside it", ["none", *same], "beside", "none",
            format_func=lambda k: labels.get(k, "Nothing" if k == "none" else k),
            help="Another model or another severity on the same pack; both show one selection.",
        )  # fmt: skip
    shown = []
    for key in (first, beside):
        if key in keys:
            run_id, severity = keys[key]
            shown.append(Shown(key, run_id, found[run_id], severity))
    return shown


# -- colours -------------------------------------------------------------------------------------------------------
def evaluations_of(shown: Shown) -> pd.DataFrame:
    """What was measured of the very model, images and degradation that a map shows, newest first.

    Returns:
        run_id, adaptation, split, each adaptation once.
    """
    about = shown.embedding.about
    rows = store().scores(about["dataset"])
    same = (
        (rows["model"] == about["model"]) & (rows["model_seed"] == about["model_seed"])
        & (rows["pack_hash"] == about["pack_hash"]) & (rows["bands"] == ",".join(about["bands"]))
        & (rows["severity"] == shown.severity) & (rows["train_degrade"] == "none")
    )  # fmt: skip
    # Untouched images are the same ones for every operator.
    if shown.severity != scale_of(about["operator"]).identity:
        same &= rows["operator"] == about["operator"]
    rows = rows[same & (rows["degrade_target"].isin(("single", about["layer"].removeprefix("image_"), "both")))]
    newest = rows.sort_values("time", ascending=False, kind="stable")
    return newest.drop_duplicates("adaptation")[["run_id", "adaptation", "split"]].reset_index(drop=True)


def colors_for(shown: Shown, pack: Pack) -> dict[str, str]:
    """Columns that points can be coloured by: key -> title."""
    samples = pack.samples
    found: dict[str, str] = {}
    if samples["label"].notna().any():
        found["label"] = "Label"
    if pack.info.task == "multilabel":
        found["first_label"] = "First label"
    found["split"] = "Split"
    for column, title in (("sensor", "Sensor"), ("gsd_m", "GSD (m)"), ("date", "Date"), ("scene", "Scene")):
        if samples[column].nunique() > 1:
            found[column] = title
    if shown.severity != shown.embedding.severities[0]:
        found["kept"] = "Neighbours kept"
    for adaptation in sorted(evaluations_of(shown)["adaptation"]):
        name = visible(adaptation_title(adaptation))
        found[f"score@{adaptation}"] = f"Score: {name}"
        if pack.info.task == "classification":
            found[f"predicted@{adaptation}"] = f"Predicted: {name}"
    return found


def coloring(key: str, title: str, shown: Shown, points: Points, pack: Pack) -> Coloring:
    """The colours of one map's points."""
    what, _, adaptation = key.partition("@")
    samples = pack.samples.iloc[points.positions].reset_index(drop=True)
    match what:
        case "label":
            return by_category(title, samples["label"], pack.info.classes)
        case "first_label":
            first = [labels[0] if (labels := labels_of(s)) else None for s in samples.itertuples()]
            return by_category(title, pd.Series(first), pack.info.classes)
        case "kept":
            return by_number(title, points.frame["kept"], (0, 1))
        case "gsd_m":
            return by_number(title, samples["gsd_m"])
        case "score" | "predicted":
            mine = pd.Series(pd.NA, index=samples.index, dtype=object)
            frame = pd.DataFrame({"score": [], "predicted_index": []})
            evaluations = evaluations_of(shown)
            evaluations = evaluations[evaluations["adaptation"] == adaptation]
            if evaluations.empty:
                st.caption(f"{plain(shown.title)} was not evaluated like that: no colours.")
            for run_id, split in evaluations[["run_id", "split"]].itertuples(index=False):
                try:
                    frame = outcomes(store(), run_id, adaptation, shown.severity).set_index("sample_id")
                except RsfmError as error:
                    st.warning(plain(error), icon=":material/error:")
                else:
                    mine = samples["id"].where(samples["split"] == split)
            if what == "score":
                return by_number(title, mine.map(frame["score"]), (0, 1))
            names = dict(enumerate(pack.info.classes))
            return by_category(title, mine.map(frame["predicted_index"]).map(names), pack.info.classes)
    return by_category(title, samples[what].astype("string"))


# -- selection -----------------------------------------------------------------------------------------------------
def take_selection(side: str, content: str, positions: np.ndarray) -> None:
    """What was drawn around becomes the one selection of the page. `positions`: point -> sample."""
    select(content, np.sort(positions[chosen_points(f"embeddings.map.{side}", len(positions))]))
    put("page", None)


# -- what is drawn -------------------------------------------------------------------------------------------------
def quality(shown: Shown, layout: str) -> None:
    """How far this map may be read."""
    said, about = shown.embedding.figures(shown.severity), shown.embedding.about
    parts = [
        ("" if layout == "UMAP" else "Of the UMAP layout: ")
        + f"**Neighbourhoods preserved {number(said['preservation'], 2)}**",
        f"trustworthiness {number(said['trustworthiness'], 2)}",
    ]
    if not missing(said["silhouette_map"]):
        parts.append(
            f"silhouette of the classes {number(said['silhouette_features'], 2)} by features, "
            f"{number(said['silhouette_map'], 2)} on the map"
        )
    if shown.severity != shown.embedding.severities[0]:
        before = severity_text(shown.embedding, shown.embedding.severities[0])
        parts.append(f"neighbours kept {number(said['neighbours_kept'], 2)} of those {plain(before)}")
    st.markdown("  ·  ".join(parts), help=(
        f"Share of each sample's {said['k']} nearest by features that are among its {said['k']} nearest on the map; "
        "trustworthiness (Venna and Kaski 2001): 1 where no strangers stand between neighbours; silhouette (Rousseeuw "
        "1987): −1 to 1, whether classes lie apart. Where the map's silhouette is higher than that of the features, "
        f"the map exaggerates. Judged on {said['judged']:,} samples; of the UMAP layout."
    ))  # fmt: skip
    shown_of = "" if about["count"] == about["total"] else f", a random sample of {about['total']:,}"
    st.caption(
        f"{about['count']:,} samples{shown_of}  ·  {about['feature_dim']} features, "
        f"{plain(about['metric'])} distance  ·  {about['neighbors']} neighbours, seed {about['seed']}"
    )


def draw(shown: Shown, pack: Pack, color: str, colors: dict[str, str], layout: str, side: str) -> None:
    points = points_of(workspace(), shown.run_id, shown.severity, pack)
    if (points.positions < 0).any():
        st.warning("The pack was prepared again since this map was made: embed again.", icon=":material/update:")
        return
    axes = ("UMAP 1", "UMAP 2")
    if layout == "PCA":
        first, second = (f"{share:.0%}" for share in shown.embedding.about["explained"])
        axes = (f"PC 1 ({first} of the variance)", f"PC 2 ({second})")
    picture = thumbnail_url(
        pack.name, SAMPLE, 0, version=pack.info.content_hash, layer=shown.layer,
        view=find_view(pack.layer(shown.layer), None).key,
    )  # fmt: skip
    points_map(
        f"embeddings.map.{side}", coloring(color, colors[color], shown, points, pack),
        points_url=points_url(shown.run_id, shown.severity, layout, points),
        thumbnail_url=picture.replace(f"{SAMPLE}/0", SAMPLE),
        selected=np.flatnonzero(np.isin(points.positions, selected(pack))), axes=axes,
        title=f"Map of {pack.name} by {shown.title}",
        on_choose=lambda: take_selection(side, pack.info.content_hash, points.positions),
    )  # fmt: skip
    quality(shown, layout)


def table_of(pack: Pack, rows: pd.DataFrame) -> None:
    columns = ["id", "split", "label", "sensor", "gsd_m", "date", "scene", "path"]
    frame = rows[[c for c in columns if rows[c].notna().any()]]
    st.dataframe(frame, hide_index=True, alt="The selected samples")
    st.download_button(
        "Download as CSV", rows.drop(columns=["transform", "labels"], errors="ignore").to_csv(index=False),
        file_name=f"{pack.name}-selection.csv", mime="text/csv", icon=":material/download:",
    )  # fmt: skip


def map_of(pack: Pack, rows: pd.DataFrame) -> None:
    placed = rows.dropna(subset=["west"])
    if placed.empty:
        st.caption("The files of this dataset carry no coordinates.")
        return
    if len(placed) > MAX_CHOSEN:
        st.caption(f"{MAX_CHOSEN:,} of {len(placed):,} selected samples, evenly taken.")
        placed = placed.iloc[np.linspace(0, len(placed) - 1, MAX_CHOSEN).round().astype(int)]
    only = {str(split): [int(r) for r in part["row"]] for split, part in placed.groupby("split", sort=False)}
    theme = st.context.theme.type or "light"
    url = map_url(pack.name, version=pack.info.content_hash, theme=theme, only=only, ground=choose_ground())
    st.iframe(url, height=480, alt="Where the selected samples lie")


def neighbours_of(pack: Pack, rows: pd.DataFrame, shown: Shown, found: dict[str, EmbeddingInfo]) -> None:
    """The nearest samples of one, by the features of each model that was embedded on this pack."""
    ids = [f"{r.split}/{r.id}" for r in rows.head(200).itertuples()]
    chosen = st.selectbox("Of sample", ids, key="embeddings.of", format_func=visible)
    split, _, sample_id = chosen.partition("/")
    same = [run for run, e in found.items() if e.about["pack_hash"] == pack.info.content_hash]
    index = pd.MultiIndex.from_frame(pack.samples[["split", "row"]])
    for run_id in dict.fromkeys([shown.run_id, *same[:8]]):
        info = found[run_id]
        like = info.about["operator"] == shown.embedding.about["operator"] and shown.severity in info.severities
        severity = shown.severity if like else info.severities[0]
        st.markdown(f"**{plain(info.about['model_title'])} · {plain(severity_text(info, severity))}** · …{run_id[-4:]}")
        points = points_of(workspace(), run_id, severity, pack).frame
        at = np.flatnonzero((points["split"] == split) & (points["id"] == sample_id))
        if not len(at):
            st.caption("This sample is not among those embedded.")
            continue
        near = points.iloc[[int(at[0]), *map(int, points["neighbours"].iloc[int(at[0])][:9])]]
        samples = pack.samples.iloc[index.get_indexer(pd.MultiIndex.from_frame(near[["split", "row"]]))]
        labels = [labels_of(s) for s in samples.itertuples()]
        notes = ["itself"]
        for mine, sample in zip(labels[1:], samples.iloc[1:].itertuples(), strict=True):
            mark = ("✓ " if set(mine) & set(labels[0]) else "✗ ") if labels[0] and mine else ""
            notes.append(mark + (", ".join(mine) or str(sample.id)))
        layer = str(info.about["layer"])
        sample_grid(pack, samples, layer=layer, view=find_view(pack.layer(layer), None).key, notes=notes)


def show_selection(pack: Pack, shown: Shown, found: dict[str, EmbeddingInfo]) -> None:
    chosen = selected(pack)
    if not len(chosen):
        st.caption(
            ":material/lasso_select: Draw around points to see their samples, where they lie, and what is near them "
            "for each model."
        )
        return
    rows = pack.samples.iloc[chosen]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader(f"{len(rows):,} selected" if len(rows) > 1 else "1 selected", anchor=False, width="content")
        st.button("Clear", icon=":material/close:", on_click=clear, key="embeddings.clear")
        st.space("stretch")
        tab = choose_one_of(
            "Selected", ["Samples", "Table", "Map", "Neighbours"], "show", label_visibility="collapsed"
        )  # fmt: skip
    view = find_view(pack.layer(shown.layer), None).key
    if rows["label"].notna().any():
        counts = rows["label"].value_counts()
        st.caption("  ·  ".join(f"{plain(name)} {count:,}" for name, count in counts.head(12).items()))
    if tab == "Samples":
        pages = max(1, -(-len(rows) // PER_PAGE))
        page = page_number(pages)
        sample_grid(pack, rows.iloc[(page - 1) * PER_PAGE : page * PER_PAGE], layer=shown.layer, view=view)
        if pages > 1:
            page_control(pages)
    elif tab == "Table":
        table_of(pack, rows)
    elif tab == "Map":
        map_of(pack, rows)
    else:
        neighbours_of(pack, rows, shown, found)


heading("Embeddings", "How a model lays images out: what lies near what, at which resolution, and how far to trust it.")
keys, found, broken = known_maps()
for run_id, problem in broken.items():
    st.warning(f"…{run_id[-4:]}: {plain(problem)}", icon=":material/folder_off:")
if not keys:
    empty_state(
        ":material/scatter_plot:", "No map yet", "Embed a pack with a model: its features, laid out in two dimensions.",
        [(LAUNCH, "Launch an embedding"), (DATASETS, "See the packs")],
    )  # fmt: skip
    st.stop()
maps = choose_maps(keys, found)
about = maps[0].embedding.about
pack = open_pack(workspace(), about["dataset"])
if pack.info.content_hash != about["pack_hash"]:
    st.warning(
        f"Pack {plain(pack.name)} was prepared again since this map was made: embed again.", icon=":material/update:"
    )
    st.stop()
of_each = [colors_for(shown, pack) for shown in maps]
colors = of_each[0]
with st.container(horizontal=True, vertical_alignment="bottom"):
    color = choose("Colour", list(colors), "color", format_func=lambda c: colors.get(c, c), width=320)
    layout = choose_one_of("Layout", list(LAYOUTS), "layout")
    st.space("stretch")
    st.page_link(
        LAUNCH, label="Embed another", icon=":material/rocket_launch:",
        query_params={"job": "embed", "pack": pack.name},
    )  # fmt: skip
if about["synthetic"]:
    st.badge("synthetic", icon=":material/science:", color="violet")
sides = ("left", "right")[: len(maps)]
for column, shown, own, side in zip(st.columns(len(maps)), maps, of_each, sides, strict=True):
    with column:
        st.markdown(f"**{plain(shown.title)}**")
        draw(shown, pack, str(color), colors | own, layout, side)
show_selection(pack, maps[0], found)
