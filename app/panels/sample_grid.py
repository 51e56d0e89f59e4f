"""Samples for people to look at: their labels, words and thumbnails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import streamlit as st

from app.routes.thumbnails import thumbnail_url
from app.text import missing, plain
from rsfm.packs import Pack


def labels_of(sample: Any) -> list[str]:
    """The class names of a sample (a row of samples.parquet): none, one or several."""
    several = getattr(sample, "labels", None)
    if several is not None and not isinstance(several, str | float):
        return [str(label) for label in several]
    return [] if missing(sample.label) else [str(sample.label)]


def sample_grid(
    pack: Pack,
    samples: pd.DataFrame,
    *,
    layer: str,
    view: str,
    notes: list[str] | None = None,
    on_open: Callable[[str], None] | None = None,
) -> None:
    """One thumbnail for each sample.

    Args:
        samples: rows of samples.parquet.
        view: a key of `app.imaging.views`.
        notes: a line below each, in place of its labels.
        on_open: makes the line a button; called with `split:row`.
    """
    with st.grid("auto", min_column_width=118, gap="small"):
        for number, sample in enumerate(samples.itertuples()):
            url = thumbnail_url(
                pack.name, str(sample.split), int(sample.row), version=pack.info.content_hash, view=view, layer=layer
            )
            title = ", ".join(labels_of(sample)) or str(sample.id)
            picture, said = f"![{plain(title)}]({url})", plain(notes[number] if notes else title)
            if on_open is None:  # one element for both: browsers take their time over each
                st.caption(f"{picture}  \n{said}")
                continue
            key = f"{sample.split}:{int(sample.row)}"
            with st.container(gap="xxsmall"):
                st.markdown(picture)
                st.button(
                    said, key=f"open-{pack.name}-{key}", type="tertiary", on_click=on_open, args=(key,),
                    help=plain(sample.id),
                )  # fmt: skip
