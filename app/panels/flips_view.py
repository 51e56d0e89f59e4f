"""Which samples flip: those that a model gets wrong, or right, once images are degraded. Opened by a click."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from app.components.degradation import variant_text, variants
from app.components.flips_text import as_csv, confusions, sample_text, summary, which_seeds
from app.components.measures import Scale, adaptation_title, scale_of, target_title
from app.imaging import views_of_bands
from app.page import EMBEDDINGS, run_link
from app.panels.model_tests import newest
from app.panels.sample_grid import labels_of
from app.routes.thumbnails import TARGET_LAYERS, thumbnail_url
from app.selection import picked
from app.state import open_embedding_info, open_pack, store, store_of, workspace
from app.text import missing, plain, visible
from app.view_state import choose, choose_one_of, choose_or_none, page_control, page_number, put, say_unknown
from rsfm.comparison import CURVE, Flips, curve_id, flips
from rsfm.errors import RsfmError
from rsfm.packs import Pack
from rsfm.thumbs import Degraded
from rsfm.workspace import Workspace

PER_PAGE = 12
#: Evaluations that are linked.
LINKS = 6
#: Names in the URL: the curve, its severity, the other severity, the seed, what became of the samples, the page.
CURVE_NAME, AT, AGAINST, SEED, SHOW, PAGE = "curve", "at", "against", "seed", "flips", "page"
ALL_SEEDS = "all"
Point = tuple[str, float]
#: Chart -> how often it began anew.
TURNS = "degradation.turns"
#: What was listed last, and the page of it that the URL asked for.
_LISTED = "flips.listed"


# -- the chosen point ----------------------------------------------------------------------------------------------
def chosen_point() -> Point | None:
    """The curve and the severity that the URL names."""
    curve, at = st.query_params.get(CURVE_NAME), st.query_params.get(AT, "")
    try:
        return (curve, float(at)) if curve else None
    except ValueError:
        return None


def chart_key(name: str) -> str:
    """The widget's key of a chart, another one whenever it is to begin anew."""
    return f"{name}.{st.session_state.setdefault(TURNS, {}).setdefault(name, 0)}"


def take_point(key: str) -> None:
    """What was clicked in a chart goes into the URL; a click on the same point takes it out again."""
    points = [p["customdata"] for p in st.session_state[key].selection.points if p.get("customdata")]
    put(CURVE_NAME, points[0][0] if points else None)
    put(AT, f"{points[0][1]:g}" if points else None)
    put(PAGE, None)
    # A chart keeps its own mark in the browser: all others begin anew without theirs.
    turns, mine = st.session_state[TURNS], key.rpartition(".")[0]
    st.session_state[TURNS] = {name: turn + (name != mine) for name, turn in turns.items()}


# -- what is compared ----------------------------------------------------------------------------------------------
@st.cache_data(max_entries=32, show_spinner=False)
def _flips(
    root: str, since: tuple[int, str], curve: tuple[Any, ...], severity: float, against: float, metric: str | None
) -> Flips:
    named = dict(zip(CURVE, curve, strict=True))
    return flips(store_of(Workspace.resolve(root)), named, severity, against, metric=metric)


def _names(rows: pd.DataFrame) -> dict[str, str]:
    """Curve -> its name among those on the page."""
    firsts = {curve_id(row): row for row in rows.drop_duplicates(list(CURVE)).to_dict("records")}
    differing = variants(rows)
    several = {name: rows[name].nunique() > 1 for name in ("dataset", "adaptation")}
    found = {}
    for curve, row in firsts.items():
        parts = [
            row["model_title"], row["dataset"] if several["dataset"] else "",
            adaptation_title(row["adaptation"]) if several["adaptation"] else "",
            *(variant_text(k, row) for k in dict.fromkeys([*differing, "train_degrade"])),
        ]  # fmt: skip
        found[curve] = " · ".join(visible(p) for p in parts if p)
    return found


def flips_panel(rows: pd.DataFrame, metric: str | None) -> None:
    """Choose a point (or click it above) and see what became of its samples.

    Args:
        rows: those on the page, without published ones.
        metric: the score that counts; None for the primary one of each task.
    """
    st.subheader("Which samples flip?", anchor=False)
    names = _names(rows)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        curve = choose_or_none(
            "Curve", list(names), CURVE_NAME, format_func=lambda c: names.get(c, c), width=420,
            placeholder="Click a point above, or choose a curve",
        )  # fmt: skip
        if curve is None:
            return
        points = rows[[curve_id(r) == curve for r in rows[list(CURVE)].to_dict("records")]].dropna(subset=["mean"])
        levels = {f"{s:g}": float(s) for s in sorted(points["severity"].unique())}
        if len(levels) < 2:
            st.caption("It was measured at one severity only: there is nothing to compare with.")
            return
        scale = scale_of(points["operator"].iloc[0])
        named = {text: scale.level(s) for text, s in levels.items()}
        at = choose("At", list(levels), AT, list(levels)[-1], format_func=lambda s: named.get(s, s), width=110)
        others = [s for s in levels if s != at]
        if st.query_params.get(AGAINST) == at:  # as after a click on the point that others were compared with
            put(AGAINST, None)
        first = next((s for s in others if levels[s] == scale.identity), others[0] if at != others[0] else others[-1])
        against = choose(
            "Compared with", others, AGAINST, first if levels[str(at)] != scale.identity else others[-1],
            format_func=lambda s: named.get(s, s), width=130,
        )  # fmt: skip
        assert at is not None and against is not None
        try:
            with st.spinner("Reading predictions …"):
                row = points.iloc[0]
                key = tuple(None if missing(row[name]) else row[name] for name in CURVE)
                found = _flips(str(workspace().root), newest(), key, levels[at], levels[against], metric)
        except RsfmError as error:
            st.error(plain(error), icon=":material/error:")
            return
        found = _choose_seed(found)
    _show(found, points.iloc[0].to_dict(), levels[against], levels[at], scale)


def _choose_seed(found: Flips) -> Flips:
    """All seeds together, or one of them: of those that were measured at both severities."""
    names = [f"{model}/{evaluation}" for model, evaluation in found.seeds]
    if len(found.seeds) == 1:
        say_unknown("Seeds", [*names, ALL_SEEDS], SEED)
        return found
    models = {model for model, _ in found.seeds}
    texts = {ALL_SEEDS: f"All {len(found.seeds)} seeds"}
    for name, (model, evaluation) in zip(names, found.seeds, strict=True):
        text = f"evaluation seed {evaluation}"
        texts[name] = f"model seed {model}, {text}" if len(models) > 1 else text.capitalize()
    chosen = choose("Seeds", list(texts), SEED, ALL_SEEDS, format_func=lambda s: texts.get(s, s), width=220)
    if chosen in (None, ALL_SEEDS):
        return found
    return found.only(found.seeds[list(texts).index(str(chosen)) - 1])


# -- what is shown -------------------------------------------------------------------------------------------------
def _show(found: Flips, row: dict[str, Any], before: float, after: float, scale: Scale) -> None:
    table = found.table()
    pack, why = _pack_of(row, found)
    classes = pack.info.classes if pack is not None else []
    with st.container(border=True):
        st.markdown(summary(found, row, scale.level(before), scale.level(after)))
        st.caption(plain(" ".join([which_seeds(found), *found.left_out])))
        with st.container(horizontal=True):
            runs = list(dict.fromkeys(run for pair in found.runs for run in pair))
            for run in runs[:LINKS]:
                _run_link(run)
            if len(runs) > LINKS:
                st.caption(f"and {len(runs) - LINKS} more", width="content")
    sides = {"lost": table[table["lost"] > 0], "won": table[table["won"] > 0]}
    with st.container(horizontal=True, vertical_alignment="center"):
        show = choose_one_of(
            "Show", list(sides), SHOW, label_visibility="collapsed",
            format_func=lambda s: f"{s.capitalize()} ({len(sides[s]):,})",
        )  # fmt: skip
        st.space("stretch")
        st.download_button(
            "Download CSV", lambda: as_csv(found, row, before, after, classes), "flips.csv", "text/csv",
            icon=":material/download:", on_click="ignore", key="flips.csv",
        )  # fmt: skip
        rows = sides[show]
        if pack is not None and len(rows):
            _embeddings_button(pack, str(row["split"]), rows["sample_id"].tolist())
    pages = -(-len(rows) // PER_PAGE)
    page = _page(pages, (curve_id(row), before, after, found.seeds, found.metric, show))
    if rows.empty:
        st.caption(f"No sample was {show}.")
        return
    sign = 1 if show == "lost" else -1
    rows = rows.assign(order=sign * rows["gain"]).sort_values(["order", "position"], kind="stable")
    if ways := confusions(found, show, classes):
        st.caption(plain(ways))
    shown = rows.iloc[(page - 1) * PER_PAGE : page * PER_PAGE]
    if pack is None:
        st.info(plain(why), icon=":material/hide_image:")
        texts = [sample_text(found, r, classes) for r in shown.to_dict("records")]
        st.dataframe(
            pd.DataFrame({"Sample": shown["sample_id"].map(visible), "What became of it": texts}), hide_index=True,
            alt="The samples that flipped",
        )  # fmt: skip
    else:
        st.caption(
            f"Each sample at {plain(scale.level(before))} and at {plain(scale.level(after))}, as the model saw it."
        )
        _grid(pack, row, found, shown, before, after, scale)
    if pages > 1:
        page_control(pages, PAGE)


def _page(pages: int, of: tuple[Any, ...]) -> int:
    """The page that the URL asks for; the first one after a change of what is listed, unless the page has changed too.

    Args:
        of: what is listed.
    """
    asked = st.query_params.get(PAGE)
    before, page = st.session_state.get(_LISTED, (of, asked))
    if before != of and page == asked:
        put(PAGE, None)
    st.session_state[_LISTED] = (of, st.query_params.get(PAGE))
    return page_number(pages, PAGE)


def _run_link(run_id: str) -> None:
    rows = store().run(run_id)
    if len(rows):
        run_link(rows.iloc[0].to_dict(), label=f"Evaluation …{run_id[-4:]}")


def _pack_of(row: Mapping[str, Any], found: Flips) -> tuple[Pack | None, str]:
    """The pack that the samples are of; or why there are no pictures."""
    try:
        pack = open_pack(workspace(), str(row["dataset"]))
    except RsfmError as error:
        return None, f"There are no pictures: {error}"
    if pack.info.content_hash != row["pack_hash"]:
        return None, "The pack was prepared again since this was measured: there are no pictures of what was seen then."
    known = set(pack.samples.loc[pack.samples["split"] == row["split"], "id"])
    if not known.issuperset(found.ids):
        return None, "Some of these samples are not in the pack: there are no pictures."
    return pack, ""


def _grid(
    pack: Pack, row: Mapping[str, Any], found: Flips, shown: pd.DataFrame, before: float, after: float, scale: Scale
) -> None:
    split = str(row["split"])
    samples = pack.samples[pack.samples["split"] == split].set_index("id").loc[shown["sample_id"]].reset_index()
    layers = TARGET_LAYERS.get(str(row["degrade_target"]), ())
    with st.grid("auto", min_column_width=290, gap="small"):
        for sample, record in zip(samples.itertuples(), shown.to_dict("records"), strict=True):
            with st.container(border=True, gap="xxsmall"):
                labels = ", ".join(labels_of(sample))
                st.markdown(f"**{plain(labels or sample.id)}**", help=plain(sample.id) if labels else None)
                for layer in layers:
                    pictures = [
                        _picture(pack, row, split, int(sample.row), layer, severity, scale)
                        for severity in (before, after)
                    ]
                    st.markdown(" ".join(pictures))
                if others := _context(pack, split, int(sample.row), layers):
                    st.markdown(" ".join(others))
                st.caption(plain(sample_text(found, record, pack.info.classes)))


def _picture(
    pack: Pack, row: Mapping[str, Any], split: str, sample: int, layer: str, severity: float, scale: Scale
) -> str:
    """One image as the model saw it, as Markdown."""
    bands = tuple(str(row["bands"]).split(","))
    view = views_of_bands([b for b in pack.layer(layer).bands if b.name in bands])[0].key
    url = thumbnail_url(
        pack.name, split, sample, version=pack.info.content_hash, size=128, view=view, layer=layer,
        degraded=Degraded(str(row["operator"]), severity, bands),
    )  # fmt: skip
    return f"![at {plain(scale.level(severity))}]({url})"


def _context(pack: Pack, split: str, sample: int, degraded: tuple[str, ...]) -> list[str]:
    """The other layers of a sample: the image that was left as it is, the true map."""
    titles = {"image_pre": target_title("pre"), "image_post": target_title("post")}
    return [
        f"![{plain('Labels' if layer.role == 'mask' else titles.get(layer.name, layer.name))}]("
        f"{thumbnail_url(pack.name, split, sample, version=pack.info.content_hash, size=128, layer=layer.name)})"
        for layer in pack.info.layers
        if layer.name not in degraded
    ]


def _embeddings_button(pack: Pack, split: str, ids: list[str]) -> None:
    """Opens these samples on the page Embeddings, where a map of this pack's content is there."""
    maps = _maps_of(pack.info.content_hash)
    if not maps:
        return
    if st.button(
        "Show on Embeddings", icon=":material/scatter_plot:", key="flips.embeddings",
        help="Selects these samples there, on the newest map of this pack.",
    ):  # fmt: skip
        chosen = set(ids)
        mine = (pack.samples["split"] == split) & pack.samples["id"].isin(chosen)
        st.switch_page(EMBEDDINGS, query_params={"map": maps[0], **picked(pack, np.flatnonzero(mine))})


def _maps_of(content: str) -> list[str]:
    """Keys of the maps of a pack's content, as the page Embeddings names them, newest first."""
    found = []
    for run_id in store().runs(kind="embed", states=("succeeded",), limit=100)["run_id"]:
        try:
            info = open_embedding_info(workspace(), str(run_id))
        except RsfmError:  # the page Embeddings says what is wrong with it
            continue
        if info.about["pack_hash"] == content:
            found.append(f"{run_id}@{info.severities[0]:g}")
    return found
