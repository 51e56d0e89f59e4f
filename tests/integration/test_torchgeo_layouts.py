"""EuroSAT and Million-AID as torchgeo lays them out, from tiny generated trees."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasters import write_tif

from data_catalog.prepare import prepare
from rsfm.errors import RsfmError
from rsfm.packs import Pack
from rsfm.specs import PrepareSpec

BASE = Path("ds/images/remote_sensing/otherDatasets/sentinel_2/tif")
CLASSES = ("AnnualCrop", "Forest", "HerbaceousVegetation", "Highway", "Industrial", "Pasture", "PermanentCrop",
           "Residential", "River", "SeaLake")  # fmt: skip
PER_SPLIT = {"train": (1, 2), "val": (3,), "test": (4,)}


def pixels(label: str, number: int) -> np.ndarray:
    rng = np.random.default_rng([CLASSES.index(label), number])
    image = rng.integers(600, 3000, (13, 64, 64)).astype(np.uint16)
    image[12] += 5000  # B8A, the last band, is recognisable
    return image


@pytest.fixture
def eurosat(tmp_path: Path) -> Path:
    root = tmp_path / "eurosat"
    for label in CLASSES:
        for number in range(1, 5):
            write_tif(
                root / BASE / label / f"{label}_{number}.tif", pixels(label, number), crs="EPSG:32633",
                transform=rasterio.Affine(10, 0, 500_000, 0, -10, 5_000_000),
            )  # fmt: skip
    for split, numbers in PER_SPLIT.items():
        lines = [f"{label}_{n}.jpg" for label in CLASSES for n in numbers]
        (root / f"eurosat-{split}.txt").write_text("\n".join(lines) + "\n")
    return root


def check_eurosat(workspace) -> None:
    pack = Pack.named(workspace, "eurosat-ms")
    assert pack.info.splits == {"train": 20, "val": 10, "test": 10}
    assert tuple(pack.info.classes) == CLASSES and pack.info.skipped == []
    for split, numbers in PER_SPLIT.items():
        samples = pack.split_samples(split)
        for i, row in samples.iterrows():
            number = int(Path(row["path"]).stem.split("_")[1])
            assert number in numbers
            np.testing.assert_array_equal(pack.array(split)[i], pixels(row["label"], number))
    position = [b.name for b in pack.bands()].index("B8A")
    assert position == 12
    assert pack.array("test")[:, position].min() >= 5600


def test_eurosat(eurosat, workspace):
    prepare(PrepareSpec(dataset="eurosat-ms", source=str(eurosat)), workspace)
    check_eurosat(workspace)


def test_eurosat_as_downloaded(eurosat, workspace, tmp_path):
    """Lists and the archive in the download folder: unpacked on first use."""
    folder = workspace.downloads / "eurosat-ms"
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "EuroSATallBands.zip", "w") as bundle:
        for file in sorted((eurosat / BASE).rglob("*.tif")):
            bundle.write(file, file.relative_to(eurosat))
    for split in PER_SPLIT:
        (folder / f"eurosat-{split}.txt").write_bytes((eurosat / f"eurosat-{split}.txt").read_bytes())
    prepare(PrepareSpec(dataset="eurosat-ms"), workspace)
    check_eurosat(workspace)


def test_eurosat_lists_without_images(eurosat, workspace, tmp_path):
    lonely = tmp_path / "lonely"
    lonely.mkdir()
    for split in PER_SPLIT:
        (lonely / f"eurosat-{split}.txt").write_bytes((eurosat / f"eurosat-{split}.txt").read_bytes())
    with pytest.raises(RsfmError, match=r"EuroSATallBands\.zip"):
        prepare(PrepareSpec(dataset="eurosat-ms", source=str(lonely)), workspace)


def test_eurosat_is_not_fetched_unasked(workspace):
    with pytest.raises(RsfmError, match="--source DIR"):
        prepare(PrepareSpec(dataset="eurosat-ms"), workspace)


@pytest.fixture
def millionaid(tmp_path: Path) -> Path:
    root = tmp_path / "million"
    rng = np.random.default_rng(0)
    places = ["water_area/lake", "agriculture_land/arable_land/dry_field"]
    for split, number in (("train", 4), ("test", 2)):
        for place in places:
            (root / split / place).mkdir(parents=True)
            for i in range(number):
                size = (40 + 8 * i, 32)
                Image.fromarray(rng.integers(0, 255, (*size, 3), np.uint8)).save(root / split / place / f"{i}.jpg")
    return root


def test_millionaid(millionaid, workspace):
    spec = PrepareSpec(dataset="millionaid", source=str(millionaid), image_size=16)
    info = prepare(spec, workspace)
    assert info.splits == {"train": 8, "test": 4} and info.classes == ["dry_field", "lake"]
    assert info.layers[0].shape == (3, 16, 16) and info.layers[0].gsd_m is None


def test_millionaid_for_pretraining(millionaid, workspace):
    Image.fromarray(np.random.default_rng(5).integers(0, 255, (32, 32, 3), np.uint8)).save(
        millionaid / "test" / "x.jpg"
    )
    spec = PrepareSpec(dataset="millionaid", source=str(millionaid), image_size=16, options={"labels": False})
    info = prepare(spec, workspace)
    assert info.splits == {"train": 13} and info.task == "unlabelled"


def test_millionaid_elsewhere(tmp_path, workspace):
    with pytest.raises(RsfmError, match="no folder train"):
        prepare(PrepareSpec(dataset="millionaid", source=str(tmp_path)), workspace)
