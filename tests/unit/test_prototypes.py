"""The DINO head: unit vectors, cosines, shared and separate prototypes, and the initial values that follow."""

from __future__ import annotations

import math

import pytest
import torch

from rsfm.losses.self_distillation import centred_targets, cross_entropy
from rsfm.models.ema import frozen_copy
from rsfm.models.prototypes import DINOHead, Prototypes

torch.set_num_threads(1)


def _head(**options) -> DINOHead:
    torch.manual_seed(0)
    return DINOHead(48, 64, hidden=96, bottleneck=32, **options)


def test_outputs_are_cosines():
    head = _head()
    logits = head(torch.randn(5, 3, 48))
    assert logits.shape == (5, 3, 64)
    assert logits.abs().max() <= 1
    scaled = Prototypes(32, 64)
    scaled.directions.data = head.prototypes.directions * torch.rand(64, 1)
    z = head.embed(torch.randn(4, 48))
    torch.testing.assert_close(z.norm(dim=-1), torch.ones(4))
    torch.testing.assert_close(scaled(z), head.prototypes(z))


def test_a_free_gain_scales_and_learns():
    head = _head(free_gain=True)
    tokens = torch.randn(6, 48)
    torch.testing.assert_close(head(tokens), _head()(tokens))  # gains start at 1
    head.prototypes.gain.data[3] = 2.5
    torch.testing.assert_close(head(tokens)[:, 3], 2.5 * _head()(tokens)[:, 3])
    head(tokens).square().sum().backward()
    assert head.prototypes.gain.grad.abs().min() > 0
    assert _head().prototypes.gain is None


def test_shared_and_separate_prototypes():
    shared, separate = _head(), _head(shared=False)
    assert shared.patch_prototypes is shared.prototypes
    assert separate.patch_prototypes is not separate.prototypes
    assert not torch.equal(separate.patch_prototypes.directions, separate.prototypes.directions)
    extra = sum(p.numel() for p in separate.parameters()) - sum(p.numel() for p in shared.parameters())
    assert extra == 64 * 32


@pytest.mark.parametrize("shared", [True, False])
def test_a_teacher_starts_as_its_student(shared):
    student = _head(shared=shared)
    teacher = frozen_copy(student)
    tokens = torch.randn(4, 48)
    assert torch.equal(teacher(tokens), student(tokens))
    z = student.embed(tokens)
    assert torch.equal(teacher.patch_prototypes(z), student.patch_prototypes(z))


def test_logits_stay_float32_under_bf16():
    head = _head()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert head(torch.randn(4, 48)).dtype == torch.float32


@pytest.mark.parametrize(
    ("prototypes", "temperature", "same", "other"),
    [(8192, 0.04, 8.2377, 9.0605), (8192, 0.07, 8.650, 9.123), (65536, 0.04, 10.320, 11.158)],
)
def test_initial_cross_entropy_of_the_head(prototypes, temperature, same, other):
    """ln K + 1 / (2·256·τ_s²) − ρ / (256·τ_s·τ_t): logits are cosines in 256 dimensions, ρ their correlation.

    `same` and `other` were recorded from one head on synthetic features: identical ones, and ones with ρ = 0.15.
    """
    torch.manual_seed(1)
    layer = Prototypes(256, prototypes)
    a = torch.nn.functional.normalize(torch.randn(256, 256), dim=-1)
    noise = torch.nn.functional.normalize(torch.randn(256, 256), dim=-1)
    b = torch.nn.functional.normalize(0.15 * a + math.sqrt(1 - 0.15**2) * noise, dim=-1)
    with torch.no_grad():
        targets = centred_targets(layer(a), torch.zeros(prototypes), temperature)
        for features, recorded in ((a, same), (b, other)):
            value = cross_entropy(targets, layer(features), 0.1).mean().item()
            rho = (a * features).sum(-1).mean().item()
            formula = math.log(prototypes) + 1 / (512 * 0.01) - rho / (256 * 0.1 * temperature)
            assert value == pytest.approx(formula, abs=0.03)
            assert value == pytest.approx(recorded, abs=0.04)
