"""Pictures and footprints of a pack."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

from rsfm.bands import Band, sensor
from rsfm.errors import RsfmError
from rsfm.pack_arrays import write_arrays
from rsfm.pack_writer import PackWriter
from rsfm.packs import BandInfo, LayerInfo, Pack
from rsfm.thumbs import display_bands, footprints, mask_colours, thumbnail


def _png(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


@pytest.mark.parametrize(
    ("bands", "shown"),
    [
        (sensor("sentinel-2").bands, ["B04", "B03", "B02"]),
        (sensor("landsat-7").bands, ["B3", "B2", "B1"]),
        (sensor("landsat-8").bands, ["B4", "B3", "B2"]),
        (sensor("rgb").bands, ["red", "green", "blue"]),
        (sensor("sentinel-1").bands, ["VV"]),
        ((Band("pan", 600, 1, "dn"),), ["pan"]),
        (tuple(Band(n, None, 1, "dn") for n in ("nir", "Green", "Red", "BLUE")), ["nir"]),
    ],
)
def test_default_bands(bands, shown):
    if bands[0].name == "nir":
        shown = ["Red", "Green", "BLUE"]
    assert display_bands(bands) == shown


@pytest.fixture
def pack(workspace):
    image = np.zeros((20, 3, 8, 8), np.uint16)
    image[:] = np.linspace(0, 1000, 20)[:, None, None, None]
    image[:, 2] = 500 + np.arange(64).reshape(8, 8)
    return write_arrays(
        workspace, "p", {"train": image}, sensor("sentinel-2").stored_as(["B02", "B03", "B04"], scale=1e-4)
    )


def test_thumbnail_is_stretched_and_in_natural_colour(pack):
    dark, bright = (_png(thumbnail(pack, "train", row, size=8)) for row in (0, 19))
    assert dark.shape == (8, 8, 3)
    assert dark[0, 0, 1] == 0 and bright[0, 0, 1] == 255  # B03 is green
    assert dark[0, 0, 0] < dark[7, 7, 0]  # B04 is red, and holds the gradient


def test_thumbnail_sizes(pack):
    assert _png(thumbnail(pack, "train", 0, size=32)).shape == (32, 32, 3)
    assert _png(thumbnail(pack, "train", 0, ["B04"], size=4)).shape == (4, 4, 3)


@pytest.mark.parametrize("arguments", [("train", 99), ("test", 0), ("train", -1)])
def test_no_such_sample(pack, arguments):
    with pytest.raises(RsfmError):
        thumbnail(pack, *arguments)


def test_no_such_band_or_size(pack):
    with pytest.raises(RsfmError, match="B99"):
        thumbnail(pack, "train", 0, ["B99"])
    with pytest.raises(RsfmError, match="one band or three"):
        thumbnail(pack, "train", 0, ["B02", "B03"])
    with pytest.raises(RsfmError, match="size"):
        thumbnail(pack, "train", 0, size=100_000)


def test_images_with_holes_and_flat_bands(workspace):
    image = np.full((2, 1, 4, 4), np.nan, np.float32)
    image[0, 0, 0, 0] = 1.0
    flat = write_arrays(workspace, "flat", {"train": image}, [Band("b", None, 1, "dn")])
    assert _png(thumbnail(flat, "train", 1)).max() == 0


def test_footprints(workspace):
    layer = LayerInfo(
        dtype="uint8", shape=(1, 2, 2), bands=[BandInfo(name="b", wavelength_nm=None, gsd_m=1, unit="dn")]
    )
    with PackWriter(workspace, "p", request_hash="r", layers=[layer]) as writer:
        for i, west in enumerate((10.0, 179.5, None)):
            writer.add(
                id=f"</script>{i}", split="train", arrays={"image": np.zeros((1, 2, 2), np.uint8)}, label="a",
                crs="EPSG:4326" if west else None, transform=(0.5, 0, west, 0, -0.5, 50) if west else None,
            )  # fmt: skip
        writer.finish(dataset="d", title="D", task="classification", classes=["a"])
    found = footprints(Pack.named(workspace, "p"))
    json.dumps(found, allow_nan=False)
    first, second = found["features"]
    assert first["properties"] == {"id": "</script>0", "split": "train", "row": 0, "label": "a"}
    assert first["geometry"]["coordinates"][0] == [[10, 49], [11, 49], [11, 50], [10, 50], [10, 49]]
    assert max(p[0] for p in second["geometry"]["coordinates"][0]) == 180.5  # not once around the globe
    assert len(footprints(Pack.named(workspace, "p"), limit=1)["features"]) == 1


def test_pixels_that_do_not_count_have_a_colour_of_their_own() -> None:
    mask = np.array([[0, 1, 255]])
    with_ignore, without = mask_colours(mask, 255)[0], mask_colours(mask)[0]
    assert (with_ignore[:2] == without[:2]).all()
    assert with_ignore[2].tolist() == [215] * 3 != without[2].tolist()
