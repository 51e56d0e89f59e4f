"""Add your own: what one checks with one's eyes before a folder or a scene is kept."""

from __future__ import annotations

import numpy as np
import streamlit as st

from app import looked
from app.components.bars import class_counts_figure, class_pixels_figure, largest_classes, share_text
from app.components.ground import choose_ground
from app.page import CHART
from app.panels.pack_view import mask_legend
from app.routes.looked import scene_map_url
from app.text import number, plain, visible
from data_catalog.describe import Understanding
from data_catalog.preview import Preview, Sight
from data_catalog.readers.tiles import IGNORE
from rsfm.thumbs import mask_colours

#: Classes that get a bar; the others are counted in words.
MOST_BARS = 24
#: Broken files that are named.
MOST_NAMED = 5
TITLES = {"image_pre": "Before", "image_post": "After", "image": "Image"}


def preview_box(found: Understanding, key: str) -> None:
    """Pictures of it, and how many images or pixels each class has.

    Args:
        key: of `app.looked.remember`.

    Raises:
        RsfmError: the files are no longer what they were.
    """
    with st.spinner("Reading some pictures…"):
        shown = looked.pictures(key)
    if found.is_scene:
        scenes(shown, key)
    else:
        samples(found, shown, key)
    troubles(shown)
    if found.counts:
        balance(found)
    if shown.pixels:
        pixels(found, shown)


def bands_text(shown: Preview) -> str:
    how = f"Band {shown.bands[0]} in grey" if len(shown.bands) == 1 else f"Red, green, blue: {', '.join(shown.bands)}"
    return f"{how}, stretched from the 2nd to the 98th percentile of what is shown."


def samples(found: Understanding, shown: Preview, key: str) -> None:
    """A few samples, all layers of each side by side."""
    if not shown.sights:
        return
    layers = [layer for layer, _ in shown.sights[0].pictures]
    several = len(layers) > 1
    with st.grid("auto", min_column_width=178 * len(layers) if several else 130, gap="small"):
        for row, sight in enumerate(shown.sights):
            with st.container(gap="xxsmall"):
                if several:
                    pictures_of(found, sight, key, row)
                else:
                    picture(key, row, 0, sight.label or sight.name)
                st.caption(plain(sight.label or sight.name), help=plain(sight.name) if sight.label else None)
    mask = next((x for x in found.entry.layers if x.role == "mask"), None)
    if mask is not None:
        mask_legend(mask.classes, IGNORE)
    total = sum(found.entry.splits.values())
    of = f" of {number(total)}" if total else ""
    st.caption(plain(f"{len(shown.sights)}{of} samples, spread over {where(found)}. {bands_text(shown)}"))


def where(found: Understanding) -> str:
    return "the classes" if found.counts else "the folder"


def pictures_of(found: Understanding, sight: Sight, key: str, row: int) -> None:
    """All layers of one sample."""
    with st.container(horizontal=True, gap="xsmall"):
        for which, (layer, _) in enumerate(sight.pictures):
            mask = "Change map" if found.entry.task == "change" else "Label map"
            title = TITLES.get(layer, mask)
            with st.container(gap="xxsmall", width=176):
                picture(key, row, which, f"{title} of {sight.name}", width=176)
                st.caption(title)


def picture(key: str, row: int, which: int, alt: str, width: int = 138) -> None:
    st.image(looked.picture_png(key, row, which), width=width, alt=visible(alt))


def scenes(shown: Preview, key: str) -> None:
    """Each scene as a whole, and where it lies."""
    placed = bool(looked.footprints(shown)["features"])
    with st.grid(2, min_column_width=300, gap="medium"):
        with st.grid("auto", min_column_width=220 if len(shown.sights) > 1 else 300, gap="small"):
            for row, sight in enumerate(shown.sights):
                with st.container(gap="xxsmall"):
                    height, width = sight.shape
                    fit = min(420, round(460 * width / height))
                    picture(key, row, 0, f"The whole of {sight.name}", width=max(fit, 40))
                    st.caption(plain(f"{sight.name}  ·  {height} × {width} pixels"))
        with st.container(gap="xsmall"):
            if placed:
                url = scene_map_url(key, theme=st.context.theme.type or "light", ground=choose_ground())
                st.iframe(url, height=460, alt="Footprints of the scenes")
            elif shown.sights:
                st.caption("No place is known: the files carry no coordinates that a map can show.")
    if shown.sights:
        st.caption(plain(bands_text(shown)))


def troubles(shown: Preview) -> None:
    """What could not be shown, by name."""
    for bad in shown.bad[:MOST_NAMED]:
        st.caption(f":orange[:material/broken_image:] **{plain(bad.path)}** {plain(bad.reason)}: no picture.")
    if len(shown.bad) > MOST_NAMED:
        st.caption(f"and {len(shown.bad) - MOST_NAMED} more files without a picture")
    if shown.too_large:
        names = ", ".join(shown.too_large[:3]) + (" …" if len(shown.too_large) > 3 else "")
        st.caption(plain(f"Too large for a quick look, without smaller copies (overviews) inside: {names}"))


def balance(found: Understanding) -> None:
    """Images per class."""
    classes, rest = largest_classes(found.counts, MOST_BARS)
    st.plotly_chart(
        class_counts_figure(found.counts, classes), config=CHART, key="add.classes", alt="Images per class and split"
    )
    if rest:
        st.caption(plain(f"… {rest}"))


def pixels(found: Understanding, shown: Preview) -> None:
    """Pixels per class of the label maps that were read; the others may differ."""
    classes = next(x for x in found.entry.layers if x.role == "mask").classes
    total, maps, of = sum(shown.pixels), len(shown.sights), sum(found.entry.splits.values())
    what = "change maps" if found.entry.task == "change" else "label maps"
    colors = mask_colours(np.array([[*range(len(classes)), IGNORE]]), IGNORE)[0]
    *rows, ignored = zip([*classes, "does not count"], shown.pixels, map(hex_colour, colors), strict=True)
    rows.sort(key=lambda row: -row[1])
    st.markdown(f"**Pixels per class** of the {what} above: {number(maps)} of {number(of)}")
    bars = rows[:MOST_BARS] + [ignored] * bool(ignored[1])
    st.plotly_chart(
        class_pixels_figure(bars, total), config=CHART, key="add.pixels", alt="Share of the pixels per class"
    )
    if rows[MOST_BARS:]:
        left = sum(count for _, count, _ in rows[MOST_BARS:])
        st.caption(
            f"… and {len(rows) - MOST_BARS} more of the classes: {share_text(left, total)} of the pixels together"
        )
    st.caption(f"{number(total)} pixels.{' The other maps were not read: theirs may differ.' if of > maps else ''}")


def hex_colour(color: np.ndarray) -> str:
    return "#{:02x}{:02x}{:02x}".format(*map(int, color))
