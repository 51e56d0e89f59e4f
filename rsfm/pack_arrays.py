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
    labels: Mapping[str, Sequence[str]] | Mapping[str, Sequence[Sequence[str]]] | None = None,
    later: Mapping[str, np.ndarray] | None = None,
    masks: Mapping[str, np.ndarray] | None = None,
    classes: Sequence[str] = (),
    ignore_value: int | None = None,
    nodata: float | None = None,
    gsd_m: float | None = None,
    sensor: str | None = None,
    synthetic: bool = False,
    title: str = "",
) -> Pack:
    """A pack straight from arrays in memory.

    Args:
        images: split -> (N, C, H, W), all of one dtype and sample shape.
        bands: the C bands in order, with their storage rule.
        labels: split -> N class names, or N lists of class names: a classification or a multi-label pack.
        later: split -> (N, C, H, W), the second image of each pair.
        nodata: stored value of what was not observed in the images.
        masks: split -> (N, 1, H, W) uint8 positions in `classes`: a segmentation pack, with `later` a change pack.
    """
    first = next(iter(images.values()))
    names = {"image": images} if later is None else {"image_pre": images, "image_post": later}
    layers = [
        LayerInfo(
            name=layer, dtype=str(first.dtype), shape=first.shape[1:], gsd_m=gsd_m, sensor=sensor,
            bands=[BandInfo(**vars(band)) for band in bands], nodata=nodata,
        )
        for layer in names
    ]  # fmt: skip
    if masks is not None:
        names["mask"] = masks
        layers.append(
            LayerInfo(
                name="mask", role="mask", dtype="uint8", shape=(1, *first.shape[2:]), gsd_m=gsd_m,
                classes=list(classes), ignore_value=ignore_value,
            )
        )  # fmt: skip
    given = [label for values in (labels or {}).values() for label in values]
    several = bool(given) and not isinstance(given[0], str)
    if labels is not None:
        classes = sorted({name for label in given for name in (label if several else [label])})
    task = {(True, False): "segmentation", (True, True): "change"}.get((masks is not None, later is not None))
    request = spec_hash([utc_now(), name, os.urandom(8).hex()])
    with PackWriter(workspace, name, request_hash=request, layers=layers) as writer:
        for split in images:
            for i in range(len(images[split])):
                label = labels[split][i] if labels else None
                writer.add(
                    id=f"{split}-{i:06d}", split=split, arrays={layer: part[split][i] for layer, part in names.items()},
                    **{"labels" if several else "label": label},
                )  # fmt: skip
        writer.finish(
            dataset=name, title=title or name, classes=list(classes), synthetic=synthetic,
            task=task or ("multilabel" if several else "classification" if labels else "unlabelled"),
            source="arrays in memory",
        )  # fmt: skip
    return Pack.open(workspace.packs / name)
