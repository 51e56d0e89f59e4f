"""MoCo v2: key encoders, the queue of earlier keys, BatchNorm that gives nothing away."""

from __future__ import annotations

import math

import pytest
import torch
from moco_world import RESNET, small, v3
from pair_world import build, check_overfit, smooth_images, train, views_of
from precision import check_bf16
from torch import Tensor, nn
from torch.nn import functional as F

from rsfm.errors import RsfmError
from rsfm.losses.contrastive import (
    moco_v2,
)
from rsfm.methods.base import Progress
from rsfm.methods.moco_v2 import MoCoV2


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
    # ‖q − k‖² = 2 − 2 q·k of unit vectors.
    assert logs["alignment"].item() == pytest.approx(2 - 2 * logs["positive_similarity"].item(), abs=1e-5)
    assert logs["uniformity"] < 0


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
