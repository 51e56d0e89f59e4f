"""Tiled prediction of scenes with stub networks: as the whole image, without seams, in the memory of one strip."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from rasterio.transform import from_origin
from rasters import write_tif
from torch import Tensor
from torch.nn import functional as F

from rsfm.bands import Band
from rsfm.inference.reader import SceneReader, Source
from rsfm.inference.strips import Strip, Tiles, strips
from rsfm.scenes import read_scene

PAN = Band("pan", None, 10, "dn")
PLACE = {"crs": "EPSG:32633", "transform": from_origin(500_000, 5_000_000, 10, 10)}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def scene(path: Path, values: np.ndarray, nodata: float | None = None) -> Source:
    """(H, W) values as a file."""
    write_tif(path, values[None], descriptions=["pan"], nodata=nodata, **PLACE)
    return Source(read_scene(path), [PAN])


def soft(dates: list[Tensor]) -> Tensor:
    """Two convolutions of 3 × 3: a receptive field of 5 pixels; missing values become the mean, 0."""
    kernel = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]).view(1, 1, 3, 3) / 16
    x = torch.nan_to_num(dates[0] / 100)
    for _ in range(2):
        x = F.conv2d(x, kernel, padding=1)
    return torch.cat([x, -x], dim=1).softmax(dim=1)


def predicted(
    source: Source, network=soft, *, tile=32, overlap=16, batch=3, start=0, after=lambda n: None
) -> np.ndarray:
    """(K, H - start, W); NaN where nothing was observed."""
    grid = source.scene
    tiles = Tiles.of(grid.height, grid.width, 32, overlap, 3)
    with SceneReader([source], grid) as reader:
        found = list(strips(reader, network, tiles, channels=2, start=start, after_tiles=after))
    assert [s.start for s in found] == [start, *[s.stop for s in found[:-1]]] and found[-1].stop == grid.height
    return np.concatenate([np.where(s.valid, s.probabilities, np.nan) for s in found], axis=1)


@pytest.mark.parametrize("shape", [(90, 75), (32, 100), (33, 64)])
def test_as_the_prediction_of_the_whole_image(tmp_path: Path, shape: tuple[int, int]) -> None:
    values = np.random.default_rng(0).normal(0, 100, shape).astype(np.float32)
    whole = soft([torch.from_numpy(values)[None, None]])[0].numpy()
    np.testing.assert_allclose(predicted(scene(tmp_path / "a.tif", values)), whole, atol=1e-6)


def test_a_scene_smaller_than_a_tile(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(0, 100, (20, 25)).astype(np.float32)
    whole = soft([torch.from_numpy(values)[None, None]])[0].numpy()
    found = predicted(scene(tmp_path / "a.tif", values))
    assert found.shape == (2, 20, 25)
    np.testing.assert_allclose(found[:, :18, :23], whole[:, :18, :23], atol=1e-6, err_msg="all but what is padded")


def test_no_seams_where_tiles_disagree_smoothly(tmp_path: Path) -> None:
    """A constant input gives a constant map; and tiles that each give another constant never make a step."""
    source = scene(tmp_path / "a.tif", np.full((100, 100), 70, np.uint8))
    assert np.ptp(predicted(source, lambda d: torch.full((len(d[0]), 2, 32, 32), 0.25)), axis=(1, 2)).max() < 1e-6
    rng = np.random.default_rng(1)

    def disagreeing(dates: list[Tensor]) -> Tensor:
        level = torch.from_numpy(rng.random((len(dates[0]), 1, 1, 1)).astype(np.float32))
        return torch.cat([level, 1 - level], dim=1).expand(-1, 2, 32, 32)

    found = predicted(source, disagreeing)
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-6)
    steps = max(np.abs(np.diff(found, axis=axis)).max() for axis in (1, 2))
    assert 0.01 < steps < 0.25, "a fade over 8 pixels; without blending steps are as large as the disagreement"


def test_what_is_not_observed_is_the_mean_for_the_network_and_nothing_in_the_map(tmp_path: Path) -> None:
    values = np.full((70, 80), 100, np.uint16)
    values[:, :40] = 0
    seen: list[Tensor] = []

    def network(dates: list[Tensor]) -> Tensor:
        seen.append(dates[0])
        return soft(dates)

    counted: list[int] = []
    found = predicted(scene(tmp_path / "a.tif", values, nodata=0), network, after=counted.append)
    assert np.isnan(found[:, :, :40]).all() and np.isfinite(found[:, :, 40:]).all()
    tiles = torch.cat(seen)
    assert set(tiles[~tiles.isnan()].unique().tolist()) == {100.0}, "no-data numbers never reach the network"
    assert sum(counted) == Tiles.of(70, 80, 32, 16, 3).count > len(tiles), "tiles without a pixel are not predicted"


def test_nothing_observed_at_all(tmp_path: Path) -> None:
    found = predicted(scene(tmp_path / "a.tif", np.zeros((40, 40), np.uint8), nodata=0), lambda d: 1 / 0)
    assert np.isnan(found).all()


@pytest.mark.parametrize(("height", "overlap"), [(200, 16), (200, 4), (50, 16), (48, 16)])
def test_going_on_after_any_strip_gives_the_same_bits(tmp_path: Path, height: int, overlap: int) -> None:
    values = np.random.default_rng(0).normal(0, 100, (height, 60)).astype(np.float32)
    source = scene(tmp_path / "a.tif", values)
    whole = predicted(source, overlap=overlap)
    tiles = Tiles.of(height, 60, 32, overlap, 3)
    ends = [tiles.complete(i) for i in range(len(tiles.rows) - 1)]
    assert ends
    for end in ends:
        np.testing.assert_array_equal(predicted(source, overlap=overlap, start=end), whole[:, end:])


def test_memory_is_that_of_a_strip(tmp_path: Path) -> None:
    """Four times the height, the same peak."""

    def peak(height: int) -> int:
        path = tmp_path / f"{height}.tif"
        source = scene(path, np.zeros((height, 256), np.uint8))
        tiles = Tiles.of(height, 256, 32, 8, 8)
        assert len(tiles.rows) >= 20
        tracemalloc.start()
        with SceneReader([source], source.scene) as reader:
            for strip in strips(reader, soft, tiles, channels=2, after_tiles=lambda n: None):
                assert isinstance(strip, Strip)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    low, high = peak(500), peak(2000)
    assert high < 1.2 * low
    assert high < 4 * 2 * 2000 * 256, "less than the sums of the whole map"


def test_two_dates_are_missing_where_one_is(tmp_path: Path) -> None:
    before, after = np.full((40, 40), 50, np.uint8), np.full((40, 40), 60, np.uint8)
    before[:5], after[:, :7] = 0, 0
    sources = [scene(tmp_path / "a.tif", before, 0), scene(tmp_path / "b.tif", after, 0)]
    with SceneReader(sources, sources[1].scene) as reader:
        rows = reader.rows(0, 40)
    assert (~rows.valid).sum() == 5 * 40 + 35 * 7
    one, two = rows.tile(0, 40, 48)
    assert one.shape == (1, 48, 48) and np.isnan(one[0, :5, :40]).all() and (two[0, 40:, 10:30] == 60).all()


def test_a_band_that_is_missing_alone_is_no_hole(tmp_path: Path) -> None:
    values = np.full((2, 20, 20), 9, np.uint8)
    values[0, 3, 4] = 0
    values[:, 7, 8] = 0
    write_tif(tmp_path / "a.tif", values, descriptions=["pan", "nir"], nodata=0, **PLACE)
    source = Source(read_scene(tmp_path / "a.tif"), [PAN, Band("nir", None, 10, "dn")])
    with SceneReader([source], source.scene) as reader:
        rows = reader.rows(0, 20)
    (tile,) = rows.tile(0, 20, 20)
    assert np.argwhere(~rows.valid).tolist() == [[7, 8]]
    assert np.argwhere(np.isnan(tile)).tolist() == [[0, 3, 4], [0, 7, 8], [1, 7, 8]]
