"""NT-Xent, projection heads and SimCLR against recorded values, closed forms and each other."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightly.loss import NTXentLoss
from pair_world import (
    Z1,
    Z2,
    build,
    check_overfit,
    generator,
    smooth_images,
    train,
    views_of,
)
from precision import check_bf16
from torch import nn

from rsfm.data.source import Batch
from rsfm.errors import RsfmError
from rsfm.losses.contrastive import alignment, contrast_signals, nt_xent, nt_xent_logits, uniformity
from rsfm.models.projectors import moco_v2_head, moco_v3_predictor, moco_v3_projector, simclr_projector

torch.set_num_threads(1)


# -- the loss ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("temperature", "expected"), [(0.5, 2.4858629604374793), (0.1, 7.783875863240352), (0.07, 10.87433126785213)]
)
def test_nt_xent_golden(temperature, expected):
    loss = nt_xent(Z1, Z2, temperature)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert NTXentLoss(temperature)(Z1, Z2).item() == pytest.approx(expected, rel=1e-5)


def test_nt_xent_limits():
    units = torch.eye(8)[:4]
    assert nt_xent(units, units, 0.5).item() == pytest.approx(0.5944376642, rel=1e-5)
    assert nt_xent(units, units, 0.1).item() == pytest.approx(2.72362e-4, rel=1e-3)
    assert nt_xent(torch.ones(4, 8), torch.ones(4, 8), 0.1).item() == pytest.approx(math.log(7), rel=1e-6)


def test_nt_xent_of_unrelated_features_is_that_of_guessing():
    """ln(2N − 1) for similarities next to 0: 6.236 for N = 256."""
    z1, z2 = torch.randn(2, 256, 4096, generator=generator())
    assert nt_xent(z1, z2, 0.5).item() == pytest.approx(6.236, abs=5e-3)


def test_nt_xent_does_not_overflow():
    z1 = Z1.float().requires_grad_()
    loss = nt_xent(z1, -Z1.float(), 1e-3)
    loss.backward()
    assert loss.isfinite()
    assert z1.grad.isfinite().all()


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 12), st.integers(2, 16), st.floats(0.05, 1.0), st.integers(0, 10_000))
def test_nt_xent_properties(count, width, temperature, seed):
    z1, z2 = torch.randn(2, count, width, generator=generator(seed))
    loss = nt_xent(z1, z2, temperature)
    order = torch.randperm(count, generator=generator(seed))
    torch.testing.assert_close(nt_xent(z2, z1, temperature), loss, rtol=1e-4, atol=1e-5)  # symmetric
    torch.testing.assert_close(nt_xent(z1[order], z2[order], temperature), loss, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(nt_xent(3 * z1, 0.2 * z2, temperature), loss, rtol=1e-4, atol=1e-5)  # directions only
    expected = NTXentLoss(temperature)(z1, z2)
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)


def test_nt_xent_is_float32_under_autocast():
    z1, z2 = torch.randn(2, 16, 32, generator=generator())
    exact = nt_xent(z1, z2, 0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(nt_xent(z1, z2, 0.1), exact)


def test_alignment_and_uniformity_golden():
    assert alignment(Z1, Z2).item() == pytest.approx(1.9641401579, rel=1e-5)
    assert uniformity(Z1).item() == pytest.approx(-1.6280501934, rel=1e-5)
    same = torch.ones(5, 3)
    assert alignment(same, same).item() == 0
    assert uniformity(same).item() == pytest.approx(0, abs=1e-6)


def test_signals_of_a_contrast():
    units = torch.eye(4)
    logits, partners = nt_xent_logits(units, units, 0.1)
    signals = contrast_signals(logits, partners, 0.1)
    assert signals["contrastive_top1"] == 1
    assert signals["positive_similarity"].item() == pytest.approx(1)
    assert signals["negative_similarity"].item() == pytest.approx(0)
    # Each partner is turned away: its own view of the next image is nearer.
    signals = contrast_signals(*nt_xent_logits(units, units.roll(1, 0), 0.1), 0.1)
    assert signals["contrastive_top1"] == 0
    assert signals["positive_similarity"].item() == pytest.approx(0)
    assert signals["negative_similarity"].item() == pytest.approx(1 / 6)


# -- heads -------------------------------------------------------------------------------------------------------------
def _kinds(head: nn.Sequential) -> list[str]:
    return [type(module).__name__ for module in head]


@pytest.mark.parametrize("layers", [2, 3])
def test_simclr_projector(layers):
    head = simclr_projector(24, 48, 16, layers)
    assert _kinds(head) == ["Linear", "BatchNorm", "ReLU"] * (layers - 1) + ["Linear", "BatchNorm"]
    linear = [m for m in head if isinstance(m, nn.Linear)]
    assert all(m.bias is None for m in linear)
    assert [(m.in_features, m.out_features) for m in linear] == [(24, 48), *[(48, 48)] * (layers - 2), (48, 16)]
    assert head[1].bias is not None
    assert head[-1].weight is not None
    assert head[-1].bias is None  # scale, no shift


def test_moco_heads():
    assert _kinds(moco_v2_head(24, 16)) == ["Linear", "ReLU", "Linear"]
    assert moco_v2_head(24, 16)[0].bias is not None
    projector, predictor = moco_v3_projector(24, 48, 16), moco_v3_predictor(16, 48)
    assert _kinds(projector) == ["Linear", "BatchNorm", "ReLU"] * 2 + ["Linear", "BatchNorm"]
    assert _kinds(predictor) == ["Linear", "BatchNorm", "ReLU", "Linear", "BatchNorm"]
    for head in (projector, predictor):
        assert all(m.bias is None for m in head if isinstance(m, nn.Linear))
        assert head[1].weight is not None
        assert head[-1].weight is None and head[-1].bias is None
        assert head[-1].num_features == 16


# -- SimCLR ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("bands", [1, 3, 13])
def test_simclr_takes_any_number_of_bands(bands):
    method = build("simclr", bands=bands)
    views = views_of(method, smooth_images(4, bands))
    assert views["view1"].shape == views["view2"].shape == (4, bands, 32, 32)
    assert not torch.equal(views["view1"], views["view2"])
    again, other = views_of(method, smooth_images(4, bands)), views_of(method, smooth_images(4, bands), seed=1)
    assert all(torch.equal(views[name], again[name]) for name in views)
    assert not torch.equal(views["view1"], other["view1"])
    parts = method.loss(views)
    assert parts.total.dtype == torch.float32
    assert parts.parts["contrastive"] is parts.total
    assert {"contrastive_top1", "alignment", "uniformity"} <= set(parts.logs)
    assert not any(value.requires_grad for value in parts.logs.values())
    panel = method.views_panel(Batch({"image": smooth_images(4, bands)}, torch.arange(4)), views)
    assert [name for name, _ in panel.rows] == ["stored", "view 1", "view 2"]


def test_simclr_loss_is_nt_xent_of_both_views_in_one_batch():
    method = build("simclr", projector_layers=2, projection_dim=16, temperature=0.3)
    views = views_of(method, smooth_images(8))
    with torch.no_grad():
        features = torch.cat([method.encoder.features(views["view1"]), method.encoder.features(views["view2"])])
        z1, z2 = method.projector(features).chunk(2)
        torch.testing.assert_close(method.loss(views).total, nt_xent(z1, z2, 0.3))


def test_simclr_starts_near_guessing():
    method = build("simclr", temperature=0.5)
    with torch.no_grad():
        loss = method.loss(views_of(method, torch.randn(32, 4, 32, 32, generator=generator()))).total.item()
    assert loss == pytest.approx(math.log(63), abs=0.5)


def test_simclr_is_a_function_of_the_seed():
    first, again, other = (build("simclr", seed=s).state_dict() for s in (5, 5, 6))
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not torch.equal(first["projector.0.weight"], other["projector.0.weight"])


def test_batch_norm_statistics_are_in_the_state():
    assert {"projector.1.running_mean", "projector.1.running_var"} <= set(build("simclr").state_dict())


def test_simclr_bf16_is_close_to_fp32():
    method = build("simclr", temperature=0.5)
    views = views_of(method, smooth_images(16))
    check_bf16(method, views)


def test_simclr_overfits_one_batch():
    method = build("simclr", projection_dim=32, temperature=0.2, optim={"batch_size": 32})
    images = smooth_images(32)
    check_overfit(method, train(method, images, 80, 2e-3), images)


def test_a_pass_with_one_image_is_refused_and_accumulation_is_remarked():
    with pytest.raises(RsfmError, match="one image per pass"):
        build("simclr", optim={"batch_size": 4, "accumulate": 4})
    method = build("simclr", optim={"batch_size": 16, "accumulate": 2})
    assert any("8 images at a time" in remark for remark in method.remarks)
    assert not any("at a time" in remark for remark in build("simclr").remarks)


def test_bands_without_colour_are_remarked():
    assert any("saturation" in remark for remark in build("simclr").remarks)


def test_heads_do_not_decay_in_one_dimension():
    method = build("simclr")
    free = {id(p) for g in method.parameter_groups() if not g.decay for p in g.parameters}
    assert id(method.projector[1].weight) in free
    assert id(method.projector[0].weight) not in free
