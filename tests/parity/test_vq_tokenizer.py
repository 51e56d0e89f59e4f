"""The VQ tokenizer: quantisation, codebook, replacement of unused codes, and what is exported."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from precision import check_bf16
from torch.nn import functional as F

from rsfm.data.source import Batch, LayerInput
from rsfm.errors import RsfmError
from rsfm.losses.tokens import commitment, entropy_of_counts, perplexity, straight_through, token_counts
from rsfm.methods.base import Progress
from rsfm.methods.vq_tokenizer import VQTokenizerTraining, default_codes
from rsfm.model_info import ModelBand, ModelInfo
from rsfm.models.export import load_encoder, load_model, save_model
from rsfm.models.tokenizer import nearest_code
from rsfm.specs import PretrainSpec

torch.set_num_threads(1)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _bands(count: int) -> list[ModelBand]:
    return [ModelBand(name=f"b{i}", wavelength_nm=None, gsd_m=10, unit="dn", mean=0, std=1) for i in range(count)]


def _method(
    bands: int = 3, size: int = 32, seed: int = 0, encoder: dict | None = None, **params
) -> VQTokenizerTraining:
    spec = PretrainSpec(
        method="vq_tokenizer", dataset="x", seed=seed, image_size=size,
        encoder=encoder or {"width": 8, "codes": 16, "code_dim": 8}, method_params=params,
    )  # fmt: skip
    return VQTokenizerTraining.build(spec, {"image": LayerInput("image", _bands(bands), size, size)}, images=100)


def _images(count: int, bands: int = 3, size: int = 32, seed: int = 0) -> torch.Tensor:
    coarse = torch.randn(count, bands, 4, 4, generator=_generator(seed))
    return F.interpolate(coarse, size=size, mode="bicubic", align_corners=False)


def _views(method: VQTokenizerTraining, count: int = 4, seed: int = 0) -> dict[str, torch.Tensor]:
    images = _images(count, method.encoder.in_chans, method.encoder.image_size, seed)
    return dict(method.views(Batch({"image": images}, torch.arange(count)), _generator(seed), Progress(0, 1, 0)))


def _step(method: VQTokenizerTraining, step: int) -> None:
    with torch.no_grad():
        method.after_step(Progress(step, 1000, step))
    method.pending.clear()


def _unit(count: int, dim: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(count, dim, generator=_generator(seed)), dim=1)


# -- parts -----------------------------------------------------------------------------------------------------------


def test_straight_through_gives_the_codes_and_passes_the_gradient_on():
    vectors = _unit(6, 4).requires_grad_()
    codes = _unit(6, 4, 1)
    weight = torch.randn(6, 4, generator=_generator(2))
    result = straight_through(vectors, codes)
    torch.testing.assert_close(result, codes)
    (result * weight).sum().backward()
    assert torch.equal(vectors.grad, weight)


def test_the_nearest_code_is_nearest_in_space():
    vectors, codebook = _unit(50, 6), _unit(11, 6, 1)
    expected = torch.cdist(vectors, codebook).argmin(dim=1)
    assert torch.equal(nearest_code(vectors, codebook), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(nearest_code(vectors, codebook), expected)


def test_commitment_is_the_mean_squared_distance_and_moves_only_vectors():
    vectors, codes = _unit(5, 4).requires_grad_(), _unit(5, 4, 1).requires_grad_()
    value = commitment(vectors, codes)
    assert value.item() == pytest.approx((2 - 2 * (vectors * codes).sum(dim=1)).mean().item() / 4, rel=1e-5)
    value.backward()
    assert codes.grad is None
    torch.testing.assert_close(vectors.grad, 2 * (vectors - codes).detach() / 20)


def test_perplexity_limits():
    assert perplexity(torch.tensor([0.0, 7, 0, 0])).item() == pytest.approx(1)
    assert perplexity(torch.full((512,), 3.0)).item() == pytest.approx(512, rel=1e-5)
    assert entropy_of_counts(torch.tensor([1.0, 1, 2])).item() == pytest.approx(1.5 * math.log(2), rel=1e-6)
    assert entropy_of_counts(torch.zeros(5)).item() == 0


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=60))
def test_counts_and_perplexity_of_any_tokens(tokens):
    counts = token_counts(torch.tensor(tokens), 10)
    assert counts.tolist() == np.bincount(tokens, minlength=10).tolist()
    assert 1 - 1e-5 <= perplexity(counts).item() <= len(set(tokens)) * (1 + 1e-5)


@pytest.mark.parametrize(("images", "codes"), [(1, 1024), (99_999, 1024), (100_000, 8192)])
def test_the_codebook_grows_with_the_dataset(images, codes):
    assert default_codes(images) == codes
    spec = PretrainSpec(method="vq_tokenizer", dataset="x", encoder={"width": 8}, image_size=16)
    method = VQTokenizerTraining.build(spec, {"image": LayerInput("image", _bands(1), 16, 16)}, images=images)
    assert method.encoder.codebook.shape == (codes, 32)
    assert method.encoder.config()["codes"] == codes


# -- the codebook ----------------------------------------------------------------------------------------------------


def test_moving_averages_follow_the_closed_form():
    method = _method(code_momentum=0.9)
    vectors, tokens = _unit(12, 8), torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2, 5, 5, 5])
    start = method.encoder.codebook.clone()
    for _ in range(7):
        method.follow(vectors, tokens)
    share = 1 - 0.9**7
    torch.testing.assert_close(method.usage[:6], share * torch.tensor([3.0, 2, 4, 0, 0, 3]))
    for code, rows in ((0, slice(0, 3)), (1, slice(3, 5)), (2, slice(5, 9)), (5, slice(9, 12))):
        total = vectors[rows].sum(dim=0)
        torch.testing.assert_close(method.sums[code], share * total)
        torch.testing.assert_close(method.encoder.codebook[code], F.normalize(total, dim=0))
    others = [3, 4, *range(6, 16)]
    assert torch.equal(method.encoder.codebook[others], start[others])  # never used: where they were
    new = _unit(1, 8, 3)
    before = method.sums[1].clone()
    method.follow(new, torch.tensor([1]))
    torch.testing.assert_close(method.sums[1], 0.9 * before + 0.1 * new[0])


def test_hardly_used_codes_are_replaced_by_vectors_of_the_batch():
    method = _method()
    usage = torch.full((16,), 1.0)
    usage[[3, 7, 9]] = torch.tensor([0.0, 0.05, 0.07])
    usage[11] = 0.2
    method.usage.copy_(usage)
    method.sums.copy_(method.encoder.codebook * usage.unsqueeze(1))
    before, level = method.encoder.codebook.clone(), usage.mean()
    vectors = _unit(20, 8, 5)
    method.replace_unused(vectors, step=101)
    assert method.reseeded.item() == 3
    kept = [i for i in range(16) if i not in (3, 7, 9)]
    assert torch.equal(method.encoder.codebook[kept], before[kept])
    rows = [int((vectors == method.encoder.codebook[i]).all(dim=1).nonzero()) for i in (3, 7, 9)]
    assert len(set(rows)) == 3
    torch.testing.assert_close(method.usage[[3, 7, 9]], level.expand(3))
    torch.testing.assert_close(method.sums[[3, 7, 9]], vectors[rows] * level)


def test_replacement_is_a_function_of_seed_and_step():
    vectors = _unit(20, 8, 5)

    def replaced(seed: int, step: int) -> torch.Tensor:
        method = _method(seed=seed)
        method.usage[0] = 1.0  # all others are unused
        torch.manual_seed(step + 17 * seed)  # the global state must not matter
        method.replace_unused(vectors, step)
        return method.encoder.codebook[1:]

    assert torch.equal(replaced(0, 101), replaced(0, 101))
    assert not torch.equal(replaced(0, 101), replaced(0, 201))
    assert not torch.equal(replaced(0, 101), replaced(1, 101))


def test_fewer_vectors_than_unused_codes():
    method = _method()
    method.usage[0] = 1.0
    before = method.encoder.codebook.clone()
    vectors = _unit(4, 8, 5)
    method.replace_unused(vectors, 1)
    changed = (method.encoder.codebook != before).any(dim=1)
    assert changed.tolist() == [False, True, True, True, True] + [False] * 11
    assert method.reseeded.item() == 4


def test_replacement_happens_after_the_first_step_and_then_regularly():
    method, done = _method(reseed_every_steps=3), []
    method.replace_unused = lambda vectors, step: done.append(step)  # type: ignore[method-assign]
    for step in range(1, 9):
        method.loss(_views(method))
        _step(method, step)
    assert done == [1, 4, 7]


def test_after_the_first_step_all_codes_are_where_vectors_are():
    method = _method(encoder={"width": 8, "codes": 16, "code_dim": 8})
    views = _views(method, 8)
    before = method.loss(views).logs["codebook_use"]
    vectors = method.pending[0]["vectors"]
    _step(method, 1)
    assert (vectors @ method.encoder.codebook.T).amax(dim=0).min() > 0.95
    assert method.loss(views).logs["codebook_use"] > before


def test_nothing_is_committed_to_random_codes():
    method = _method()
    views = _views(method)
    assert method.loss(views).parts["commitment"] == 0
    _step(method, 2)
    assert method.loss(views).parts["commitment"] > 0


def test_the_loss_changes_no_state_and_accumulation_adds_up():
    whole, parts = _method(), _method()
    views = _views(whole, 8)
    state = {k: v.clone() for k, v in whole.state_dict().items()}
    whole.loss(views)
    assert all(torch.equal(v, state[k]) for k, v in whole.state_dict().items())
    for some in views["image"].split(4):
        parts.loss({"image": some})
    assert (len(whole.pending), len(parts.pending)) == (1, 2)
    _step(whole, 2)
    _step(parts, 2)
    torch.testing.assert_close(parts.encoder.codebook, whole.encoder.codebook)
    torch.testing.assert_close(parts.usage, whole.usage)


# -- the method ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bands", [1, 3, 13])
def test_any_number_of_bands(bands):
    method = _method(bands, size=24)
    views = _views(method)
    parts = method.loss(views)
    assert parts.total.dtype == torch.float32
    torch.testing.assert_close(parts.total, sum(parts.parts.values()))
    parts.total.backward()
    assert all(p.grad is not None and bool((p.grad != 0).any()) for p in method.parameters())
    assert method.encoder.tokens(views["image"]).shape == (4, 9)
    assert not method.encoder.codebook.requires_grad
    assert {"codebook_perplexity", "codebook_use"} <= set(parts.logs)


def test_reconstruction_is_the_mean_squared_error_of_decoded_codes():
    method = _method(commitment=0.0)
    views = _views(method)
    with torch.no_grad():
        parts = method.loss(views)
        (panel,) = method.previews(views)
        expected = (panel.rows[1][1] - views["image"]).square().mean()
    torch.testing.assert_close(parts.total, expected)
    assert [name for name, _ in panel.rows] == ["original", "reconstruction"]


def test_features_are_the_mean_of_the_codes():
    method = _method()
    images = _images(3)
    codes = method.encoder.codebook[method.encoder.tokens(images)]
    torch.testing.assert_close(method.encoder.features(images), codes.mean(dim=1))
    assert method.encoder.features(_images(2, size=16)).shape == (2, 8)  # any size that 8 divides


def test_sizes_and_bands_that_do_not_fit_are_refused():
    with pytest.raises(RsfmError, match="divisible by 8"):
        _method(size=36)
    with pytest.raises(RsfmError, match="takes 3 bands, got 4"):
        _method().encoder.tokens(torch.zeros(1, 4, 32, 32))


def test_initialisation_and_views_are_functions_of_the_seed():
    first, again, other = (_method(seed=s).state_dict() for s in (5, 5, 6))
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not torch.equal(first["encoder.down.0.weight"], other["encoder.down.0.weight"])
    assert not torch.equal(first["encoder.codebook"], other["encoder.codebook"])
    method = _method()
    assert torch.equal(_views(method, seed=3)["image"], _views(method, seed=3)["image"])


def test_bf16_loss_is_close_to_fp32():
    method = _method(7, 32)
    views = _views(method, 8)
    for step in (1, 2):
        method.loss(views)
        _step(method, step)
    check_bf16(method, views)


def test_overfits_one_batch():
    method = _method(
        4, encoder={"width": 16, "codes": 64, "code_dim": 16}, flips="none", crop_min_scale=1.0, reseed_every_steps=10,
        code_momentum=0.9,
    )  # fmt: skip
    images = _images(32, 4)
    batch = Batch({"image": images}, torch.arange(32))
    optimiser = torch.optim.AdamW(method.parameters(), lr=3e-3)
    losses = []
    for step in range(1, 151):
        optimiser.param_groups[0]["lr"] = 3e-3 * min(1.0, step / 20)
        optimiser.zero_grad()
        parts = method.loss(method.views(batch, _generator(step), Progress(0, 1, 0)))
        parts.total.backward()
        optimiser.step()
        _step(method, step)
        losses.append(parts.total.item())
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:3])
    assert parts.logs["codebook_use"] > 0.3
    with torch.no_grad():
        features = F.normalize(method.encoder.features(images), dim=1)
    assert features.std(dim=0).mean() > 0.3 / 16**0.5


def test_the_export_is_an_ordinary_model(tmp_path):
    method = _method(2, encoder={"width": 8, "codes": 16, "code_dim": 8})
    encoder = method.encoder
    info = ModelInfo(
        name="t", architecture="vq_tokenizer", encoder=encoder.config(), image_size=32, feature_dim=8,
        pooling=encoder.pooling, bands=_bands(2), group="g", weights_hash="", created="now",
    )  # fmt: skip
    save_model(tmp_path / "t", encoder, info)
    loaded, read = load_encoder(tmp_path / "t")
    assert read.encoder == {"patch_size": 8, "width": 8, "code_dim": 8, "codes": 16}
    assert loaded.state_dict().keys() == encoder.state_dict().keys()
    images = _images(3, 2)
    assert torch.equal(loaded.tokens(images), encoder.tokens(images))
    torch.testing.assert_close(load_model(tmp_path / "t").extract(images), encoder.features(images))
