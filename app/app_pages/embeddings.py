"""Embeddings: how a model lays a pack's images out, and what lies near what."""

from __future__ import annotations

import numpy as np
import streamlit as st

from app.components.embedding import chosen_points, points_map
from app.embedded import Shown, points_of, severity_text
from app.imaging import find_view
from app.page import DATASETS, LAUNCH, empty_state, heading
from app.panels.map_colors import coloring, colors_for
from app.panels.selection_view import show_selection
from app.routes.embeddings import LAYOUTS, points_url
from app.routes.thumbnails import thumbnail_url
from app.selection import select, selected
from app.state import open_embedding_info, open_pack, store, workspace
from app.text import missing, number, plain, visible
from app.view_state import choose, choose_one_of
from rsfm.embedding_info import EmbeddingInfo
from rsfm.errors import RsfmError
from rsfm.packs import Pack
from rsfm.store.runs import is_run_id

#: Embeddings to choose from.
MOST_LISTED = 100
#: Stands in an address for a split and a row.
SAMPLE = "SAMPLE"


# -- which maps ----------------------------------------------------------------------------------------------------
def known_maps() -> tuple[dict[str, tuple[str, float]], dict[str, EmbeddingInfo], dict[str, str]]:
    """Key -> run and severity; run -> what it shows; run -> why it cannot be shown. Newest first."""
    keys: dict[str, tuple[str, float]] = {}
    found: dict[str, EmbeddingInfo] = {}
    broken: dict[str, str] = {}
    runs = [str(r) for r in store().runs(kind="embed", states=("succeeded",), limit=MOST_LISTED)["run_id"]]
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
    if len(found) >= MOST_LISTED:
        st.caption(f"The newest {MOST_LISTED} embeddings are listed; the page of an older run leads to its map.")
    shown = []
    for key in (first, beside):
        if key in keys:
            run_id, severity = keys[key]
            shown.append(Shown(key, run_id, found[run_id], severity))
    return shown


# -- selection -----------------------------------------------------------------------------------------------------
def take_selection(side: str, pack: Pack, positions: np.ndarray) -> None:
    """What was drawn around becomes the one selection of the page. `positions`: point -> sample."""
    select(pack, positions[chosen_points(f"embeddings.map.{side}", len(positions))])


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
        on_choose=lambda: take_selection(side, pack, points.positions),
    )  # fmt: skip
    quality(shown, layout)


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
