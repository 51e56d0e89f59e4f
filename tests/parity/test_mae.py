"""The masked autoencoder against what its paper's reference gives, and against its own derivations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from precision import check_bf16

from rsfm.data.source import Batch, LayerInput
from rsfm.losses.reconstruction import (
    masked_patch_mse,
    normalised_patches,
    patch_variance,
    pixel_targets,
    within_bands,
)
from rsfm.masking.uniform import uniform_mask, visible_count
from rsfm.methods.base import Progress, decay_groups
from rsfm.methods.mae import MAE
from rsfm.model_info import ModelBand
from rsfm.models.vit import build_encoder, patchify, sincos_positions, unpatchify
from rsfm.registry.mae import MAEParams
from rsfm.specs import PretrainSpec

torch.set_num_threads(1)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _method(bands: int = 3, size: int = 32, seed: int = 0, encoder: dict | None = None, **params) -> MAE:
    spec = PretrainSpec(
        dataset="x", seed=seed, image_size=size,
        encoder=encoder or {"patch_size": 8, "width": 32, "depth": 2, "heads": 2},
        method_params={"decoder_width": 32, "decoder_depth": 1, "decoder_heads": 2, **params},
    )  # fmt: skip
    described = [ModelBand(name=f"b{i}", wavelength_nm=None, gsd_m=10, unit="dn", mean=0, std=1) for i in range(bands)]
    return MAE.build(spec, {"image": LayerInput("image", described, size, size)})


def _views(method: MAE, count: int = 4, seed: int = 0) -> dict[str, torch.Tensor]:
    size = method.encoder.image_size
    images = torch.randn(count, method.encoder.in_chans, size, size, generator=_generator(seed))
    return dict(method.views(Batch({"image": images}, torch.arange(count)), _generator(seed), Progress(0, 1, 0)))


# -- golden vectors (recorded from the reference implementation) -----------------------------------------------------


def test_patch_order_is_row_column_channel():
    image = torch.arange(48.0).view(1, 3, 4, 4)
    assert patchify(image, 2)[0, 0].tolist() == [0, 16, 32, 1, 17, 33, 4, 20, 36, 5, 21, 37]


def test_positions_golden():
    table = sincos_positions(8, (2, 2))
    expected = torch.tensor([0.841471, 0.01, 0.540302, 0.99995])
    rest = torch.tensor([0.0, 0.0, 1.0, 1.0])
    torch.testing.assert_close(table[1], torch.cat([expected, rest]), atol=1e-6, rtol=0)  # row 0, column 1
    torch.testing.assert_close(table[2], torch.cat([rest, expected]), atol=1e-6, rtol=0)  # row 1, column 0


@pytest.mark.parametrize(
    ("tokens", "ratio", "visible"), [(196, 0.75, 49), (64, 0.75, 16), (10, 0.9, 1), (10, 0.7, 3), (9, 0.75, 2)]
)
def test_visible_count(tokens, ratio, visible):
    assert visible_count(tokens, ratio) == visible


def test_predicting_zero_costs_p_minus_one_over_p():
    patches = torch.randn(4, 10, 768, generator=_generator())
    target = normalised_patches(patches)
    loss = masked_patch_mse(torch.zeros_like(target), target, torch.ones(4, 10))
    assert loss.item() == pytest.approx(767 / 768, abs=2e-6)


def test_normalisation_uses_the_unbiased_variance():
    patches = torch.randn(3, 5, 48, generator=_generator()).double() * 7 + 2
    mean, variance, _ = patch_variance(patches)
    torch.testing.assert_close(variance, patches.var(dim=-1, keepdim=True))
    torch.testing.assert_close(normalised_patches(patches), (patches - mean) / (variance + 1e-6).sqrt())


def test_initial_loss_of_vit_b():
    """The reference model starts between 1.76 and 1.86; the derivation gives 1 + 2·512 / (512 + 768) = 1.80.

    Other seeds scatter by about 0.04, because early predictions are alike everywhere.
    """
    method = _method(
        3, 224, 0, {"patch_size": 16, "width": 768, "depth": 12, "heads": 12},
        decoder_width=512, decoder_depth=8, decoder_heads=16, crop_min_scale=1.0, flips="none",
    )  # fmt: skip
    views = _views(method, 2)
    assert views["keep"].shape == (2, 49)
    assert views["hidden"].shape == (2, 147)
    with torch.no_grad():
        assert 1.76 <= method.loss(views).total.item() <= 1.86


def test_initial_loss_follows_the_derivation_at_small_scale():
    method = _method(7, 64, 0, {"patch_size": 8, "width": 192, "depth": 4, "heads": 3}, decoder_width=96)
    with torch.no_grad():
        loss = method.loss(_views(method, 16)).total.item()
    assert loss == pytest.approx(1 + 2 * 96 / (96 + 448), abs=0.05)


# -- invariants ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "columns", "p", "bands"), [(2, 2, 4, 3), (3, 5, 2, 1), (1, 4, 8, 13)])
def test_unpatchify_undoes_patchify(rows, columns, p, bands):
    images = torch.randn(2, bands, rows * p, columns * p, generator=_generator())
    assert torch.equal(unpatchify(patchify(images, p), p, (rows, columns)), images)


def test_mask_is_exact_per_sample_and_seeded():
    keep, hidden = uniform_mask(50, 64, 0.75, _generator(3))
    assert keep.shape == (50, 16)
    both = torch.cat([keep, hidden], dim=1).sort(dim=1).values
    assert torch.equal(both, torch.arange(64).expand(50, -1))
    assert len({tuple(row.tolist()) for row in keep}) == 50  # each sample its own
    assert torch.equal(keep, uniform_mask(50, 64, 0.75, _generator(3))[0])
    assert not torch.equal(keep, uniform_mask(50, 64, 0.75, _generator(4))[0])
    counts = torch.bincount(uniform_mask(4000, 16, 0.75, _generator())[0].flatten(), minlength=16)
    assert (counts - 1000).abs().max() < 150  # every place equally often


def test_visible_patches_do_not_see_hidden_pixels():
    method = _method()
    views = _views(method)
    patches = patchify(views["image"], 8)
    where = views["hidden"].unsqueeze(-1).expand(-1, -1, patches.shape[-1])
    changed = patches.scatter(1, where, 1e3)
    grid, keep = method.encoder.grid, views["keep"]
    before, after = (method.encoder.forward_patches(p, grid, keep) for p in (patches, changed))
    assert torch.equal(before, after)


def test_loss_ignores_predictions_on_visible_patches():
    target = torch.randn(2, 8, 12, generator=_generator())
    prediction = torch.randn(2, 8, 12, generator=_generator(1))
    mask = torch.tensor([[1, 1, 0, 1, 0, 1, 1, 0], [0, 1, 1, 1, 1, 0, 0, 1]])
    changed = torch.where(mask.bool().unsqueeze(-1), prediction, torch.full_like(prediction, 1e6))
    assert torch.equal(masked_patch_mse(prediction, target, mask), masked_patch_mse(changed, target, mask))


def test_predicting_only_hidden_patches_equals_predicting_all():
    method = _method()
    views = _views(method)
    with torch.no_grad():
        patches = patchify(views["image"], 8)
        tokens = method.encoder.forward_patches(patches, method.encoder.grid, views["keep"])
        everything = method.decoder(tokens, views["keep"])
        mask = torch.zeros(everything.shape[:2]).scatter(1, views["hidden"], 1.0)
        expected = masked_patch_mse(everything, normalised_patches(patches), mask)
        torch.testing.assert_close(method.loss(views).total, expected)


def test_decoder_puts_tokens_back_where_they_belong():
    """The class token passes through, visible tokens go to their places, the mask token to all others."""
    method = _method()
    decoder, seen = method.decoder, []
    decoder.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    views = _views(method, 3)
    tokens = torch.randn(3, 1 + views["keep"].shape[1], 32, generator=_generator())
    with torch.no_grad():
        decoder(tokens, views["keep"])
        embedded = decoder.embed(tokens)
    canvas = seen[0][:, 1:] - decoder.positions
    torch.testing.assert_close(seen[0][:, 0], embedded[:, 0])
    for sample in range(3):
        torch.testing.assert_close(canvas[sample, views["keep"][sample]], embedded[sample, 1:])
        hidden = canvas[sample, views["hidden"][sample]]
        torch.testing.assert_close(hidden, decoder.mask_token[0].expand_as(hidden))


def test_flat_patches_do_not_count_and_are_reported():
    method = _method(mask_ratio=0.5)
    views = _views(method, 2)
    noise = torch.randn(2, 3, 32, 32, generator=_generator())
    half_flat = noise.clone()
    half_flat[:, :, :, :16] = 1e-3 * noise[:, :, :, :16]  # water: sensor noise only
    half = method.loss({**views, "image": half_flat})
    columns = views["hidden"] % 4
    assert half.logs["flat_patch_share"].item() == pytest.approx((columns < 2).float().mean().item())
    counted = _method(mask_ratio=0.5, flat_patch_variance=0.0)
    counted.load_state_dict(method.state_dict())
    assert counted.loss({**views, "image": half_flat}).logs["flat_patch_share"] == 0
    assert counted.loss({**views, "image": half_flat}).total != half.total
    nothing = method.loss({**views, "image": torch.full_like(noise, 0.3)})
    assert nothing.total.item() == 0
    assert nothing.logs["flat_patch_share"] == 1


@pytest.mark.parametrize(("bands", "size"), [(1, 8), (4, 4), (13, 2)])
def test_variance_within_bands(bands, size):
    """Bands fastest; whatever is added to a band as a whole does not count."""
    patches = torch.randn(3, 5, size * size * bands, generator=_generator())
    _, variance, centred = patch_variance(patches)
    direct = patches.unflatten(-1, (-1, bands)).var(dim=-2).mean(dim=-1)
    torch.testing.assert_close(within_bands(variance, centred, bands), direct)
    flat = (20 * torch.randn(bands, generator=_generator())).repeat(size * size).expand(3, 5, -1)
    _, variance, centred = patch_variance(flat)
    assert (within_bands(variance, centred, bands) < 1e-4).all()
    _, counts = pixel_targets(flat, bands=bands, norm_pix=True, flat_variance=1e-4)
    assert not counts.any()


def test_loss_is_invariant_to_the_order_of_the_batch():
    method = _method()
    views = _views(method, 6)
    order = torch.tensor([3, 1, 5, 0, 4, 2])
    with torch.no_grad():
        permuted = {name: value[order] for name, value in views.items()}
        torch.testing.assert_close(method.loss(views).total, method.loss(permuted).total)


def test_reconstruction_keeps_visible_patches():
    method = _method()
    views = _views(method)
    with torch.no_grad():
        shown = patchify(method.reconstruct(views), 8)
    original = patchify(views["image"], 8)
    for sample in range(4):
        keep, hidden = views["keep"][sample], views["hidden"][sample]
        assert torch.equal(shown[sample, keep], original[sample, keep])
        # Displayed with the true mean of each patch; the network's own offset is small at the start.
        assert not torch.equal(shown[sample, hidden], original[sample, hidden])
    names = [name for name, _ in method.previews(views)[0].rows]
    assert names == ["original", "masked", "reconstruction"]
    assert "true mean and variance" in method.previews(views)[0].caption


def test_no_weight_decay_on_vectors_and_tokens():
    method = _method()
    exempt = {id(p) for g in method.parameter_groups() if not g.decay for p in g.parameters}
    named = dict(method.named_parameters())
    for name in ("encoder.class_token", "decoder.mask_token", "encoder.norm.weight", "encoder.blocks.0.attn.qkv.bias"):
        assert id(named[name]) in exempt
    for name in ("encoder.patch_projection.weight", "decoder.head.weight", "encoder.blocks.0.mlp.fc1.weight"):
        assert id(named[name]) not in exempt
    assert sum(len(g.parameters) for g in method.parameter_groups()) == len(named)
    named["encoder.norm.weight"].requires_grad_(False)
    assert sum(len(g.parameters) for g in decay_groups(method.named_parameters())) == len(named) - 1


def test_initialisation_is_a_function_of_the_seed():
    first, again, other = (_method(seed=s).state_dict() for s in (5, 5, 6))
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not torch.equal(first["encoder.patch_projection.weight"], other["encoder.patch_projection.weight"])
    spec = PretrainSpec(dataset="x", encoder={"patch_size": 8, "width": 32, "depth": 2, "heads": 2})
    alone = build_encoder(spec.encoder, 3, 32, seed=5).state_dict()
    assert all(torch.equal(first[f"encoder.{k}"], v) for k, v in alone.items())


def test_bf16_loss_is_close_to_fp32():
    method = _method(7, 64, encoder={"patch_size": 8, "width": 64, "depth": 2, "heads": 2})
    views = _views(method, 8)
    check_bf16(method, views)


def test_overfits_one_batch():
    """64 smooth images, 200 steps: the loss falls by more than 30 % and the features do not collapse."""
    method = _method(4, 32, encoder={"patch_size": 8, "width": 64, "depth": 2, "heads": 2}, flips="none")
    coarse = torch.randn(64, 4, 2, 2, generator=_generator())
    images = torch.nn.functional.interpolate(coarse, size=32, mode="bicubic", align_corners=False)
    batch = Batch({"image": images}, torch.arange(64))
    optimiser = torch.optim.AdamW(method.parameters(), lr=2e-3)
    losses = []
    for step in range(200):
        optimiser.zero_grad()
        loss = method.loss(method.views(batch, _generator(step), Progress(0, 1, 0))).total
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:3])
    with torch.no_grad():
        features = torch.nn.functional.normalize(method.encoder.features(images), dim=1)
    assert features.std(dim=0).mean() > 0.3 / 64**0.5


@pytest.mark.parametrize(("ratio", "patch"), [(0.99, 8), (0.75, 32)])
def test_masks_that_leave_nothing_are_refused(ratio, patch):
    with pytest.raises(Exception, match="mask_ratio"):
        _method(encoder={"patch_size": patch, "width": 32, "depth": 1, "heads": 2}, mask_ratio=ratio)


def test_params_validate():
    with pytest.raises(ValueError, match="decoder_heads"):
        MAEParams(decoder_width=32, decoder_heads=3)
