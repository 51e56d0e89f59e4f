"""MoCo v2 and v3 against recorded values, closed forms and the order of things in their papers."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pair_world import Z1, Z2, build, check_overfit, generator, layer, smooth_images, train, views_of, wave
from precision import check_bf16
from torch import Tensor, nn
from torch.nn import functional as F

from rsfm.errors import RsfmError
from rsfm.losses.contrastive import (
    moco_v2,
    moco_v2_logits,
    moco_v3,
    moco_v3_contrast,
    moco_v3_logits,
    nt_xent,
)
from rsfm.methods.base import Method, Progress
from rsfm.methods.moco_v2 import MoCoV2
from rsfm.models.ema import cosine_momentum
from rsfm.models.vit import Encoder
from rsfm.registry.moco_v2 import MoCoV2Params

torch.set_num_threads(1)

QUEUE = F.normalize(wave(6, 8, 0.45, 1), dim=1)
Q2, K1 = wave(4, 8, 0.9, 0.3), wave(4, 8, 0.6, -0.4, torch.cos)
RESNET = {"layers": "resnet18", "stem": "imagenet"}


class Small(Encoder):
    """A convolutional network with BatchNorm, quick enough for tests."""

    architecture = "small"
    pooling = "mean_map"

    def __init__(self, in_chans: int = 4) -> None:
        super().__init__()
        self.in_chans, self.image_size, self.feature_dim = in_chans, 32, 24
        self.network = nn.Sequential(
            nn.Conv2d(in_chans, 16, 4, stride=4), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 24, 4, stride=4), nn.BatchNorm2d(24),
        )  # fmt: skip

    def features(self, x: Tensor) -> Tensor:
        return self.network(x).mean(dim=(2, 3))


def small(groups: int = 2, batch_size: int = 16, seed: int = 0, **params) -> MoCoV2:
    values = {"queue_size": 32, "projection_dim": 16, "batchnorm_groups": groups, **params}
    torch.manual_seed(seed)
    return MoCoV2(Small(), MoCoV2Params(**values), layer(), batch_size=batch_size, group_size=batch_size // groups)  # type: ignore[arg-type]


def v3(**settings) -> Method:
    return build("moco_v3", **{"projector_width": 48, "projection_dim": 16, **settings})


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


# -- MoCo v2 -----------------------------------------------------------------------------------------------------------
def same_weights(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_key_encoders_start_as_the_query_encoders_and_do_not_learn():
    for method in (build("moco_v2", encoder=RESNET, batchnorm_groups=2, queue_size=32), v3()):
        head = method.head if isinstance(method, MoCoV2) else method.projector
        key_head = method.key_head if isinstance(method, MoCoV2) else method.key_projector
        assert same_weights(method.encoder, method.key_encoder)
        assert same_weights(head, key_head)
        method.loss(views_of(method, smooth_images(16))).total.backward()
        keys = [*method.key_encoder.parameters(), *key_head.parameters()]
        assert all(p.grad is None and not p.requires_grad for p in keys)
        assert all(p.grad is not None for p in head.parameters())
        learned = {id(p) for group in method.parameter_groups() for p in group.parameters}
        assert learned == {id(p) for p in method.parameters() if p.requires_grad}
        assert not learned & {id(p) for p in keys}


def test_queue_is_first_in_first_out_and_of_unit_length():
    method, seen = small(queue_size=48), []
    start = method.queue.clone()
    torch.testing.assert_close(start.norm(dim=1), torch.ones(48))
    for step in range(7):
        method.loss(views_of(method, smooth_images(16, seed=step), seed=step))
        seen.append(method.pending[-1]["keys"])
        assert torch.equal(method.queue, start), "the loss changes nothing"
        method.after_step(Progress(step + 1, 10, 0))
        method.pending.clear()
        assert int(method.keys_seen) == (step + 1) * 16
        place = step * 16 % 48
        assert torch.equal(method.queue[place : place + 16], seen[-1])
        if step:
            before = (step - 1) * 16 % 48
            assert torch.equal(method.queue[before : before + 16], seen[-2])
        start = method.queue.clone()
    torch.testing.assert_close(method.queue.norm(dim=1), torch.ones(48))


def test_the_keys_of_all_micro_batches_enter_together():
    method = small(batch_size=16)
    for step in range(2):
        method.loss(views_of(method, smooth_images(8, seed=step)))
    keys = [part["keys"] for part in method.pending]
    method.after_step(Progress(1, 10, 0))
    assert torch.equal(method.queue[:16], torch.cat(keys))


def test_current_keys_are_no_negatives_of_their_own_step():
    method = small()
    views = views_of(method, smooth_images(16))
    first = method.loss(views)
    assert torch.equal(method.loss(views).total, first.total)
    expected = moco_v2(
        method._embed(method.encoder, method.head, views["view1"]), method.keys(views["view2"], views["order"]),
        method.queue, 0.2,
    )  # fmt: skip
    torch.testing.assert_close(first.total, expected)


def test_keys_pass_in_shuffled_groups():
    """BatchNorm sees other images together than for the queries; the keys come back in order."""
    method = small(groups=4)
    images = smooth_images(16)
    views = views_of(method, images)
    order = views["order"]
    assert sorted(order.tolist()) == list(range(16))
    assert order.tolist() != list(range(16))
    with torch.no_grad():
        parts = [method.key_encoder.features(images[order[i : i + 4]]) for i in range(0, 16, 4)]
        shuffled = F.normalize(method.key_head(torch.cat(parts)), dim=1)
        keys = method.keys(images, order)
        for place, image in enumerate(order.tolist()):
            torch.testing.assert_close(keys[image], shuffled[place])
        unshuffled = method.keys(images, torch.arange(16))
    assert (keys - unshuffled).abs().max() > 1e-3


def test_one_group_sees_the_whole_batch_in_any_order():
    method = small(groups=1)
    images = smooth_images(16)
    with torch.no_grad():
        whole = F.normalize(method.key_head(method.key_encoder.features(images)), dim=1)
        torch.testing.assert_close(method.keys(images, torch.randperm(16)), whole)
    assert any("BatchNorm group" in remark for remark in method.remarks)


def test_batch_norm_of_the_keys_keeps_its_own_statistics():
    method = small(key_momentum=0.5)
    method.loss(views_of(method, smooth_images(16)))
    before = method.key_encoder.network[1].running_mean.clone()
    assert not torch.equal(before, method.encoder.network[1].running_mean)
    method.after_step(Progress(1, 10, 0))
    assert torch.equal(method.key_encoder.network[1].running_mean, before)


def test_signals_of_the_queue():
    method = small(queue_size=48)
    logs = method.loss(views_of(method, smooth_images(16))).logs
    assert logs["queue_age"] == 0
    assert logs["queue_filled"] == 0
    for step in range(4):
        method.pending[:] = [{"keys": torch.zeros(16, 16)}]
        method.after_step(Progress(step + 1, 10, 0))
    logs = method.loss(views_of(method, smooth_images(16))).logs
    assert logs["queue_age"] == 2  # one, two and three steps
    assert logs["queue_filled"] == 1
    assert {"contrastive_top1", "positive_similarity", "negative_similarity"} <= set(logs)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"queue_size": 100}, "queue_size 100 is not a multiple of optim.batch_size 16"),
        ({"batchnorm_groups": 3}, "batchnorm_groups=3"),
        ({"batchnorm_groups": 16}, "two or more"),
        ({"batchnorm_groups": 8, "optim": {"accumulate": 2}}, "8 images"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(settings, match):
    with pytest.raises(RsfmError, match=match):
        build("moco_v2", encoder=RESNET, **{"queue_size": 32, "batchnorm_groups": 2, **settings})


def test_moco_v2_decays_everything():
    method = small()
    (group,) = method.parameter_groups()
    assert group.decay
    assert any(p.ndim == 1 for p in group.parameters)


def test_moco_v2_overfits_one_batch():
    """The queue holds each image once, from the step before: no loss below ln 2, far below ln 33."""
    method = small(queue_size=32, batch_size=32, key_momentum=0.9)
    images = smooth_images(32)
    losses = train(method, images, 150, 3e-3)
    check_overfit(method, losses, images, start=max(losses[:20]))
    assert math.log(2) - 0.1 < sum(losses[-5:]) / 5


@pytest.mark.parametrize("bands", [1, 3, 13])
def test_moco_v2_takes_any_number_of_bands(bands):
    method = build("moco_v2", bands=bands, encoder=RESNET, queue_size=32, batchnorm_groups=2)
    views = views_of(method, smooth_images(8, bands))
    again = views_of(method, smooth_images(8, bands))
    assert all(torch.equal(views[name], again[name]) for name in views)
    parts = method.loss(views)
    assert parts.total.isfinite()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = method.loss(views).total
    assert rounded.dtype == torch.float32


def test_moco_v2_bf16_is_close_to_fp32():
    method = small()
    views = views_of(method, smooth_images(16))
    check_bf16(method, views)


def test_moco_v2_is_a_function_of_the_seed():
    def state(seed: int) -> dict[str, Tensor]:
        return build("moco_v2", encoder=RESNET, queue_size=32, batchnorm_groups=2, seed=seed).state_dict()

    first, again, other = state(5), state(5), state(6)
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not torch.equal(first["queue"], other["queue"])
    assert {"queue", "keys_seen", "key_encoder.network.bn1.running_mean"} <= set(first)


# -- moving averages ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("make", [lambda: small(key_momentum=0.9), lambda: v3(key_momentum=0.9)])
def test_key_encoders_are_those_of_the_papers_order(make):
    """The papers move the key encoder before each key forward, with that step's momentum; we after the step."""
    method, steps = make(), 5
    expected = copy.deepcopy(method.key_encoder)
    optimiser = torch.optim.SGD([p for g in method.parameter_groups() for p in g.parameters], lr=0.5)
    moved = 0.0
    for step in range(steps):
        momentum = 0.9 if isinstance(method, MoCoV2) else cosine_momentum(step / steps, 0.9)
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
