"""A pack straight from arrays in memory: for generated data and for tests."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np

from rsfm.bands import Band
from rsfm.pack_writer import PackWriter
from rsfm.packs import BandInfo, LayerInfo, Pack
from rsfm.specs import spec_hash
from rsfm.store.files import utc_now
from rsfm.workspace import Workspace


def write_arrays(
    workspace: Workspace,
    name: str,
    images: Mapping[str, np.ndarray],
    bands: Sequence[Band],
    *,
    labels: Mapping[str, Sequence[str]] | None = None,
    gsd_m: float | None = None,
    sensor: str | None = None,
    synthetic: bool = False,
    title: str = "",
) -> Pack:
    """A pack straight from arrays in memory.

    Args:
        images: split -> (N, C, H, W), all of one dtype and sample shape.
        bands: the C bands in order, with their storage rule.
        labels: split -> N class names; makes it a classification pack.
    """
    first = next(iter(images.values()))
    layer = LayerInfo(
        dtype=str(first.dtype), shape=first.shape[1:], gsd_m=gsd_m, sensor=sensor,
        bands=[BandInfo(**vars(band)) for band in bands],
    )  # fmt: skip
    classes = sorted({x for values in (labels or {}).values() for x in values})
    request = spec_hash([utc_now(), name, os.urandom(8).hex()])
    with PackWriter(workspace, name, request_hash=request, layers=[layer]) as writer:
        for split, array in images.items():
            for i, image in enumerate(array):
                label = labels[split][i] if labels else None
                writer.add(id=f"{split}-{i:06d}", split=split, arrays={"image": image}, label=label)
        writer.finish(
            dataset=name, title=title or name, classes=classes, synthetic=synthetic,
            task="classification" if labels else "unlabelled", source="arrays in memory",
        )  # fmt: skip
    return Pack.open(workspace.packs / name)
