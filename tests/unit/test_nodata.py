"""What a pack declares as not observed reaches no model as a value."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rsfm.bands import Band
from rsfm.data.source import PackSource, Standardiser
from rsfm.degrade import OPERATORS
from rsfm.evaluation.images import PackImages, storable
from rsfm.models.baselines import resolve
from rsfm.pack_arrays import write_arrays
from rsfm.packs import Pack
from rsfm.specs import EvaluateSpec
from rsfm.workspace import Workspace

#: dtype, its value for what was not observed, and how far from the mean the nearest stored value may be.
KINDS = {"uint8": (0, 0.5), "uint16": (65535, 0.5), "int16": (-9999, 0.5), "float32": (-3.4028234663852886e38, 0.0)}


@pytest.fixture(params=KINDS)
def holes(request: pytest.FixtureRequest, workspace: Workspace) -> tuple[Pack, np.ndarray, float]:
    """A pack of two bands, of which a corner was not observed, partly in one band only; where; and the rounding."""
    nodata, rounding = KINDS[request.param]
    random = np.random.default_rng(0)
    images = random.normal(120, 20, (6, 2, 16, 16)).clip(1, 250).astype(request.param)
    missing = np.zeros(images.shape, bool)
    missing[:, :, :5, :7] = True
    missing[2:, 1, 8:, 12:] = True
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
    assert images.fill.dtype == np.float64 and pack.array("train").dtype == images.pack.layer().dtype


def test_views_in_pretraining_see_the_mean(holes: tuple[Pack, np.ndarray, float]) -> None:
    pack, missing, _ = holes
    source = PackSource(pack, ["train"])
    values, bad = Standardiser(source)(source[np.arange(6)])
    where = torch.from_numpy(missing)
    assert (values[where] == 0).all() and (values[~where] != 0).float().mean() > 0.99
    assert values.abs().max() < 10
    assert bad is None or bad == 0, "it is known, and no damage"


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
