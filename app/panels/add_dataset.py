"""Add your own: look at a folder or a scene, show what was understood, keep it, prepare it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from app.looked import remember
from app.page import RUN
from app.panels.add_preview import preview_box
from app.state import workspace
from app.text import plain
from jobs import client
from rsfm.errors import RsfmError
from rsfm.specs import PrepareSpec

if TYPE_CHECKING:
    from data_catalog.add import Understanding

FOUND, RUN_OF = "add.found", "add.run"
#: Where the system shows itself as files, which are no data and may have no end.
NO_DATA = (Path("/proc"), Path("/sys"), Path("/dev"))


def add_view() -> None:
    st.markdown(
        "A folder of images (one folder per class, or with `labels.csv`), of images with masks (`images/`, `masks/`), "
        "of pairs with masks (`A/`, `B/`, `label/`), or one GeoTIFF scene, on the machine that runs this dashboard. "
        "What is understood is shown before anything is kept."
    )
    look_form()
    looked: tuple[Understanding, str] | None = st.session_state.get(FOUND)
    if looked is not None:
        keep_box(*looked)
    kept = st.session_state.get(RUN_OF)
    if kept:
        name, run_id = kept
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            said = f":green[:material/check_circle:] **{plain(name)}** is kept and queued for preparation."
            st.markdown(said, width="content")
            st.page_link(
                RUN, label="Watch it being prepared", icon=":material/monitoring:", query_params={"run": run_id}
            )


def look_form() -> None:
    """Where the files are, and what is known of them already."""
    from data_catalog.add import understand
    from data_catalog.readers.image_folder import Bounds

    with st.form("add", border=True):
        left, right = st.columns([3, 1])
        path = left.text_input("Path", placeholder="/data/my-tiles or /data/scene.tif")
        name = right.text_input("Name", placeholder="From the path")
        with st.expander("Correct what is understood", icon=":material/edit:"), st.grid(5, min_column_width=150):
            sensor = st.text_input("Sensor", placeholder="e.g. sentinel-2")
            bands = st.text_input("Bands", placeholder="e.g. B02, B03, B04", help="In file order")
            unit = st.selectbox("Unit", ["dn", "reflectance", "db", "uint8"], index=None, placeholder="As understood")
            scale = st.number_input("Scale", value=None, placeholder="value = stored × scale", format="%g")
            gsd = st.number_input("Pixel size (m)", value=None, min_value=0.001, placeholder="As understood")
        if not st.form_submit_button("Look at it", icon=":material/search:"):
            return
    for key in (FOUND, RUN_OF):
        st.session_state.pop(key, None)
    if not path.strip():
        st.error("Name a folder or a file first.", icon=":material/error:")
        return
    try:
        refuse_no_data(path.strip())
        with st.spinner("Looking at the files…"):
            found = understand(
                path.strip(), name.strip() or None, sensor_name=sensor.strip() or None, unit=unit, scale=scale,
                bands=[b.strip() for b in bands.split(",") if b.strip()] or None, gsd_m=gsd, bounds=Bounds(),
            )  # fmt: skip
            st.session_state[FOUND] = found, remember(found)
    except RsfmError as error:
        st.error(plain(error), icon=":material/error:")
    except (OSError, ValueError, RuntimeError) as error:  # not a path at all, or not ours to read
        st.error(plain(f"{path} cannot be looked at: {error}"), icon=":material/error:")


def refuse_no_data(text: str) -> None:
    """What holds this lab or lies in it, and what is no disk at all, is no dataset.

    Raises:
        RsfmError: it is such a folder.
    """
    path, own = Path(text).expanduser().resolve(), workspace().root.resolve()
    if own.is_relative_to(path):
        raise RsfmError(f"{path} holds this dashboard's own workspace: name the folder of the dataset alone.")
    if path.is_relative_to(own):
        raise RsfmError(f"{path} belongs to this dashboard's own workspace: name a folder outside of it.")
    if any(path.is_relative_to(p) for p in NO_DATA) and not path.is_relative_to("/dev/shm"):
        raise RsfmError(f"{path} belongs to the system and holds no data.")


def keep_box(found: Understanding, key: str) -> None:
    """What was understood, and the button that keeps it. `key`: of `app.looked.remember`."""
    from data_catalog.add import refuse_taken

    entry = found.entry
    with st.container(border=True):
        st.markdown(f"**{plain(entry.title)}** as `{entry.name}`")
        for finding in found.findings:
            mark = ":green[:material/check:]" if finding.certain else ":orange[:material/help:]"
            st.markdown(f"{mark} **{plain(finding.subject)}**: {plain(finding.text)}")
        if found.ambiguous:
            st.caption("Lines with a question mark are guesses: correct them above where they are wrong.")
        try:
            preview_box(found, key)
        except RsfmError as error:
            st.warning(plain(f"No picture can be shown: {error}"), icon=":material/broken_image:")
        replace = False
        try:
            refuse_taken(entry.name, workspace())
        except RsfmError:
            st.warning(f"There is a dataset or a pack {plain(entry.name)} already.", icon=":material/warning:")
            replace = st.toggle("Replace a dataset of yours with that name", key=f"add.replace.{entry.name}")
        with st.container(horizontal=True, vertical_alignment="bottom"):
            side = st.number_input(
                "Tile size" if found.tiled else "Image size", min_value=8, value=None, step=1, width=180,
                placeholder="Default" if found.tiled else "As stored", key="add.size",
                help="Pixels per side. Images are cut into such tiles." if found.tiled else "Images get this size.",
            )  # fmt: skip
            st.button(
                "Keep and prepare", type="primary", icon=":material/inventory_2:", on_click=keep,
                args=(found, replace, side),
            )  # fmt: skip
        problem = st.session_state.pop("add.problem", None)
        if problem:
            st.error(plain(problem), icon=":material/error:")


def keep(found: Understanding, replace: bool, side: int | None) -> None:
    """Register the entry and queue its preparation; what cannot be queued is not kept."""
    from data_catalog.add import registered

    place, name = workspace(), found.entry.name
    try:
        spec = PrepareSpec(dataset=name, **{"tile_size" if found.tiled else "image_size": side})
        with registered(found.entry, place, replace=replace):
            run_id = client.submit(place, spec)
    except RsfmError as error:
        st.session_state["add.problem"] = str(error).replace(", or replace it (--replace)", "")
        return
    st.session_state.pop(FOUND, None)
    st.session_state[RUN_OF] = (name, run_id)
