"""From packs to batches: order, band selection, standardisation, views."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rsfm.bands import Band
from rsfm.data.loader import WaitTimer, train_loader
from rsfm.data.sampler import EndlessBatchSampler
from rsfm.data.seeding import derive_seed, step_generator
from rsfm.data.source import PackSource, Standardiser
from rsfm.data.views import random_boxes, random_crops, resampling_matrix, resize
from rsfm.errors import RsfmError
from rsfm.pack_arrays import write_arrays

torch.set_num_threads(1)


def _take(sampler, count):
    return list(itertools.islice(iter(sampler), count))


# -- the sampler -----------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(count=st.integers(1, 40), batch=st.integers(1, 50), seed=st.integers(0, 2**31), epochs=st.integers(1, 4))
def test_every_epoch_is_a_permutation(count, batch, seed, epochs):
    batches = _take(EndlessBatchSampler(count, batch, seed), -(-count * epochs // batch))
    assert all(len(b) == batch for b in batches)
    stream = np.concatenate(batches)
    for epoch in range(epochs):
        assert sorted(stream[epoch * count : (epoch + 1) * count]) == list(range(count))


@settings(deadline=None, max_examples=60)
@given(count=st.integers(1, 30), batch=st.integers(1, 40), start=st.integers(0, 20), seed=st.integers(0, 99))
def test_starting_later_continues_the_same_stream(count, batch, start, seed):
    whole = _take(EndlessBatchSampler(count, batch, seed), start + 4)
    later = _take(EndlessBatchSampler(count, batch, seed, start=start), 4)
    for a, b in zip(whole[start:], later, strict=True):
        assert np.array_equal(a, b)


@settings(deadline=None, max_examples=30)
@given(count=st.integers(1, 30), batch=st.integers(1, 8), world=st.integers(1, 4), start=st.integers(0, 5))
def test_ranks_share_each_global_batch(count, batch, world, start):
    whole = _take(EndlessBatchSampler(count, batch * world, 0, start=start), 3)
    ranks = [_take(EndlessBatchSampler(count, batch, 0, start=start, rank=r, world=world), 3) for r in range(world)]
    for step, expected in enumerate(whole):
        interleaved = np.stack([ranks[r][step] for r in range(world)], axis=1).reshape(-1)
        assert np.array_equal(interleaved, expected)


def test_order_differs_between_epochs_and_seeds():
    sampler = EndlessBatchSampler(100, 10, 0)
    assert not np.array_equal(sampler.permutation(0), sampler.permutation(1))
    assert not np.array_equal(sampler.permutation(0), EndlessBatchSampler(100, 10, 1).permutation(0))


def test_randomness_depends_on_seed_step_and_rank_only():
    def draw(*where: int) -> tuple[float, float]:
        generator = step_generator(torch.device("cpu"), *where)
        return torch.rand(1).item(), torch.rand(1, generator=generator).item()

    assert draw(0, 5) == draw(0, 5)
    assert len({draw(*w) for w in [(0, 5), (0, 6), (1, 5), (0, 5, 1)]}) == 4
    assert derive_seed(1, 23) != derive_seed(12, 3)


# -- the source ------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["uint8", "uint16", "float32"])
def pack(request, workspace):
    rng = np.random.default_rng(0)
    shape = (4, 8, 12)
    images = {s: rng.uniform(0, 200, (n, *shape)).astype(request.param) for s, n in {"train": 9, "extra": 5}.items()}
    bands = [Band(f"B{i}", 500, 10, "reflectance", scale=0.01 * (i + 1), offset=-0.1 * i) for i in range(4)]
    return write_arrays(workspace, "p", images, bands)


@pytest.mark.parametrize("in_memory", [True, False])
def test_source_reads_bands_by_name_over_splits(pack, in_memory):
    names = ["B3", "B0"]
    source = PackSource(pack, ["extra", "train"], names=names, in_memory=in_memory)
    assert len(source) == 14
    assert [b.name for b in source.input.bands] == names
    assert (source.input.height, source.input.width) == (8, 12)
    whole = np.concatenate([pack.array("extra"), pack.array("train")])[:, [3, 0]]
    index = np.array([13, 0, 4, 5, 4])
    np.testing.assert_array_equal(source[index].numpy(), whole[index])


def test_standardiser_uses_the_units_of_the_statistics(pack):
    source = PackSource(pack, ["train"], names=["B2", "B1"])
    values, bad = Standardiser(source)(source[np.arange(9)])
    for channel, position in enumerate([2, 1]):
        info = pack.layer().bands[position]
        in_unit = info.band().to_unit(pack.array("train")[:, position])
        expected = (in_unit - info.statistics.mean) / info.statistics.std
        np.testing.assert_allclose(values[:, channel].numpy(), expected, atol=1e-4)
    assert abs(values.mean()) < 1e-3
    assert abs(values.std() - 1) < 1e-2
    assert (bad is None) == (pack.layer().dtype != "float32")


def test_values_that_are_not_finite_become_zero_and_are_counted(workspace):
    images = np.random.default_rng(0).normal(5, 2, (4, 2, 8, 8)).astype("float32")
    images[1, 0, :2, 0] = np.nan
    images[2, 1, 3, 3] = np.inf
    bands = [Band("a", None, 10, "db"), Band("b", None, 10, "db")]
    source = PackSource(write_arrays(workspace, "p", {"train": images}, bands), ["train"])
    values, bad = Standardiser(source)(source[np.arange(4)])
    assert bad.item() == 3
    assert torch.isfinite(values).all()
    assert values[1, 0, 0, 0] == 0
    assert values[2, 1, 3, 3] == 0


def test_permuted_bands_give_the_same_input(workspace):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (6, 3, 8, 8)).astype("uint8")
    bands = [Band(n, 500, 10, "uint8") for n in ("red", "green", "blue")]
    order = [2, 0, 1]
    one = write_arrays(workspace, "one", {"train": images}, bands)
    two = write_arrays(workspace, "two", {"train": images[:, order]}, [bands[i] for i in order])
    inputs = []
    for pack in (one, two):
        source = PackSource(pack, ["train"], names=["green", "blue", "red"])
        inputs.append(Standardiser(source)(source[np.arange(6)])[0])
    assert torch.equal(*inputs)


def test_constant_band_becomes_zero(workspace):
    images = np.full((4, 1, 8, 8), 7, "uint8")
    source = PackSource(write_arrays(workspace, "p", {"train": images}, [Band("a", None, 10, "dn")]), ["train"])
    assert torch.equal(Standardiser(source)(source[np.arange(4)])[0], torch.zeros(4, 1, 8, 8))


@pytest.mark.parametrize(
    ("splits", "names", "message"),
    [
        (["train"], ["B0", "B9"], "has no band B9"),
        (["train"], ["B0", "B0"], "named twice"),
        (["nope"], None, "no split 'nope'"),
        (["train", "train"], None, "each split once"),
        ([], None, "at least one"),
    ],
)
def test_wrong_requests_are_refused(pack, splits, names, message):
    with pytest.raises(RsfmError, match=message):
        PackSource(pack, splits, names=names)


def test_workers_change_nothing(pack):
    source = PackSource(pack, ["train", "extra"])

    def stream(workers: int) -> list[dict[str, torch.Tensor]]:
        timer = WaitTimer()
        sampler = EndlessBatchSampler(len(source), 4, 0, start=3)
        loader = train_loader({"image": source}, sampler, workers=workers, pin_memory=False, timer=timer)
        batches = list(itertools.islice(iter(loader), 6))
        assert timer.seconds > 0
        return batches

    for a, b in zip(stream(0), stream(2), strict=True):
        assert torch.equal(a["image"], b["image"])
        assert torch.equal(a["index"], b["index"])
        assert np.array_equal(a["image"].numpy(), source[a["index"].numpy()].numpy())


# -- views -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width", "size"), [(40, 40, 24), (16, 20, 32), (24, 24, 24), (50, 31, 8)])
def test_resize_equals_torch_antialiased_bicubic(height, width, size):
    images = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    expected = torch.nn.functional.interpolate(
        images, (size, size), mode="bicubic", antialias=True, align_corners=False
    )
    torch.testing.assert_close(resize(images, size), expected, atol=2e-5, rtol=1e-4)


def test_crops_equal_cropping_and_resizing_one_by_one():
    generator = torch.Generator().manual_seed(5)
    images = torch.randn(12, 2, 30, 26, generator=torch.Generator().manual_seed(0))
    views = random_crops(images, 16, scale=(0.1, 1.0), flips="none", generator=generator)
    boxes = random_boxes(12, 30, 26, scale=(0.1, 1.0), generator=torch.Generator().manual_seed(5)).int().tolist()
    for image, view, (top, left, height, width) in zip(images, views, boxes, strict=True):
        piece = image[None, :, top : top + height, left : left + width]
        expected = torch.nn.functional.interpolate(piece, (16, 16), mode="bicubic", antialias=True)[0]
        torch.testing.assert_close(view, expected, atol=5e-5, rtol=1e-4)


def test_boxes_lie_inside_and_cover_the_asked_area():
    boxes = random_boxes(4000, 64, 64, scale=(0.2, 1.0), generator=torch.Generator().manual_seed(0))
    top, left, height, width = boxes.unbind(1)
    assert top.min() >= 0
    assert left.min() >= 0
    assert (top + height).max() <= 64
    assert (left + width).max() <= 64
    area = height * width / 64**2
    assert area.min() > 0.17
    assert 0.5 < area.mean() < 0.62  # a little under 0.6: large draws of a stretched shape do not fit
    ratio = width / height
    assert ratio.min() > 0.68
    assert ratio.max() < 1.45
    whole = random_boxes(5, 64, 64, scale=(1.0, 1.0), generator=torch.Generator().manual_seed(0))
    assert whole.tolist() == [[0, 0, 64, 64]] * 5
    thin = random_boxes(3, 10, 100, scale=(1.0, 1.0), generator=torch.Generator().manual_seed(0))
    assert thin.tolist() == [[0, 43, 10, 13]] * 3


def test_whole_crop_at_the_same_size_changes_nothing():
    images = torch.randn(3, 5, 24, 24, generator=torch.Generator().manual_seed(0))
    views = random_crops(images, 24, scale=(1, 1), flips="none", generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(views, images, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("flips", "kinds"), [("none", 1), ("horizontal", 2), ("dihedral", 8)])
def test_flips_reach_exactly_the_allowed_symmetries(flips, kinds):
    image = torch.arange(16.0).view(1, 1, 4, 4)
    views = random_crops(
        image.expand(400, -1, -1, -1), 4, scale=(1, 1), flips=flips, generator=torch.Generator().manual_seed(0)
    )
    seen = {tuple(v.round().int().flatten().tolist()) for v in views}
    symmetries = {
        tuple(torch.rot90(i, k, (2, 3)).int().flatten().tolist()) for i in (image, image.flip(3)) for k in range(4)
    }
    assert seen <= symmetries
    assert len(seen) == kinds


def test_matrix_rows_sum_to_one_and_stay_inside():
    start, length = torch.tensor([3.0, 0.0]), torch.tensor([10.0, 20.0])
    weights = resampling_matrix(start, length, 20, 7)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 7))
    assert weights[0, :, :3].abs().sum() == 0
    assert weights[0, :, 13:].abs().sum() == 0


def test_views_are_a_function_of_the_generator():
    images = torch.randn(6, 2, 16, 16)

    def views(seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return random_crops(images, 8, scale=(0.2, 1), flips="dihedral", generator=generator)

    assert torch.equal(views(1), views(1))
    assert not torch.equal(views(1), views(2))
