"""Files of others hold their own pixels: whatever names files elsewhere is refused, under any name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.errors import RasterioIOError
from rasters import write_tif

from data_catalog.add import understand
from data_catalog.readers.base import BadFile
from data_catalog.readers.files import read_header, read_image
from data_catalog.readers.masks import read_mask
from rsfm.errors import RsfmError
from rsfm.rasters import open_raster
from rsfm.scenes import read_scene

SIDE = 64
HERE = np.full((1, SIDE, SIDE), 7, np.uint8)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A file that does not belong to the dataset."""
    write_tif(tmp_path / "outside" / "secret.tif", np.full((1, SIDE, SIDE), 77, np.uint8))
    return tmp_path / "outside" / "secret.tif"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "dataset").mkdir()
    return tmp_path / "dataset"


def raw(file: Path, side: int = 8) -> str:
    return (
        f'<VRTDataset rasterXSize="{side}" rasterYSize="{side}"><VRTRasterBand dataType="Byte" band="1" '
        f'subClass="VRTRawRasterBand"><SourceFilename relativeToVRT="0">{file}</SourceFilename><PixelOffset>1'
        f"</PixelOffset><LineOffset>{side}</LineOffset></VRTRasterBand></VRTDataset>"
    )


def source(file: Path | str, side: int = SIDE) -> str:
    return (
        f'<VRTDataset rasterXSize="{side}" rasterYSize="{side}"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        f'<SourceFilename relativeToVRT="0">{file}</SourceFilename><SourceBand>1</SourceBand></SimpleSource>'
        "</VRTRasterBand></VRTDataset>"
    )


@pytest.mark.parametrize("name", ["x.tif", "x.jp2", "x.img", "x.png", "x.jpg", "x.bmp", "x.vrt"])
@pytest.mark.parametrize("written", [raw, source])
def test_a_list_of_other_files_is_no_image_whatever_it_is_called(folder: Path, outside: Path, name, written) -> None:
    (folder / name).write_text(written(outside))
    with pytest.raises(RasterioIOError):
        open_raster(folder / name)
    with pytest.raises(BadFile, match="cannot be decoded"):
        read_image(folder / name, name)
    with pytest.raises(BadFile, match="cannot be decoded"):
        read_mask(folder / name, name, "index")
    with pytest.raises(RsfmError, match="is not a raster"):
        read_scene(folder / name)
    for place in (folder, folder / name):
        with pytest.raises(RsfmError):
            understand(place)


def test_a_virtual_raster_says_what_to_do(folder: Path, outside: Path) -> None:
    (folder / "x.vrt").write_text(source(outside))
    with pytest.raises(RsfmError, match="names other files: make one GeoTIFF of them"):
        read_scene(folder / "x.vrt")


@pytest.mark.parametrize("path", ["/vsimem/x.tif", "/vsicurl/http://127.0.0.1:9/x.tif", "http://127.0.0.1:9/x.tif"])
def test_an_address_is_no_file(path: str) -> None:
    with rasterio.open("/vsimem/x.tif", "w", driver="GTiff", width=8, height=8, count=1, dtype="uint8"):
        pass
    with pytest.raises(RasterioIOError, match="There is no file"):
        open_raster(Path(path))


@pytest.mark.parametrize("name", ["x.tif.ovr", "x.tif.OVR", "X.TIF.Ovr", "x.tif.msk"])
def test_what_lies_beside_a_file_is_no_way_out(folder: Path, outside: Path, name: str) -> None:
    write_tif(folder / "x.tif", HERE)
    (folder / name).write_text(source(outside, SIDE // 2))
    with pytest.raises(BadFile, match=rf"{name} beside it"):
        read_header(folder / "x.tif", "x.tif")


def test_overviews_elsewhere_are_refused(folder: Path, outside: Path) -> None:
    (outside.parent / "list.vrt").write_text(source(outside, SIDE // 2))
    write_tif(folder / "x.tif", HERE)
    with rasterio.open(folder / "x.tif", "r+") as file:
        file.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=str(outside.parent / "list.vrt"))
    with rasterio.open(folder / "x.tif") as file:  # what would come of it
        assert (file.read(1, out_shape=(SIDE // 2, SIDE // 2)) == 77).all()
    with pytest.raises(BadFile, match="names another file as its overviews"):
        read_header(folder / "x.tif", "x.tif")


def test_honest_overviews_and_masks_beside_a_file_count(folder: Path) -> None:
    write_tif(folder / "x.tif", HERE)
    with rasterio.Env(TIFF_USE_OVR=True), rasterio.open(folder / "x.tif", "r+") as file:
        file.build_overviews([2])
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(folder / "x.tif", "r+") as file:
        file.write_mask(np.arange(SIDE * SIDE).reshape(SIDE, SIDE) % 2 == 0)
    assert {p.name for p in folder.iterdir()} == {"x.tif", "x.tif.ovr", "x.tif.msk"}
    with open_raster(folder / "x.tif") as file:
        assert file.overviews(1) == [2]
        assert (file.read_masks(1) == 0).mean() == 0.5


def test_a_photo_is_a_photo(folder: Path) -> None:
    """Pillow would start a program for some kinds of file."""
    Image.new("RGB", (8, 8)).save(folder / "x.eps")
    (folder / "x.eps").rename(folder / "x.png")
    with pytest.raises(BadFile, match="cannot be decoded"):
        read_header(folder / "x.png", "x.png")
    Image.new("RGB", (8, 8), (1, 2, 3)).save(folder / "y.webp")
    (folder / "y.webp").rename(folder / "y.jpg")  # a wrong suffix alone harms nobody
    assert read_image(folder / "y.jpg", "y.jpg")[0].count == 3
