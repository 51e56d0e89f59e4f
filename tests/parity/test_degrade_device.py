"""Degradation on tensors is degradation on arrays: same images, same random numbers, one severity per sample."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from degrade_world import (
    ALL,
    OPTICAL,
    RADAR,
    RESOLUTION,
    RGB,
    ids,
    optical_images,
    radar_images,
    rgb_images,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from rsfm.degrade import OPERATORS
from rsfm.degrade.device import degrade_on_device
from rsfm.degrade.entry import to_unit
from rsfm.errors import RsfmError
from rsfm.packs import BandInfo

torch.set_num_threads(1)

HERE = tuple(name for name in ALL if name not in ("jpeg", "native"))
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def both(
    name: str, stored: np.ndarray, severities: list[float], bands: list[BandInfo], device: str = "cpu"
) -> tuple[np.ndarray, np.ndarray]:
    """The same samples, each at its severity: on arrays one by one, and on tensors all at once."""
    entry, names = OPERATORS[name], ids(len(stored))
    arrays = [
        entry.apply(stored[i : i + 1], s, bands, names[i : i + 1], "image_post")[0] for i, s in enumerate(severities)
    ]
    values = torch.from_numpy(to_unit(stored, bands)).to(device)
    tensors = degrade_on_device(name, values, torch.tensor(severities), bands, names, "image_post")
    assert tensors.device == values.device
    return np.stack(arrays), tensors.cpu().numpy()


def ladder(name: str, count: int) -> list[float]:
    """Severities in turn, the identity among them."""
    return [OPERATORS[name].severities[i % len(OPERATORS[name].severities)] for i in range(count)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", HERE)
def test_float_images_agree(name: str, device: str) -> None:
    for stored, bands in ((optical_images(8, 37, 50), OPTICAL), (radar_images(8, 37, 50), RADAR)):
        severities = ladder(name, 8)
        if bands is RADAR and name in ("haze", "striping"):
            continue
        if bands is RADAR and name == "band_loss":
            severities = [0, 1] * 4
        arrays, tensors = both(name, stored, severities, bands, device)
        scale = bands[0].statistics.std
        assert np.abs(arrays - tensors).max() < 1e-4 * scale
        values = to_unit(stored, bands)
        for i, severity in enumerate(severities):
            assert np.array_equal(tensors[i], values[i]) == (severity == OPERATORS[name].identity)


@pytest.mark.parametrize("factor", [2, 3, 4, 8])
@pytest.mark.parametrize("name", RESOLUTION)
def test_8_bit_images_agree_within_two_levels(name: str, factor: int) -> None:
    """Arrays round to grey levels on the way, tensors do not."""
    for stored in (rgb_images(4), np.random.default_rng(0).integers(0, 256, (4, 3, 40, 56)).astype(np.uint8)):
        arrays, tensors = both(name, stored, [float(factor)] * 4, RGB)
        assert np.abs(arrays - tensors).max() <= 2
        assert np.abs(arrays - tensors).mean() < 0.5


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_it_is_not_the_plain_bilinear_of_torch(factor: int) -> None:
    """Without anti-aliasing it would be another benchmark: 48 to 64 grey levels away."""
    i, j = np.mgrid[0:16, 0:16]
    planes = [(16 * i + 3 * j) % 256, (7 * i * j) % 256, 255 * ((i // 2 + j // 2) % 2)]
    values = torch.from_numpy(np.stack(planes)[None].astype(np.float32))
    ours = degrade_on_device("bilinear", values, torch.tensor([factor]), RGB, ids(1))
    resize = torch.nn.functional.interpolate
    small = resize(values, size=(16 // factor,) * 2, mode="bilinear", align_corners=False, antialias=False)
    plain = resize(small, size=(16, 16), mode="bilinear", align_corners=False)
    assert (ours - plain).abs().max() > 45
    assert np.abs(OPERATORS["bilinear"].apply(values.numpy(), factor, RGB, ids(1)) - ours.numpy()).max() < 1e-3


@settings(deadline=None, max_examples=25, derandomize=True)
@given(
    name=st.sampled_from(RESOLUTION),
    shape=st.tuples(st.integers(1, 3), st.just(2), st.integers(8, 30), st.integers(8, 30)),
    factor=st.integers(2, 8),
)
def test_any_size_and_factor(name: str, shape: tuple[int, int, int, int], factor: int) -> None:
    stored = np.random.default_rng(0).uniform(-20, 0, shape).astype(np.float32)
    arrays, tensors = both(name, stored, [float(factor)] * shape[0], RADAR)
    assert np.abs(arrays - tensors).max() < 1e-4


@pytest.mark.parametrize("name", HERE)
def test_any_seeds_each_sample_by_itself(name: str) -> None:
    values = torch.from_numpy(to_unit(optical_images(5), OPTICAL))
    severities, seeds = torch.tensor([OPERATORS[name].severities[1]] * 5), torch.arange(5)
    whole = degrade_on_device(name, values, severities, OPTICAL, seeds)
    for i in range(5):
        one = slice(i, i + 1)
        alone = degrade_on_device(name, values[one], severities[one], OPTICAL, seeds[one])
        torch.testing.assert_close(alone, whole[one], atol=1e-6, rtol=0)
    other = degrade_on_device(name, values, severities, OPTICAL, seeds + 5)
    assert torch.equal(other, whole) == (not OPERATORS[name].random)


@pytest.mark.parametrize("name", ["noise", "striping"])
def test_small_seeds_give_unrelated_numbers(name: str) -> None:
    """Seeds may be counters."""
    values = torch.from_numpy(to_unit(optical_images(1), OPTICAL)).expand(64, -1, -1, -1)
    severities = torch.full((64,), 0.3 if name == "noise" else 0.1)
    worse = degrade_on_device(name, values, severities, OPTICAL, torch.arange(64))
    z = (worse - values) if name == "noise" else (worse / values)[:, :, 0]
    largest = np.abs(np.corrcoef(z.reshape(64, -1).numpy()) - np.eye(64)).max()
    assert largest < 4.5 / np.sqrt(z[0].numel())  # 2016 pairs


def test_moments_of_noise() -> None:
    values = torch.from_numpy(radar_images(32))
    ratio = torch.tensor([1.0, 0.3] * 16)
    z = degrade_on_device("noise", values, ratio, RADAR, torch.arange(32)) - values
    expected = values.std(dim=(2, 3), correction=0) * ratio[:, None]
    assert ((z.std(dim=(2, 3)) / expected - 1).abs() < 0.06).all()
    normal = (z / expected[..., None, None]).numpy()
    assert abs(normal.mean()) < 0.01
    assert abs((normal**4).mean() - 3) < 0.1


@pytest.mark.parametrize("name", HERE)
def test_half_precision_around_it_changes_nothing(name: str) -> None:
    values = torch.from_numpy(to_unit(optical_images(2), OPTICAL))
    severities = torch.tensor([OPERATORS[name].severities[-1]] * 2)
    expected = degrade_on_device(name, values, severities, OPTICAL, ids(2))
    with torch.autocast("cpu", torch.bfloat16):
        result = degrade_on_device(name, values, severities, OPTICAL, ids(2))
    assert result.dtype == torch.float32
    assert torch.equal(result, expected)


@pytest.mark.parametrize("name", HERE)
def test_all_at_the_identity(name: str) -> None:
    values = torch.from_numpy(radar_images(2))
    same = degrade_on_device(name, values, torch.tensor([OPERATORS[name].identity] * 2), RADAR, ids(2))
    assert torch.equal(same, values)
    assert same.data_ptr() != values.data_ptr()


def test_refusals() -> None:
    values, two = torch.zeros(2, 3, 16, 16), torch.tensor([1.0, 2.0])
    for name, why in (("jpeg", "coded on the CPU"), ("native", "one size")):
        with pytest.raises(RsfmError, match=why):
            degrade_on_device(name, values, two, RGB, ids(2))
    with pytest.raises(RsfmError, match="Unknown degradation"):
        degrade_on_device("lanczos", values, two, RGB, ids(2))
    with pytest.raises(RsfmError, match="Resolution factor 17"):
        degrade_on_device("bilinear", values, torch.tensor([1.0, 17.0]), RGB, ids(2))
    with pytest.raises(RsfmError, match="decibels"):
        degrade_on_device("haze", values[:, :2], two, RADAR, ids(2))
    for wrong in (
        (values.double(), two, RGB, ids(2)),
        (values, two[:1], RGB, ids(2)),
        (values, two, RGB[:2], ids(2)),
        (values, two, RGB, ids(3)),
    ):
        with pytest.raises(RsfmError, match="takes float32"):
            degrade_on_device("bilinear", *wrong)
