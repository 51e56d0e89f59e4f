"""DINO's and iBOT's losses, centres and Sinkhorn-Knopp against values recorded from the reference implementations."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from rsfm.losses.self_distillation import (
    between_views,
    centred_targets,
    cross_entropy,
    entropy,
    image_weights,
    moved_centre,
    on_patches,
    prototype_use,
    sinkhorn_targets,
)
from rsfm.train.schedules import linear_warmup

torch.set_num_threads(1)
close = dict(rel=1e-5, abs=1e-9)


def wave(n: int, d: int, a: float, b: float) -> torch.Tensor:
    """sin(a (i d + j) + b), as the values were recorded."""
    return torch.sin(a * torch.arange(n * d, dtype=torch.float64).view(n, d) + b)


TEACHER = torch.stack([wave(2, 5, 0.8, 0.1 * v) for v in range(2)])
STUDENT = torch.stack([wave(2, 5, 0.6, 0.2 * v + 0.05) for v in range(4)])
CENTRE = torch.linspace(-0.1, 0.1, 5, dtype=torch.float64)


@pytest.mark.parametrize(("temperature", "expected"), [(0.04, 1.6232385361005928), (0.07, 1.6674444132103927)])
def test_class_loss(temperature, expected):
    loss = between_views(centred_targets(TEACHER, CENTRE, temperature), STUDENT, 0.1)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected, **close)


def test_class_centre():
    moved = moved_centre(CENTRE, TEACHER.sum(dim=(0, 1)), torch.tensor(4.0))
    expected = [-0.12688115474, -0.05694835552, 0.02023215583, 0.08514011294, 0.12569961617]
    assert moved.tolist() == pytest.approx(expected, **close)


PATCH_TEACHER = torch.stack([wave(8, 5, 0.31, 0.1 * v).view(2, 4, 5) for v in range(2)])
PATCH_STUDENT = torch.stack([wave(8, 5, 0.27, 0.2 * v + 0.05).view(2, 4, 5) for v in range(2)])
HIDDEN = torch.tensor([[[1, 0, 1, 1], [0, 0, 0, 0]], [[0, 1, 0, 0], [1, 1, 1, 1]]]).bool()


def test_patch_loss():
    targets = centred_targets(PATCH_TEACHER[HIDDEN], torch.zeros(5), 0.07)
    weights = image_weights(HIDDEN)[HIDDEN]
    loss = on_patches(targets, PATCH_STUDENT[HIDDEN], weights, 0.1)
    assert loss.item() == pytest.approx(1.0840592564775835, **close)
    each = torch.zeros(HIDDEN.shape).masked_scatter(
        HIDDEN, 4 * weights * cross_entropy(targets, PATCH_STUDENT[HIDDEN], 0.1)
    )
    expected = [0.68260885512, 0, 0.79510072753, 2.85852744326]
    assert each.sum(dim=-1).flatten().tolist() == pytest.approx(expected, **close)


def test_patch_centres_over_all_patches_and_over_hidden_ones():
    zero = torch.zeros(5, dtype=torch.float64)
    every = moved_centre(zero, PATCH_TEACHER.sum(dim=(0, 1, 2)), torch.tensor(16.0))
    expected = [0.00107188916, 0.00070837973, 0.00027733844, -0.00018014233, -0.00062044961]
    assert every.tolist() == pytest.approx(expected, **close)
    hidden = moved_centre(zero, PATCH_TEACHER[HIDDEN].sum(dim=0), HIDDEN.sum().double())
    expected = [0.00103763724, 0.00029410795, -0.00047745950, -0.00120350937, -0.00181482525]
    assert hidden.tolist() == pytest.approx(expected, **close)


def test_a_centre_without_patches_stays():
    assert torch.equal(moved_centre(CENTRE, torch.zeros(5), torch.tensor(0.0)), CENTRE)


def test_sinkhorn():
    x = wave(4, 3, 0.9, 0.2)
    targets = sinkhorn_targets(x, 0.5)
    assert targets[0].tolist() == pytest.approx([0.06929789, 0.52469598, 0.40600613], abs=2e-7)
    assert targets[3].tolist() == pytest.approx([0.64357984, 0.31350356, 0.0429166], abs=2e-7)
    assert targets.sum(dim=1).tolist() == pytest.approx([1] * 4, rel=1e-6)
    assert targets.sum(dim=0).tolist() == pytest.approx([1.42000922, 1.32255251, 1.25743827], abs=5e-7)
    assert sinkhorn_targets(x, 0.5, iterations=60).sum(dim=0).tolist() == pytest.approx([4 / 3] * 3, rel=1e-5)


def test_sinkhorn_survives_logits_that_overflow_exp():
    targets = sinkhorn_targets(wave(6, 4, 0.7, 0) * 30, 0.04)
    assert torch.isfinite(targets).all()
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(6))
    assert sinkhorn_targets(torch.zeros(0, 4), 0.04).shape == (0, 4)


# -- invariants ------------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), shift=st.floats(-3, 3), teachers=st.integers(1, 3), more=st.integers(1, 4))
def test_class_loss_properties(seed, shift, teachers, more):
    g = torch.Generator().manual_seed(seed)
    teacher, student = (torch.randn(n, 6, 7, generator=g) for n in (teachers, teachers + more))
    centre, order = torch.randn(7, generator=g), torch.randperm(6, generator=g)
    targets = centred_targets(teacher, centre, 0.07)
    loss = between_views(targets, student, 0.1)
    log_p = F.log_softmax(student / 0.1, dim=-1)
    pairs = [-(targets[q] * log_p[v]).sum(-1).mean() for q in range(teachers) for v in range(len(student)) if v != q]
    assert len(pairs) == teachers * len(student) - teachers
    torch.testing.assert_close(loss, torch.stack(pairs).mean(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(between_views(targets[:, order], student[:, order], 0.1), loss, rtol=1e-5, atol=1e-5)
    shifted = centred_targets(teacher + shift, centre + shift, 0.07)
    torch.testing.assert_close(shifted, targets, rtol=1e-3, atol=1e-5)


def test_one_view_alone_is_refused():
    with pytest.raises(ValueError, match="second view"):
        between_views(torch.ones(1, 2, 3) / 3, torch.zeros(1, 2, 3), 0.1)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), temperature=st.floats(0.04, 1))
def test_cross_entropy_is_entropy_plus_divergence(seed, temperature):
    g = torch.Generator().manual_seed(seed)
    targets = centred_targets(torch.randn(5, 9, generator=g), torch.zeros(9), temperature)
    student = torch.randn(5, 9, generator=g)
    divergence = F.kl_div(F.log_softmax(student / 0.1, dim=-1), targets, reduction="none").sum(dim=-1)
    torch.testing.assert_close(
        cross_entropy(targets, student, 0.1), entropy(targets) + divergence, rtol=1e-6, atol=1e-5
    )
    assert divergence.min() > -1e-5


def test_targets_carry_no_gradient():
    logits = TEACHER.clone().requires_grad_()
    assert not centred_targets(logits, CENTRE, 0.04).requires_grad
    assert not sinkhorn_targets(logits[0], 0.04).requires_grad


def test_hidden_patches_weigh_the_same_for_every_image():
    g = torch.Generator().manual_seed(0)
    hidden = torch.rand(2, 8, 16, generator=g) < torch.rand(2, 8, 1, generator=g)
    hidden[0, 3] = False
    weights = image_weights(hidden).sum(dim=-1)
    expected = hidden.any(dim=-1).float() / 16
    torch.testing.assert_close(weights, expected)
    half = torch.zeros(2, 8, 16, dtype=torch.bool)
    half[0] = True
    uniform = torch.full((128, 64), 1 / 64)
    loss = on_patches(uniform, torch.zeros(128, 64), image_weights(half)[half], 0.1)
    assert loss.item() == pytest.approx(math.log(64) / 2, rel=1e-5)  # half of a cross-entropy


def test_nothing_hidden_costs_nothing():
    nothing = torch.zeros(2, 3, 4, dtype=torch.bool)
    student = torch.randn(2, 3, 4, 5, requires_grad=True)
    loss = on_patches(torch.zeros(0, 5), student[nothing], image_weights(nothing)[nothing], 0.1)
    loss.backward()
    assert loss.item() == 0
    assert student.grad.abs().max() == 0


def test_prototype_use_counts_winners():
    assert prototype_use(torch.tensor([3, 3, 1, 3]), 8).item() == pytest.approx(2 / 4)
    assert prototype_use(torch.arange(8).repeat(3), 8).item() == 1
    assert prototype_use(torch.zeros(64, dtype=torch.int64), 16).item() == pytest.approx(1 / 16)


def test_temperature_warms_up_in_samples():
    assert linear_warmup(0, 600, 0.04, 0.07) == pytest.approx(0.04)
    assert linear_warmup(300, 600, 0.04, 0.07) == pytest.approx(0.055)
    assert linear_warmup(600, 600, 0.04, 0.07) == 0.07
    assert linear_warmup(0, 0, 0.04, 0.07) == 0.07
