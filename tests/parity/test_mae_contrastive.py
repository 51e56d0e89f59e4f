"""The masked autoencoder with contrast: its limits are MAE and SimCLR; its parts are what they say."""

from __future__ import annotations

import math

import pytest
import torch
from pair_world import build, check_overfit, generator, smooth_images, spec_of, train, views_of
from precision import check_bf16
from torch.nn import functional as F

from rsfm.data.source import Batch, LayerInput
from rsfm.errors import RsfmError
from rsfm.losses.contrastive import nt_xent
from rsfm.losses.reconstruction import masked_patch_mse, normalised_patches
from rsfm.methods.base import Method
from rsfm.methods.mae import take
from rsfm.methods.mae_contrastive import MAEContrastive, task_gradients
from rsfm.model_info import ModelBand
from rsfm.models.vit import patchify, unpatchify
from rsfm.registry.mae_contrastive import MAEContrastiveParams

torch.set_num_threads(1)

DECODER = {"decoder_width": 32, "decoder_depth": 1, "decoder_heads": 2}


def make(**settings) -> Method:
    return build(
        "mae_contrastive", **{**DECODER, "projector_width": 48, "projection_dim": 16, "temperature": 0.5, **settings}
    )


# -- what it is at its limits ------------------------------------------------------------------------------------------
def test_without_contrast_it_is_the_masked_autoencoder_bit_for_bit():
    ours = make(contrastive_weight=0, view_count=1, mask_ratio=0.75, seed=3)
    mae = build("mae", seed=3, **DECODER)
    theirs = mae.state_dict()
    assert {name for name, _ in ours.named_parameters()} == {name for name, _ in mae.named_parameters()}
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.state_dict().items())
    views = views_of(ours, smooth_images(6))
    assert views["keep"].shape == (6, 4)
    mine, other = ours.loss(views), mae.loss(views)
    assert torch.equal(mine.total, other.total)
    mine.total.backward(), other.total.backward()
    gradients = dict(mae.named_parameters())
    for name, parameter in ours.named_parameters():
        assert torch.equal(parameter.grad, gradients[name].grad), name


@pytest.mark.parametrize("class_token", [True, False])
def test_without_reconstruction_and_masks_it_is_simclr(class_token):
    shared = {
        "seed": 3, "projector_layers": 3, "projector_width": 48, "projection_dim": 16, "temperature": 0.5,
        "encoder": {"patch_size": 8, "width": 32, "depth": 2, "heads": 2, "class_token": class_token},
    }  # fmt: skip
    ours = build("mae_contrastive", **DECODER, **shared, reconstruction_weight=0, contrastive_weight=1, mask_ratio=0)
    simclr = build("simclr", **shared)
    images = smooth_images(8)
    views, pair = views_of(ours, images), views_of(simclr, images)
    assert torch.equal(views["image"], torch.cat([pair["view1"], pair["view2"]]))
    mine, other = ours.loss(views), simclr.loss(pair)
    torch.testing.assert_close(mine.total, other.total)
    mine.total.backward(), other.total.backward()
    gradients = dict(simclr.named_parameters())
    assert ours.decoder is None
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name].grad, rtol=1e-3, atol=1e-6, msg=name)


def test_initial_loss_follows_the_derivation():
    """λr (1 + 2·w / (w + P)) + λc ln(2N − 1), w the decoder's width and P the values of a patch."""
    method = make(decoder_width=96, decoder_heads=3, encoder={"patch_size": 8, "width": 96, "depth": 2, "heads": 3})
    with torch.no_grad():
        loss = method.loss(views_of(method, torch.randn(32, 4, 32, 32, generator=generator()))).total.item()
    assert loss == pytest.approx(1 + 2 * 96 / (96 + 256) + 0.05 * math.log(63), abs=0.1)


def test_patches_without_observation_do_not_count_whatever_the_jitter():
    """What fills them differs from band to band: by rounding to whole numbers, and by jitter."""
    jitter = {"jitter_p": 1.0, "brightness": 0.4, "band_gain": 0.3, "flips": "none"}
    described = [
        ModelBand(name=f"b{i}", wavelength_nm=None, gsd_m=10, unit="dn", mean=300.4 + i, std=10) for i in range(4)
    ]
    spec = spec_of("mae_contrastive", **DECODER, crop_min_scale=1.0, blur_p=0, contrastive_weight=0, augment=jitter)
    method = MAEContrastive.build(spec, {"image": LayerInput("image", described, 32, 32)})
    images = smooth_images(6)
    images[:, :, :, :16] = torch.tensor([-0.04, 0.03, -0.01, 0.05]).view(4, 1, 1)
    views = views_of(method, images)
    nothing = views["hidden"] % 4 < 2
    patches = take(patchify(views["image"], 8), views["hidden"])
    assert (patches[nothing].var(dim=-1) > 1e-4).all(), "their bands differ"
    with torch.no_grad():
        loss = method.loss(views)
        assert loss.logs["flat_patch_share"] == nothing.float().mean()
        noise = torch.randn(views["image"].shape, generator=generator())
        hidden = torch.zeros(12, 16, dtype=torch.bool).scatter(1, views["hidden"], True).view(12, 4, 4)
        hidden = hidden.repeat_interleave(8, 1).repeat_interleave(8, 2).unsqueeze(1)
        left = torch.arange(32) < 16
        # Of hidden patches, only those that were observed matter: the others may be anything that is flat.
        other = method.loss({**views, "image": torch.where(hidden & left, 7.0, views["image"])})
        assert torch.equal(other.total, loss.total)
        seen = method.loss({**views, "image": torch.where(hidden & ~left, noise, views["image"])})
        assert (seen.total - loss.total).abs() > 1e-3


# -- its parts ---------------------------------------------------------------------------------------------------------
def test_parts_are_weighted_and_add_up():
    method = make(reconstruction_weight=0.7, contrastive_weight=0.3, denoising_weight=0.2)
    parts = method.loss(views_of(method, smooth_images(8)))
    torch.testing.assert_close(parts.total, sum(parts.parts.values()))
    torch.testing.assert_close(parts.parts["reconstruction"], 0.7 * parts.logs["reconstruction_error"])
    torch.testing.assert_close(parts.parts["contrastive"], 0.3 * parts.logs["nt_xent"])
    torch.testing.assert_close(parts.parts["denoising"], 0.2 * parts.logs["denoising_error"])
    assert {"contrastive_top1", "alignment", "uniformity", "flat_patch_share"} <= set(parts.logs)


def test_each_part_by_hand():
    method = make()
    images = smooth_images(8)
    views = views_of(method, images)
    assert views["image"].shape == (16, 4, 32, 32)
    assert views["keep"].shape == views["hidden"].shape == (16, 8)
    with torch.no_grad():
        parts = method.loss(views)
        patches = patchify(views["image"], 8)
        tokens = method.encoder.forward_patches(patches, method.encoder.grid, views["keep"])
        z1, z2 = method.projector(tokens[:, 1:].mean(dim=1)).chunk(2)
        torch.testing.assert_close(parts.logs["nt_xent"], nt_xent(z1, z2, 0.5))
        prediction = method.decoder(tokens, views["keep"], views["hidden"])
        target = normalised_patches(take(patches, views["hidden"]))
        errors = [
            masked_patch_mse(prediction[half], target[half], torch.ones(8, 8)) for half in (slice(8), slice(8, 16))
        ]
        torch.testing.assert_close(parts.logs["reconstruction_error"], (errors[0] + errors[1]) / 2)


def test_hidden_pixels_reach_the_contrast_of_no_view():
    method = make(reconstruction_weight=0, contrastive_weight=1)
    views = views_of(method, smooth_images(8))
    patches = patchify(views["image"], 8)
    where = views["hidden"].unsqueeze(-1).expand(-1, -1, patches.shape[-1])
    changed = unpatchify(patches.scatter(1, where, 1e3), 8, method.encoder.grid)
    with torch.no_grad():
        assert torch.equal(method.loss(views).total, method.loss({**views, "image": changed}).total)


def test_views_and_masks_are_independent_of_each_other():
    method = make()
    views = views_of(method, smooth_images(8))
    first, second = views["image"].chunk(2)
    assert not torch.equal(first, second)
    assert len({tuple(row) for row in views["keep"].tolist()}) == 16
    again, other = views_of(method, smooth_images(8)), views_of(method, smooth_images(8), seed=1)
    assert all(torch.equal(views[name], again[name]) for name in views)
    assert not torch.equal(views["keep"], other["keep"])


def test_denoising_sees_noise_and_predicts_it_on_visible_patches():
    method = make(denoising_weight=1.0, reconstruction_weight=0, contrastive_weight=0, noise_max=0.5)
    views = views_of(method, smooth_images(8))
    level = views["noise_level"].flatten()
    assert level.min() >= 0
    assert level.max() <= 0.5
    assert len(level.unique()) == 16
    with torch.no_grad():
        parts = method.loss(views)
        assert set(parts.parts) == {"denoising"}
        noisy = patchify(views["image"] + views["noise_level"] * views["noise"], 8)
        decoded = method.decoder.decode(
            method.encoder.forward_patches(noisy, method.encoder.grid, views["keep"]), views["keep"]
        )
        prediction = method.noise_head(method.decoder.norm(take(decoded, views["keep"])))
        target = take(patchify(views["noise"], 8), views["keep"])
        torch.testing.assert_close(parts.total, (prediction - target).square().mean())
        # Hidden noise changes nothing.
        patches = patchify(views["noise"], 8)
        where = views["hidden"].unsqueeze(-1).expand(-1, -1, patches.shape[-1])
        changed = unpatchify(patches.scatter(1, where, 9.0), 8, method.encoder.grid)
        assert torch.equal(method.loss({**views, "noise": changed}).total, parts.total)
    assert "noise" not in views_of(make(), smooth_images(2))


def test_reconstruction_targets_are_without_the_noise():
    method = make(denoising_weight=1.0, contrastive_weight=0)
    views = views_of(method, smooth_images(4))
    quiet = {**views, "noise_level": torch.zeros_like(views["noise_level"])}
    plain = make(contrastive_weight=0)
    state, wanted = method.state_dict(), plain.state_dict().keys()
    plain.load_state_dict({name: tensor for name, tensor in state.items() if name in wanted})
    unused = state.keys() - wanted
    assert {name.partition(".")[0] for name in unused} <= {
        "projector",
        "noise_head",
        "noise_level",
    }, unused
    with torch.no_grad():
        expected = plain.loss({name: views[name] for name in ("image", "keep", "hidden")}).total
        torch.testing.assert_close(method.loss(quiet).parts["reconstruction"], expected)


# -- the tasks' gradients ----------------------------------------------------------------------------------------------
def test_gradients_of_the_tasks_on_the_last_block():
    method = make(gradients_every_steps=50)
    images = smooth_images(8)
    views = views_of(method, images, step=100)
    parts = method.loss(views)
    block = list(method.encoder.blocks[-1].parameters())
    gradients = []
    for name in ("reconstruction", "contrastive"):
        found = torch.autograd.grad(parts.parts[name], block, retain_graph=True)
        gradients.append(torch.cat([g.flatten() for g in found]))
        torch.testing.assert_close(parts.logs[f"grad_norm/{name}"], gradients[-1].norm())
    torch.testing.assert_close(parts.logs["grad_ratio"], gradients[1].norm() / gradients[0].norm())
    torch.testing.assert_close(parts.logs["grad_cosine"], F.cosine_similarity(*gradients, dim=0))
    parts.total.backward()
    with_measure = [p.grad.clone() for p in method.parameters()]
    method.zero_grad()
    method.loss({name: value for name, value in views.items() if name != "compare_gradients"}).total.backward()
    for ours, theirs in zip(with_measure, method.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs.grad)
    with torch.no_grad():
        assert "grad_ratio" not in method.loss(views).logs


def test_gradients_are_compared_on_the_steps_that_the_setting_names():
    images = smooth_images(2)
    every = make(gradients_every_steps=50)
    measured = [step for step in range(120) if "compare_gradients" in views_of(every, images, step=step, steps=120)]
    assert measured == [0, 50, 100]
    never = make()
    assert not any("compare_gradients" in views_of(never, images, step=step) for step in range(100))


def test_gradients_of_one_task_have_no_ratio():
    parameter = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    signals = task_gradients({"one": parameter.square().sum() / 2}, [parameter])
    assert signals == {"grad_norm/one": torch.tensor(5.0)}


# -- as a method -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("bands", [1, 3, 13])
def test_takes_any_number_of_bands(bands):
    method = make(bands=bands, denoising_weight=0.45)
    images = smooth_images(4, bands)
    views = views_of(method, images)
    parts = method.loss(views)
    assert parts.total.dtype == torch.float32
    parts.total.backward()
    assert all(p.grad is not None for p in method.parameters())
    panel = method.views_panel(Batch({"image": images}, torch.arange(4)), views)
    assert [name for name, _ in panel.rows] == [
        "stored", "view 1", "view 1, visible", "view 2", "view 2, visible",
    ]  # fmt: skip
    method.eval()
    with torch.no_grad():
        (preview,) = method.previews(views)
    assert [values.shape for _, values in preview.rows] == [(4, bands, 32, 32)] * 3


def test_bf16_is_close_to_fp32():
    method = make()
    views = views_of(method, smooth_images(16))
    check_bf16(method, views)


def test_overfits_one_batch():
    method = make(temperature=0.2, contrastive_weight=0.2)
    images = smooth_images(32)
    losses = train(method, images, 120, 2e-3)
    check_overfit(method, losses, images)


def test_is_a_function_of_the_seed():
    first, again, other = (make(seed=s).state_dict() for s in (5, 5, 6))
    assert all(torch.equal(first[k], again[k]) for k in first)
    for name in ("projector.0.weight", "decoder.embed.weight", "encoder.patch_projection.weight"):
        assert not torch.equal(first[name], other[name])


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"mask_ratio": 0.0}, "one hidden to be reconstructed"),
        ({"mask_ratio": 0.99}, "at least one must"),
        ({"optim": {"batch_size": 4, "accumulate": 4}}, "one image per pass"),
    ],
)
def test_what_cannot_work_is_refused(settings, match):
    with pytest.raises(RsfmError, match=match):
        make(**settings)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"view_count": 1}, "set contrastive_weight=0"),
        ({"reconstruction_weight": 0, "contrastive_weight": 0}, "nothing to learn"),
        ({"decoder_width": 30}, "decoder_heads"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings, match):
    with pytest.raises(ValueError, match=match):
        MAEContrastiveParams(**settings)
