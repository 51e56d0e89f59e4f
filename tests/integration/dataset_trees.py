"""Tiny copies of published datasets, in the layouts that torchgeo reads."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import rasterio
from PIL import Image
from rasters import save, write_tif

S2_BANDS = {
    "B01": 60, "B02": 10, "B03": 10, "B04": 10, "B05": 20, "B06": 20, "B07": 20, "B08": 10, "B8A": 20, "B09": 60,
    "B11": 20, "B12": 20,
}  # fmt: skip
BOUNDS = (404_400.0, 5_342_400.0)


def write_band(path: Path, array: np.ndarray, gsd: float = 10) -> None:
    """One band (H, W) as a georeferenced GeoTIFF."""
    place = rasterio.Affine(gsd, 0, BOUNDS[0], 0, -gsd, BOUNDS[1])
    write_tif(path, array[None], crs="EPSG:32633", transform=place)


# -- BigEarthNet -------------------------------------------------------------------------------------------------------
def s2_patch(folder: Path, seed: int) -> None:
    for band, gsd in S2_BANDS.items():
        side = 1200 // gsd
        values = np.random.default_rng([seed, int(band[1:].replace("A", "9"))]).integers(300, 4000, (side, side))
        write_band(folder / f"{folder.name}_{band}.tif", values.astype(np.uint16), gsd)


def s1_patch(folder: Path, seed: int) -> None:
    for i, band in enumerate(("VV", "VH")):
        values = np.random.default_rng([seed, i]).normal(-12 - 5 * i, 3, (120, 120)).astype(np.float32)
        write_band(folder / f"{folder.name}_{band}.tif", values)


def bigearthnet_v2(root: Path) -> pd.DataFrame:
    """Four patches in two tiles, and metadata that also name a tile which is not there."""
    tiles = ["S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP", "S2B_MSIL2A_20180204T094161_N9999_R009_T35VPK"]
    rows = []
    for i, (tile, split) in enumerate(((0, "train"), (0, "train"), (1, "validation"), (1, "test"), (None, "test"))):
        parent = "S2A_MSIL2A_20190101T000000_N9999_R001_T31TCJ" if tile is None else tiles[tile]
        patch, s1_parent = f"{parent}_{26 + i}_5{i}", f"S1A_IW_GRDH_1SDV_20170613T16504{i}"
        s1 = f"{s1_parent}_33UUP_{26 + i}_5{i}"
        rows.append(
            {
                "patch_id": patch, "split": split, "s1_name": s1, "country": "Austria",
                "labels": ["Arable land", "Pastures"] if i % 2 else ["Marine waters"],
            }
        )  # fmt: skip
        if tile is None:
            continue
        s2_patch(root / "BigEarthNet-S2" / parent / patch, i)
        s1_patch(root / "BigEarthNet-S1" / s1_parent / s1, i)
        write_band(
            root / "Reference_Maps" / parent / patch / f"{patch}_reference_map.tif", np.full((120, 120), 211, np.uint16)
        )
    frame = pd.DataFrame(rows)
    frame.to_parquet(root / "metadata.parquet")
    return frame


V1_LABELS = (
    ["Non-irrigated arable land", "Rice fields", "Airports"],
    ["Sea and ocean"],
    ["Peatbogs", "Transitional woodland/shrub"],
    ["Burnt areas"],  # has no counterpart among the 19 classes
    ["Pastures"],
)
V1_FOLDED = (["Arable land"], ["Marine waters"], ["Transitional woodland, shrub", "Inland wetlands"], [], ["Pastures"])


def bigearthnet_v1(root: Path, s2: str = "BigEarthNet-v1.0", s1: str = "BigEarthNet-S1-v1.0") -> list[tuple[str, str]]:
    """Five patches with JSON labels; (S2, S1) names in order."""
    pairs = []
    for i, labels in enumerate(V1_LABELS):
        patch = f"S2A_MSIL2A_20170613T101031_{i}_48"
        partner = f"S1A_IW_GRDH_1SDV_20170613T165043_33UUP_{9 - i}_48"  # in another order
        s2_patch(root / s2 / patch, i)
        s1_patch(root / s1 / partner, i)
        for folder, said in (
            (root / s2 / patch, {"labels": labels, "acquisition_date": "2017-06-13 10:10:31"}),
            (root / s1 / partner, {"labels": labels, "corresponding_s2_patch": patch}),
        ):
            (folder / f"{folder.name}_labels_metadata.json").write_text(json.dumps(said))
        pairs.append((patch, partner))
    return pairs


def bigearthnet_v1_lists(root: Path, pairs: list[tuple[str, str]]) -> None:
    for split, chosen in (("train", pairs[:3]), ("val", pairs[3:4]), ("test", pairs[4:])):
        with (root / f"bigearthnet-{split}.csv").open("w", newline="") as file:
            csv.writer(file).writerows(chosen)


# -- OSCD --------------------------------------------------------------------------------------------------------------
OSCD_NAME = "Onera Satellite Change Detection dataset"
OSCD_BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
OSCD_CITIES = {"train": {"paris": (37, 45), "saclay_e": (16, 16)}, "test": {"rio": (20, 33)}}


def oscd_image(city: str, date: int, height: int, width: int) -> np.ndarray:
    seed = [sum(map(ord, city)), date]
    return np.random.default_rng(seed).integers(200, 5000, (13, height, width)).astype(np.uint16)


def oscd_mask(city: str, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(sum(map(ord, city))).integers(0, 2, (height, width)).astype(np.uint8)


def oscd(root: Path) -> Path:
    for split, cities in OSCD_CITIES.items():
        for city, size in cities.items():
            folder = root / f"{OSCD_NAME} - Images" / city
            for date in (1, 2):
                for band, array in zip(OSCD_BANDS, oscd_image(city, date, *size), strict=True):
                    save(folder / f"imgs_{date}_rect" / f"{band}.tif", array)
            (folder / "dates.txt").write_text("date_1: 20160315\ndate_2: 20171206\n")
            label = root / f"{OSCD_NAME} - {split.capitalize()} Labels" / city / "cm" / "cm.png"
            save(label, oscd_mask(city, *size) * 255)
    return root


# -- scene classification with lists -----------------------------------------------------------------------------------
UC = {
    "train": ["agricultural00.tif", "agricultural01.tif", "beach10.tif"], "val": ["agricultural03.tif", "beach11.tif"],
    "test": ["agricultural02.tif", "beach99.tif"],
}  # fmt: skip
RESISC = {
    "train": ["airplane_001.jpg", "ground_track_field_700.jpg"], "val": ["airplane_002.jpg"], "test": ["lake_003.jpg"],
}  # fmt: skip


def uc_merced(root: Path) -> Path:
    """Two classes; one image is not 256 x 256."""
    listed(root, "UCMerced_LandUse/Images", "uc_merced-{split}.txt", UC)
    save(root / "UCMerced_LandUse/Images/beach/beach11.tif", scene("beach11.tif", (250, 242)))
    return root


def listed(
    root: Path, images: str, lists: str, names: dict[str, list[str]], size: tuple[int, int] = (256, 256)
) -> None:
    """Photographs `<images>/<class>/<name>` and the lists; the class is what a name begins with."""
    for split, found in names.items():
        (root / lists.format(split=split)).parent.mkdir(parents=True, exist_ok=True)
        (root / lists.format(split=split)).write_text("\n".join(found) + "\n")
        for name in found:
            label = Path(name).stem.rstrip("0123456789").rstrip("_")
            save(root / images / label / name, scene(name, size))


def scene(name: str, size: tuple[int, int] = (256, 256)) -> np.ndarray:
    """Smooth, so that JPEG and resampling change little."""
    rng = np.random.default_rng(sum(map(ord, name)))
    coarse = Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8))
    return np.asarray(coarse.resize((size[1], size[0]), Image.Resampling.BICUBIC))
