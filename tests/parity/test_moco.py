"""MoCo v2 and v3 against recorded values, closed forms and the order of things in their papers."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from moco_world import QUEUE, small, v3
from pair_world import Z1, Z2, check_overfit, generator, smooth_images, train, views_of, wave
from precision import check_bf16
from torch.nn import functional as F

from rsfm.losses.contrastive import (
    moco_v2,
    moco_v2_logits,
    moco_v3,
    moco_v3_contrast,
    moco_v3_logits,
    nt_xent,
)
from rsfm.methods.base import Progress
from rsfm.methods.moco_v2 import MoCoV2
from rsfm.train.schedules import cosine

torch.set_num_threads(1)

Q2, K1 = wave(4, 8, 0.9, 0.3), wave(4, 8, 0.6, -0.4, torch.cos)


# -- losses ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("temperature", "expected"), [(0.2, 4.5006373099952395), (0.07, 11.312983360126568)])
def test_moco_v2_golden(temperature, expected):
    loss = moco_v2(Z1, Z2, QUEUE, temperature)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("temperature", "expected"), [(0.2, 6.0926), (0.07, 0.0401)])
def test_moco_v2_with_a_perfect_positive_and_orthogonal_negatives(temperature, expected):
    """ln(1 + K e^{−1/τ})."""
    units = torch.eye(128)
    queue = units[64:].repeat(1024, 1)
    loss = moco_v2(units[:8], units[:8], queue, temperature).item()
    assert loss == pytest.approx(math.log(1 + 65536 * math.exp(-1 / temperature)), rel=1e-5)
    assert loss == pytest.approx(expected, abs=5e-5)


def test_moco_v2_starts_low_with_a_random_queue():
    """Identical encoders and a random queue of 65536 keys of 128 numbers: 6.19."""
    q = torch.randn(64, 128, generator=generator())
    queue = F.normalize(torch.randn(65536, 128, generator=generator(1)), dim=1)
    assert moco_v2(q, q, queue, 0.2).item() == pytest.approx(6.19, abs=5e-3)


def test_moco_v3_golden():
    assert moco_v3_contrast(Z1, Z2, 0.2).item() == pytest.approx(1.527240003591091, rel=1e-5)
    assert moco_v3_contrast(Q2, K1, 0.2).item() == pytest.approx(1.0986854924761995, rel=1e-5)
    assert moco_v3(Z1, Q2, K1, Z2, 0.2).item() == pytest.approx(2.6259254960672904, rel=1e-5)
    assert moco_v3(Z1, Q2, K1, Z2, 1.0).item() == pytest.approx(5.702600482083633, rel=1e-5)


@pytest.mark.parametrize(("count", "expected"), [(256, 4.436), (4096, 6.654)])
def test_moco_v3_of_features_all_alike(count, expected):
    same = torch.ones(count, 4)
    assert moco_v3(same, same, same, same, 0.2).item() == pytest.approx(4 * 0.2 * math.log(count), rel=1e-5)
    assert moco_v3(same, same, same, same, 0.2).item() == pytest.approx(expected, abs=1e-3)


def test_moco_v3_is_not_nt_xent():
    both = moco_v3(Z1, Z2, Z1, Z2, 0.2)
    assert abs(both - 4 * 0.2 * nt_xent(Z1, Z2, 0.2)) > 0.1


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 10), st.integers(2, 16), st.floats(0.05, 1.0), st.integers(0, 10_000))
def test_loss_properties(count, width, temperature, seed):
    q1, q2, k1, k2, rest = torch.randn(5, count, width, generator=generator(seed))
    order = torch.randperm(count, generator=generator(seed))
    close = {"rtol": 1e-4, "atol": 1e-5}
    loss = moco_v3(q1, q2, k1, k2, temperature)
    torch.testing.assert_close(moco_v3(q2, q1, k2, k1, temperature), loss, **close)  # symmetric
    torch.testing.assert_close(moco_v3(*(x[order] for x in (q1, q2, k1, k2)), temperature), loss, **close)
    torch.testing.assert_close(moco_v3(3 * q1, q2, 0.1 * k1, k2, temperature), loss, **close)
    queue = F.normalize(rest, dim=1)
    loss = moco_v2(q1, k1, queue, temperature)
    torch.testing.assert_close(moco_v2(q1[order], k1[order], queue[order], temperature), loss, **close)
    torch.testing.assert_close(moco_v2(2 * q1, 5 * k1, queue, temperature), loss, **close)


def test_keys_carry_no_gradient():
    q, k = Z1.float().requires_grad_(), Z2.float().requires_grad_()
    (moco_v2(q, k, QUEUE, 0.2) + moco_v3_contrast(q, k, 0.2)).backward()
    assert q.grad is not None
    assert k.grad is None


def test_losses_are_float32_under_autocast():
    q, k = torch.randn(2, 8, 16, generator=generator())
    exact = moco_v2(q, k, F.normalize(q, dim=1), 0.2), moco_v3_contrast(q, k, 0.2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(moco_v2(q, k, F.normalize(q, dim=1), 0.2), exact[0])
        assert torch.equal(moco_v3_contrast(q, k, 0.2), exact[1])


def test_positives_are_in_their_columns():
    assert moco_v2_logits(Z1, Z1, QUEUE, 0.5)[:, 0].tolist() == pytest.approx([2.0] * 4)
    logits, labels = moco_v3_logits(Z1, Z1, 0.5)
    assert labels.tolist() == [0, 1, 2, 3]
    assert logits.diag().tolist() == pytest.approx([2.0] * 4)


# -- moving averages ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("make", [lambda: small(key_momentum=0.9), lambda: v3(key_momentum=0.9)])
def test_key_encoders_are_those_of_the_papers_order(make):
    """The papers move the key encoder before each key forward, with that step's momentum; we after the step."""
    method, steps = make(), 5
    expected = copy.deepcopy(method.key_encoder)
    optimiser = torch.optim.SGD([p for g in method.parameter_groups() for p in g.parameters], lr=0.5)
    moved = 0.0
    for step in range(steps):
        momentum = 0.9 if isinstance(method, MoCoV2) else cosine(step, steps, 0.9, 1.0)
        with torch.no_grad():
            for ours, theirs in zip(expected.parameters(), method.encoder.parameters(), strict=True):
                ours.mul_(momentum).add_(theirs, alpha=1 - momentum)
        for ours, theirs in zip(expected.parameters(), method.key_encoder.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs)
            moved = max(moved, (ours - theirs).abs().max().item())
        optimiser.zero_grad()
        method.loss(views_of(method, smooth_images(16), step, step, steps)).total.backward()
        optimiser.step()
        with torch.no_grad():
            method.after_step(Progress(step + 1, steps, 0))
        method.pending.clear()
    assert moved < 1e-5
    different = zip(method.encoder.parameters(), method.key_encoder.parameters(), strict=True)
    assert max((a - b).abs().max().item() for a, b in different) > 1e-3


def test_moco_v3_momentum_rises_to_one():
    method = v3(key_momentum=0.99)
    for step, expected in ((0, 0.99), (50, 0.995), (100, 1.0)):
        assert method._momentum(Progress(step, 100, 0)) == pytest.approx(expected)
    views = views_of(method, smooth_images(4), step=50)
    assert method.loss(views).logs["key_momentum"].item() == pytest.approx(0.995)


# -- MoCo v3 -----------------------------------------------------------------------------------------------------------
def test_patch_projection_stays_at_its_random_start():
    method = v3()
    start = method.encoder.patch_projection.weight.clone()
    train(method, smooth_images(16), 3, 1e-2)
    assert torch.equal(method.encoder.patch_projection.weight, start)
    assert torch.equal(method.key_encoder.patch_projection.weight, start)
    assert method.encoder.patch_projection.weight.grad is None
    assert method.encoder.blocks[0].attn.qkv.weight.grad is not None
    free = v3(freeze_patch_projection=False)
    train(free, smooth_images(16), 3, 1e-2)
    assert not torch.equal(free.encoder.patch_projection.weight, start)


def test_initialisation_of_moco_v3():
    method = v3(encoder={"patch_size": 8, "width": 64, "depth": 1, "heads": 2})
    weight = method.encoder.blocks[0].attn.qkv.weight
    bound = math.sqrt(6 / (64 + 64))  # as three matrices; as one it would be √(6 / 256)
    assert 0.98 * bound < weight.abs().max().item() <= bound
    assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.03)
    assert method.encoder.class_token.abs().max().item() < 1e-5
    fan = 8 * 8 * 4 + 64
    assert 0.98 * math.sqrt(6 / fan) < method.encoder.patch_projection.weight.abs().max().item() <= math.sqrt(6 / fan)


def test_moco_v3_loss_is_symmetric_and_made_of_its_parts():
    method = v3()
    views = views_of(method, smooth_images(12))
    with torch.no_grad():
        (q1, q2), (k1, k2) = method.queries(views), method.keys(views)
        torch.testing.assert_close(method.loss(views).total, moco_v3(q1, q2, k1, k2, 0.2))
        swapped = {**views, "view1": views["view2"], "view2": views["view1"]}
        torch.testing.assert_close(method.loss(swapped).total, method.loss(views).total)


def test_moco_v3_views_are_asymmetric():
    """View 1 is always blurred, view 2 seldom; only view 2 is solarised."""
    from rsfm.data.source import LayerInput
    from rsfm.methods.moco_v3 import MoCoV3
    from rsfm.model_info import ModelBand
    from rsfm.registry.moco_v3 import MoCoV3Params

    described = [
        ModelBand(name=n, wavelength_nm=w, gsd_m=1, unit="uint8", mean=100, std=50)
        for n, w in (("red", 660.0), ("green", 560.0), ("blue", 480.0))
    ]
    rgb = LayerInput("image", described, 32, 32)
    still = {"flips": "none", "jitter_p": 0, "grayscale_p": 0, "blur_sigma_min": 14.0, "blur_sigma_max": 14.0}
    params = MoCoV3Params(
        projector_width=48, projection_dim=16, crop_min_scale=1.0, blur_p_2=0.0, solarize_p_2=1.0, augment=still
    )
    method = MoCoV3(v3(bands=3).encoder, params, rgb)
    assert method.remarks == []
    images = (torch.randint(0, 256, (8, 3, 32, 32), generator=generator()).float() - 100) / 50
    views = views_of(method, images)
    values = {name: views[name] * 50 + 100 for name in ("view1", "view2")}
    assert values["view1"].std() < 0.5 * values["view2"].std()
    assert values["view2"].max() < 128  # everything above is turned around
    assert values["view1"].max() > 128
    assert any("solarise" in remark for remark in v3().remarks)  # bands without colour


@pytest.mark.parametrize("bands", [1, 3, 13])
def test_moco_v3_takes_any_number_of_bands(bands):
    method = v3(bands=bands)
    views = views_of(method, smooth_images(8, bands))
    again = views_of(method, smooth_images(8, bands))
    assert all(torch.equal(views[name], again[name]) for name in views)
    parts = method.loss(views)
    assert parts.total.dtype == torch.float32
    assert {"contrastive_top1", "positive_similarity", "negative_similarity"} <= set(parts.logs)
    assert 0 < parts.logs["alignment"] < 4 and parts.logs["uniformity"] < 0


def test_moco_v3_starts_near_guessing():
    method = v3(projection_dim=128, temperature=1.0)
    with torch.no_grad():
        loss = method.loss(views_of(method, torch.randn(32, 4, 32, 32, generator=generator()))).total.item()
    assert loss == pytest.approx(4 * math.log(32), abs=0.5)


def test_moco_v3_bf16_is_close_to_fp32():
    method = v3(temperature=1.0)
    views = views_of(method, smooth_images(16))
    check_bf16(method, views)


def test_moco_v3_overfits_one_batch():
    method = v3(projector_width=64, projection_dim=32, key_momentum=0.9)
    images = smooth_images(32)
    check_overfit(method, train(method, images, 100, 2e-3), images)


def test_moco_v3_is_a_function_of_the_seed():
    first, again, other = (v3(seed=s).state_dict() for s in (5, 5, 6))
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not torch.equal(first["predictor.0.weight"], other["predictor.0.weight"])
    assert not torch.equal(first["encoder.blocks.0.attn.qkv.weight"], other["encoder.blocks.0.attn.qkv.weight"])
