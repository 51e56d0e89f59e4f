"""Degradation on tensors is degradation on arrays: the same images, and the same random numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from degrade_world import OPTICAL, RADAR, RESOLUTION, RGB, ids, optical_images, radar_images, rgb_images
from hypothesis import given, settings
from hypothesis import strategies as st

import rsfm.evaluation.images as evaluated
from rsfm.bands import SENSORS
from rsfm.degrade import OPERATORS
from rsfm.degrade.device import ON_DEVICE, degrade_on_device
from rsfm.errors import RsfmError
from rsfm.models.baselines import resolve
from rsfm.pack_arrays import write_arrays
from rsfm.packs import BandInfo
from rsfm.specs import EvaluateSpec
from rsfm.workspace import Workspace

torch.set_num_threads(1)

HERE = sorted(ON_DEVICE)
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def both(
    name: str, stored: np.ndarray, severity: float, bands: list[BandInfo], device: str = "cpu"
) -> tuple[np.ndarray, np.ndarray]:
    entry, names = OPERATORS[name], ids(len(stored))
    images = torch.from_numpy(stored if stored.dtype == np.uint8 else stored.astype(np.float32)).to(device)
    tensors = degrade_on_device(entry, images, severity, bands, names, "image_post")
    assert tensors.device == images.device
    assert tensors.dtype == torch.float32
    assert tensors.data_ptr() != images.data_ptr()
    return entry.apply(stored, severity, bands, names, "image_post"), tensors.cpu().numpy()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", HERE)
def test_8_bit_images_are_the_same_bit_for_bit_but_for_noise(name: str, device: str) -> None:
    for stored in (rgb_images(4, 37, 50), np.random.default_rng(0).integers(0, 256, (4, 3, 40, 56)).astype(np.uint8)):
        for severity in OPERATORS[name].severities:
            arrays, tensors = both(name, stored, severity, RGB, device)
            if name == "noise":  # its logarithms and sines are the device's
                assert np.abs(arrays - tensors).max() < 1e-3
            else:
                assert np.array_equal(arrays, tensors)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", HERE)
def test_other_images_are_the_same_up_to_rounding(name: str, device: str) -> None:
    for stored, bands in ((optical_images(4, 37, 50), OPTICAL), (radar_images(4, 37, 50), RADAR)):
        if bands is RADAR and name in ("haze", "striping"):
            continue
        for severity in [0, 1] if bands is RADAR and name == "band_loss" else OPERATORS[name].severities:
            arrays, tensors = both(name, stored, severity, bands, device)
            assert np.abs(arrays - tensors).max() < 2e-5 * bands[0].statistics.std
            if name not in ("noise", *RESOLUTION, "native"):
                assert np.array_equal(arrays, tensors)


@settings(deadline=None, max_examples=40, derandomize=True)
@given(
    name=st.sampled_from((*RESOLUTION, "native")),
    height=st.integers(8, 80), width=st.integers(8, 80), factor=st.integers(2, 8), seed=st.integers(0, 99),
)  # fmt: skip
def test_any_size_and_factor(name: str, height: int, width: int, factor: int, seed: int) -> None:
    stored = np.random.default_rng(seed).integers(0, 256, (2, 3, height, width)).astype(np.uint8)
    assert np.array_equal(*both(name, stored, factor, RGB))
    floats = stored.astype(np.float32) / 7 - 20
    arrays, tensors = both(name, floats[:, :2], factor, RADAR)
    assert np.abs(arrays - tensors).max() < 1e-5


def test_pieces_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = rgb_images(5)
    whole = [both(name, stored, OPERATORS[name].severities[-1], RGB)[1] for name in ("mtf", "blur")]
    monkeypatch.setattr("rsfm.degrade.device._PIECE", 2 * stored[0].size)
    assert np.array_equal(
        whole, [both(name, stored, OPERATORS[name].severities[-1], RGB)[1] for name in ("mtf", "blur")]
    )


def test_every_operator_is_here_but_jpeg() -> None:
    """JPEG is coded on the CPU."""
    assert set(OPERATORS) - ON_DEVICE == {"jpeg"}


def test_what_cannot_be_is_refused() -> None:
    images = torch.zeros(2, 3, 16, 16)
    with pytest.raises(RsfmError, match="Resolution factor 17"):
        degrade_on_device(OPERATORS["bilinear"], images, 17, RGB, ids(2))
    with pytest.raises(RsfmError, match="decibels"):
        degrade_on_device(OPERATORS["haze"], images[:, :2], 1, RADAR, ids(2))


# -- evaluations ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["bilinear", "noise", "jpeg"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_model_elsewhere_has_its_images_degraded_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, dtype: type
) -> None:
    images = {"train": rgb_images(6, 16, 16).astype(dtype), "test": rgb_images(4, 16, 16, seed=1).astype(dtype)}
    labels = {split: [f"c{i % 2}" for i in range(len(part))] for split, part in images.items()}
    pack = write_arrays(Workspace(tmp_path), "p", images, SENSORS["rgb"].bands, labels=labels)
    model = resolve(EvaluateSpec(model="band-stats", dataset="p"), pack, Workspace(tmp_path))
    read = evaluated.PackImages(pack, model, OPERATORS[name])
    rows, levels = np.array([3, 0, 2]), np.array(OPERATORS[name].severities)[[1, 0, 2]]
    expected = [read.read("test", rows, severity) for severity in (levels, float(levels[0]))]
    travelled: list[torch.dtype] = []
    real = evaluated.degrade_on_device
    monkeypatch.setattr(
        evaluated,
        "degrade_on_device",
        lambda entry, stored, *a: travelled.append(stored.dtype) or real(entry, stored, *a),
    )
    assert not read.on_device
    read.on_device = evaluated.PackImages(pack, model.to("meta"), OPERATORS[name]).on_device
    found = [read.read("test", rows, severity) for severity in (levels, float(levels[0]))]
    assert travelled == ([] if name == "jpeg" else [torch.uint8 if dtype is np.uint8 else torch.float32] * 4)
    for a, b in zip(expected, found, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-3 if name == "noise" else 1e-5)
