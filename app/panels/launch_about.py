"""What the Launch page says of a method beside its form."""

from __future__ import annotations

import streamlit as st

from app.text import number, plain
from rsfm.packs import PackInfo
from rsfm.registry import MethodEntry
from rsfm.specs import EncoderParams, PretrainSpec


def about_method(entry: MethodEntry, spec: PretrainSpec | None, pack: PackInfo | None) -> None:
    """The paper, what a training comes to with these settings, and how a healthy one looks."""
    with st.container(border=True):
        st.markdown(f"**{plain(entry.title)}**")
        st.caption(f"{plain(entry.paper)} · {plain(entry.family)} · {plain(entry.inputs)}")
        st.markdown(plain(entry.summary))
        if spec is not None and pack is not None:
            samples = sum(pack.splits.get(s, 0) for s in spec.splits)
            epochs = spec.optim.samples / samples if samples else float("nan")
            count = _tokens(spec, pack)
            st.table(
                {
                    "Optimiser steps": number(spec.optim.steps),
                    "Passes over the data": number(epochs, 3),
                    "Peak learning rate": number(spec.optim.peak_lr, 3),
                    **({} if count is None else {"Tokens per image": number(count)}),
                },
                border="horizontal",
            )
        if entry.healthy:
            st.markdown(":material/favorite: **What a healthy run looks like**")
            st.caption(plain(entry.healthy))


def _tokens(spec: PretrainSpec, pack: PackInfo) -> int | None:
    """Patches of one view; None where the encoder has none."""
    layer = next((x for x in pack.layers if x.role == "image"), None)
    if layer is None or not isinstance(spec.encoder, EncoderParams):
        return None
    side = spec.image_size or min(layer.shape[1:])
    return (side // spec.encoder.patch_size) ** 2
