"""What a pack declares as not observed reaches no model as a value."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rsfm.bands import Band
from rsfm.data.observed import Observed, storable
from rsfm.data.source import PackSource, Standardiser
from rsfm.degrade import OPERATORS
from rsfm.evaluation.images import PackImages
from rsfm.models.baselines import resolve
from rsfm.pack_arrays import write_arrays
from rsfm.packs import Pack
from rsfm.specs import EvaluateSpec
from rsfm.workspace import Workspace

#: dtype, its value for what was not observed, and how far from the mean the nearest stored value may be.
KINDS = {"uint8": (0, 0.5), "uint16": (65535, 0.5), "int16": (-9999, 0.5), "float32": (-3.4028234663852886e38, 0.0)}


@pytest.fixture(params=KINDS)
def holes(request: pytest.FixtureRequest, workspace: Workspace) -> tuple[Pack, np.ndarray, float]:
    """A pack of two bands, of which two corners were not observed; where; and the rounding."""
    nodata, rounding = KINDS[request.param]
    random = np.random.default_rng(0)
    images = random.normal(120, 20, (6, 2, 16, 16)).clip(1, 250).astype(request.param)
    missing = np.zeros(images.shape, bool)
    missing[:, :, :5, :7] = True
    missing[2:, :, 8:, 12:] = True
    images[missing] = np.array(nodata, request.param)
    bands = [Band("a", 665, 10, "dn"), Band("b", 842, 10, "dn", scale=0.5, offset=3)]
    return write_arrays(workspace, "holes", {"train": images}, bands, nodata=float(nodata)), missing, rounding


def test_models_in_evaluation_see_the_mean(holes: tuple[Pack, np.ndarray, float], workspace: Workspace) -> None:
    pack, missing, rounding = holes
    model = resolve(EvaluateSpec(model="band-stats", dataset="holes"), pack, workspace)
    images = PackImages(pack, model, OPERATORS["bilinear"])
    values = (images.read("train", slice(0, 6), 1) - model.mean) / model.std
    step = torch.tensor([1.0, 0.5]).view(1, 2, 1, 1) / model.std
    where = torch.from_numpy(missing)
    assert ((values.abs() <= rounding * step + 1e-4) | ~where).all(), "0 once standardised"
    seen = np.where(missing, np.nan, pack.array("train").astype(np.float64))
    observed = (seen * [[[1]], [[0.5]]] + [[[0]], [[3]]] - model.mean.numpy()) / model.std.numpy()
    assert np.allclose(values.numpy()[~missing], observed[~missing], atol=1e-3), "all else as it is"
    coarse = images.read("train", slice(0, 6), 4)
    assert (coarse - model.mean).abs().max() < 5 * model.std.max(), "not spread by a filter"


def test_views_in_pretraining_see_the_mean(holes: tuple[Pack, np.ndarray, float]) -> None:
    pack, missing, rounding = holes
    source = PackSource(pack, ["train"])
    standardiser = Standardiser(source)
    values, bad = standardiser(source[np.arange(6)])
    where = torch.from_numpy(missing)
    assert ((values.abs() <= rounding * standardiser.scale + 1e-5) | ~where).all()
    assert (values[~where].abs() > 0.01).float().mean() > 0.9
    assert values.abs().max() < 10
    assert bad is None or bad == 0, "it is known, and no damage"


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("names", [None, ["red"], ["blue", "red"]])
def test_a_dark_pixel_is_no_hole(workspace: Workspace, names: list[str] | None, in_memory: bool) -> None:
    """Where one band holds nodata and another does not, it is a value, whichever bands are chosen."""
    images = np.random.default_rng(2).integers(60, 200, (4, 3, 8, 8)).astype(np.uint8)
    images[:, :, 0, 0] = np.array([0, 35, 40])
    images[:, :, 0, 1] = 0
    bands = [Band(name, None, 10, "uint8") for name in ("red", "green", "blue")]
    pack = write_arrays(workspace, "dark", {"train": images}, bands, nodata=0)
    source = PackSource(pack, ["train"], names=names, in_memory=in_memory)
    positions = [("red", "green", "blue").index(n) for n in names or ("red", "green", "blue")]
    measured = [band.statistics for band in pack.layer().bands]
    assert [(m.min, m.count) for m in measured] == [(0, 4 * 63), (35, 4 * 63), (40, 4 * 63)], "of what was observed"
    means = [round(measured[p].mean) for p in positions]
    read = source[np.arange(4)].numpy()
    assert (read[:, :, 0, 0] == np.array([0, 35, 40])[positions]).all()
    assert (read[:, :, 0, 1] == means).all() and min(means) > 0
    assert np.array_equal(read[:, :, 1:], images[:, positions][:, :, 1:])
    spec = EvaluateSpec(model="band-stats", dataset="dark", bands=names)
    shown = PackImages(pack, resolve(spec, pack, workspace), OPERATORS["bilinear"])
    values = shown.read("train", slice(0, 4), 1).numpy()
    assert np.array_equal(values, source[np.arange(4)].numpy().astype(np.float32)[:, [
        positions.index(p) for p in shown.positions
    ]])  # fmt: skip


def test_floats_that_are_no_number_are_filled_in_their_own_band(workspace: Workspace) -> None:
    images = np.random.default_rng(3).normal(100, 10, (2, 2, 4, 4)).astype(np.float32)
    images[:, 0, 0, 0], images[:, 1, 1, 1] = np.nan, -9999
    images[:, :, 2, 2] = np.array([np.nan, -9999])
    bands = [Band(name, None, 10, "dn") for name in "ab"]
    pack = write_arrays(workspace, "floats", {"train": images}, bands, nodata=-9999)
    assert [(b.statistics.min > 0, b.statistics.count) for b in pack.layer().bands] == [(True, 2 * 14)] * 2
    observed = Observed(pack.layer(), [0, 1], where="here")
    read = observed.read(images, only_finite=True)
    assert np.allclose(read[:, 0, 0, 0], observed.fill[0]) and (read[:, 1, 0, 0] == images[:, 1, 0, 0]).all()
    assert np.allclose(read[:, 1, 1, 1], observed.fill[1]) and (read[:, 0, 1, 1] == images[:, 0, 1, 1]).all()
    assert np.allclose(read[:, :, 2, 2], observed.fill)
    assert np.isnan(observed.read(images)[:, 0, 0, 0]).all(), "left for whoever counts them"


@pytest.mark.parametrize(
    ("nodata", "dtype", "expected"),
    [
        (0.0, "uint8", 0), (255.0, "uint8", 255), (-9999.0, "uint8", None), (256.0, "uint8", None),
        (0.5, "int16", None), (-9999.0, "int16", -9999), (None, "uint8", None), (float("nan"), "float32", None),
        (float("inf"), "int16", None), (-9999.5, "float32", -9999.5),
    ],
)  # fmt: skip
def test_a_nodata_that_the_arrays_cannot_hold_is_nowhere(
    nodata: float | None, dtype: str, expected: float | None
) -> None:
    assert storable(nodata, np.dtype(dtype)) == expected


def test_integers_stay_as_they_are_without_a_nodata(workspace: Workspace) -> None:
    """8-bit images are degraded as they are stored, so that the published operator's results are exact."""
    images = np.random.default_rng(1).integers(0, 256, (3, 1, 16, 16)).astype(np.uint8)
    pack = write_arrays(workspace, "whole", {"train": images}, [Band("a", 665, 10, "uint8")])
    model = resolve(EvaluateSpec(model="band-stats", dataset="whole"), pack, workspace)
    values = PackImages(pack, model, OPERATORS["bilinear"]).read("train", slice(0, 3), 1)
    assert np.array_equal(values.numpy(), images.astype(np.float32))


def test_an_impossible_number_in_one_band_is_never_a_value(workspace: Workspace) -> None:
    images = np.random.default_rng(0).normal(5, 1, (4, 2, 8, 8)).astype(np.float32)
    images[:, 1, 3, 3] = -9999
    bands = [Band(name, None, 10, "reflectance") for name in ("one", "two")]
    pack = write_arrays(workspace, "stack", {"train": images}, bands, nodata=-9999)
    observed = Observed(pack.layer(), [1], where="here")
    assert np.allclose(observed.read(images)[:, 0, 3, 3], observed.fill)
    both = Observed(pack.layer(), [0, 1], where="here").read(images)
    assert np.array_equal(both[:, 0], images[:, 0]) and both.min() > 0
