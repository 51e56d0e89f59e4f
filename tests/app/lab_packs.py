"""Small packs on disk: scenes with one class or several, and pairs."""

from __future__ import annotations

from typing import Any

import numpy as np

from rsfm.bands import SENSORS
from rsfm.pack_writer import PackWriter
from rsfm.packs import BandInfo, LayerInfo, PackInfo
from rsfm.workspace import Workspace

CLASSES = ["Forest", "Water", "Residential", "Crop"]


def make_pack(
    workspace: Workspace, name: str, *, sensor: str = "landsat-7", side: int = 32, count: int = 60, labels: bool = True,
    synthetic: bool = False, located: bool = True, title: str | None = None, classes: list[str] | None = None,
    corner: tuple[float, float] = (10, 47),
) -> PackInfo:  # fmt: skip
    """A tiny pack of smooth colour fields; class k is brighter in band k."""
    rng = np.random.default_rng(7)
    bands = SENSORS[sensor].bands
    gsd = float(min(b.gsd_m for b in bands))
    infos = [BandInfo(name=b.name, wavelength_nm=b.wavelength_nm, gsd_m=b.gsd_m, unit="uint8") for b in bands]
    layer = LayerInfo(sensor=sensor, dtype="uint8", shape=(len(bands), side, side), gsd_m=gsd, bands=infos)
    names = classes or CLASSES
    step = side * gsd / 111_320
    y, x = np.mgrid[0:side, 0:side] / side
    with PackWriter(workspace, name, request_hash=f"lab-{name}", layers=[layer]) as writer:
        for i in range(count):
            split = ("train", "train", "train", "val", "test", "test")[i % 6]
            k = (i // 6) % len(names)
            base = 60 + 40 * np.sin(6 * (x * np.cos(i) + y * np.sin(i)) + k)
            image = base[None] + rng.normal(0, 6, (len(bands), side, side)) + 8 * np.arange(len(bands))[:, None, None]
            image[k % len(bands)] += 50
            row, column = divmod(i, 10)
            place: dict[str, Any] = {}
            if located:
                west, north = (corner[0] + column * step + 180) % 360 - 180, corner[1] - row * step
                place = {"crs": "EPSG:4326", "transform": (step / side, 0, west, 0, -step / side, north)}
            writer.add(
                id=f"tile-{i:03d}", split=split, arrays={"image": image.clip(0, 255).astype(np.uint8)},
                label=names[k] if labels else None, path=f"{names[k]}/{i:03d}.tif", sensor=sensor, gsd_m=gsd, **place,
            )  # fmt: skip
        if synthetic:
            writer.skip("broken.tif", "is truncated")
        return writer.finish(
            dataset="synthetic-landsat7" if synthetic else "landsat7-sample", title=title or f"{name} tiles",
            synthetic=synthetic, task="classification" if labels else "unlabelled", classes=names if labels else [],
            source="synthetic world, seed 0" if synthetic else "a test",
        )  # fmt: skip


def make_pairs(
    workspace: Workspace, name: str = "pairs", count: int = 6, side: int = 16, *, dataset: str = "synthetic-rgb-change",
    split: str = "train",
) -> PackInfo:  # fmt: skip
    """A tiny pack of two dates and a mask of what has changed. `dataset`: the catalog entry it is said to be of."""
    rng = np.random.default_rng(3)
    bands = [BandInfo(name=b.name, wavelength_nm=b.wavelength_nm, gsd_m=2, unit="uint8") for b in SENSORS["rgb"].bands]
    layers = [
        LayerInfo(name=f"image_{when}", sensor="rgb", dtype="uint8", shape=(3, side, side), gsd_m=2.0, bands=bands)
        for when in ("pre", "post")
    ]
    layers.append(
        LayerInfo(name="mask", role="mask", dtype="uint8", shape=(1, side, side), classes=["unchanged", "changed"])
    )
    with PackWriter(workspace, name, request_hash=f"lab-{name}", layers=layers) as writer:
        for i in range(count):
            images = {x.name: rng.integers(0, 255, x.shape, dtype=np.uint8) for x in layers[:2]}
            mask = (rng.random((1, side, side)) > 0.8).astype(np.uint8)
            step = 2 / 111_320
            writer.add(
                id=f"pair-{i}", split=split, arrays={**images, "mask": mask}, crs="EPSG:4326",
                transform=(step, 0, 10 + i * side * step, 0, -step, 47),
            )  # fmt: skip
        return writer.finish(
            dataset=dataset, title="Pairs", synthetic=dataset.startswith("synthetic"), task="change",
            classes=["unchanged", "changed"], source="a test",
        )  # fmt: skip


def make_multilabel(workspace: Workspace, name: str = "several") -> PackInfo:
    """A tiny pack whose samples have one label or several."""
    bands = [BandInfo(name=b.name, wavelength_nm=b.wavelength_nm, gsd_m=2, unit="uint8") for b in SENSORS["rgb"].bands]
    layer = LayerInfo(sensor="rgb", dtype="uint8", shape=(3, 8, 8), gsd_m=2.0, bands=bands)
    with PackWriter(workspace, name, request_hash=f"lab-{name}", layers=[layer]) as writer:
        for i, labels in enumerate((["Forest"], ["Forest", "Water"], ["Crop"])):
            image = np.full((3, 8, 8), 40 * i + 10, np.uint8)
            writer.add(id=f"s{i}", split="train", arrays={"image": image}, labels=labels)
        return writer.finish(
            dataset=name, title="Several labels", synthetic=True, task="multilabel", classes=CLASSES, source="a test"
        )
