"""Predicting the tokens of hidden patches: loss, masks, views, initialisation, training."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from precision import check_bf16
from tokens_world import (
    TINY,
    beit,
    generator,
    images_of,
    kmeans,
    layer_of,
    spec_of,
    views_of,
)
from torch.nn import functional as F

from rsfm.data.source import Batch
from rsfm.errors import RsfmError
from rsfm.losses.reconstruction import FLAT_VARIANCE
from rsfm.losses.tokens import entropy_of_counts, masked_token_loss
from rsfm.methods.base import Progress
from rsfm.methods.token_mim import TokenMIM, TokenSource
from rsfm.models.vit import patchify

torch.set_num_threads(1)


class Dice(TokenSource):
    """Random tokens."""

    def __init__(self, codes: int) -> None:
        super().__init__()
        self.codes = codes

    def tokens(self, images: torch.Tensor) -> torch.Tensor:
        count = images.shape[2] * images.shape[3] // 64
        return torch.randint(self.codes, (len(images), count), generator=generator(3))


# -- the loss --------------------------------------------------------------------------------------------------------


def test_loss_is_a_mean_over_places():
    logits = torch.randn(7, 5, generator=generator())
    tokens = torch.tensor([0, 3, 4, 4, 1, 2, 0])
    loss, accuracy = masked_token_loss(logits, tokens)
    expected = -torch.log_softmax(logits.double(), dim=1)[torch.arange(7), tokens].mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert accuracy.item() == pytest.approx((logits.argmax(dim=1) == tokens).float().mean().item())
    nothing, _ = masked_token_loss(logits[:0], tokens[:0])
    assert nothing.item() == 0


def test_images_that_hide_more_count_more():
    method = beit()
    views = views_of(method, 2)
    hidden = torch.zeros(2, 16, dtype=torch.bool)
    hidden[0, :2] = True
    hidden[1, :9] = True
    views["hidden"] = hidden
    with torch.no_grad():
        both = method.loss(views).total
        each = [method.loss({k: v[i : i + 1] for k, v in views.items()}).total for i in (0, 1)]
    torch.testing.assert_close(both, (2 * each[0] + 9 * each[1]) / 11)


def test_patches_without_observation_do_not_count():
    method = beit()
    views = views_of(method, 2)
    image = views["image"].clone()
    image[0] = 0.3
    seen = dict(method.views(Batch({"image": image}, torch.arange(2)), generator(), Progress(0, 10, 0)))
    assert not views["flat"].any() and seen["flat"][0].all() and not seen["flat"][1].any()
    views["hidden"] = torch.ones(2, 16, dtype=torch.bool)
    views["flat"] = torch.zeros(2, 16, dtype=torch.bool)
    views["flat"][0, 5] = True
    without = views["tokens"].clone()
    without[0, 5] = (without[0, 5] + 1) % method.source.codes
    with torch.no_grad():
        assert method.loss(views).total == method.loss({**views, "tokens": without}).total
        counted = {**views, "flat": torch.zeros_like(views["flat"])}
        assert method.loss(counted).total != method.loss({**counted, "tokens": without}).total


def test_initial_cross_entropy_of_a_large_codebook():
    """ln 8192 + half the variance of the logits: 9.05 to 9.15 for a width of 768."""
    encoder = {**TINY, "width": 768, "depth": 1, "heads": 12}
    method = TokenMIM.build_with(spec_of(32, encoder=encoder), layer_of(), Dice(8192))
    views = views_of(method, 8)
    with torch.no_grad():
        logits = method.logits(views, views["hidden"]).double()
    expected = (logits.logsumexp(dim=1) - logits.mean(dim=1)).mean().item()  # over all tokens, equally likely
    assert 9.05 <= expected <= 9.15
    cut = 0.02**2 * (1 - 2 * math.exp(-0.5) / math.sqrt(2 * math.pi) / math.erf(1 / math.sqrt(2)))
    assert expected == pytest.approx(math.log(8192) + 768 * cut / 2, abs=0.01)
    with torch.no_grad():
        assert method.loss(views).total.item() == pytest.approx(expected, abs=0.1)


def test_loss_ignores_the_logits_of_visible_places():
    method = beit()
    views = views_of(method)
    with torch.no_grad():
        before = method.loss(views).total
        where = torch.cat([torch.zeros(4, 1, dtype=torch.bool), views["hidden"]], dim=1)

        def disturb(keep: torch.Tensor):
            return lambda module, inputs, output: torch.where(keep.unsqueeze(-1), output, 1e3 * output.flip(-1))

        handle = method.encoder.norm.register_forward_hook(disturb(where))
        assert torch.equal(method.loss(views).total, before)
        handle.remove()
        method.encoder.norm.register_forward_hook(disturb(~where))
        assert method.loss(views).total > before


def test_hidden_pixels_are_not_seen():
    method = beit()
    views = views_of(method)
    patches = views["hidden"].view(4, 1, 4, 4).repeat_interleave(8, 2).repeat_interleave(8, 3)
    changed = torch.where(patches, torch.full_like(views["image"], 50.0), views["image"])
    with torch.no_grad():
        assert torch.equal(method.loss(views).total, method.loss({**views, "image": changed}).total)
        changed = torch.where(patches, views["image"], torch.full_like(views["image"], 50.0))
        assert method.loss(views).total != method.loss({**views, "image": changed}).total


def test_the_entropy_is_that_of_the_patches_which_count():
    """Half of the patches are without observation and have one token: they say nothing of how hard the others are."""
    method = beit()
    whole, half = views_of(method), views_of(method)
    half["flat"][:, :8] = True
    half["tokens"][:, :8] = half["tokens"][0, 0]
    counts = torch.bincount(half["tokens"][:, 8:].flatten(), minlength=16).float()
    logs = method.loss(half).logs
    torch.testing.assert_close(logs["token_entropy"], entropy_of_counts(counts))
    torch.testing.assert_close(method.pending[-1]["counts"], counts)
    nothing = method.loss({**whole, "flat": torch.ones_like(whole["flat"])})
    assert (nothing.total, nothing.logs["token_entropy"]) == (0, 0)


def test_entropy_and_gain_over_steps():
    method = beit()
    views = views_of(method)
    logs = method.loss(views).logs
    counts = torch.bincount(views["tokens"].flatten(), minlength=16).float()
    torch.testing.assert_close(logs["token_entropy"], entropy_of_counts(counts))
    torch.testing.assert_close(logs["token_gain"], logs["token_entropy"] - method.loss(views).total.detach())
    method.pending.clear()
    seen = torch.zeros(16)
    for step in range(1, 6):
        views = views_of(method, seed=step)
        state = {k: v.clone() for k, v in method.state_dict().items() if torch.is_tensor(v)}
        parts = method.loss(views)
        assert all(torch.equal(v, method.state_dict()[k]) for k, v in state.items())  # until the step is done
        seen = 0.99 * seen + 0.01 * torch.bincount(views["tokens"].flatten(), minlength=16)
        torch.testing.assert_close(parts.logs["token_entropy"], entropy_of_counts(seen))
        torch.testing.assert_close(parts.logs["codebook_use"], entropy_of_counts(seen).exp() / 16)
        method.after_step(Progress(step, 10, step))
        method.pending.clear()
        torch.testing.assert_close(method.frequency, seen)


def test_accumulation_counts_all_passes():
    whole, parts = beit(), beit()
    views = views_of(whole, 8)
    whole.loss(views)
    for rows in (slice(0, 4), slice(4, 8)):
        parts.loss({name: value[rows] for name, value in views.items()})
    for method in (whole, parts):
        method.after_step(Progress(1, 10, 8))
    assert torch.equal(whole.frequency, parts.frequency)


# -- masks and views -------------------------------------------------------------------------------------------------


def test_masks_of_the_paper():
    """75 of 196 at most, blocks of 16 at least: about 74.5 on average."""
    encoder = {**TINY, "patch_size": 2}
    method = TokenMIM.build_with(spec_of(28, encoder=encoder), layer_of(1, 28), Dice(4))
    assert (method.target, method.min_area) == (75, 16)
    counts = views_of(method, 600)["hidden"].sum(dim=1)
    assert counts.max() <= 75
    assert counts.min() >= 60
    assert counts.float().mean() == pytest.approx(74.5, abs=0.5)
    small = beit(size=64)
    assert (small.target, small.min_area) == (24, 5)


@pytest.mark.parametrize("params", [{"mask_ratio": 0.05}, {"min_block": 0.9}])
def test_masks_that_cannot_be_are_refused(params):
    with pytest.raises(RsfmError, match=r"min_block|mask_ratio"):
        beit(**params)


def test_views_are_functions_of_the_generator():
    method = beit(jitter=0.4)
    first, again, other = views_of(method, seed=3), views_of(method, seed=3), views_of(method, seed=4)
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not torch.equal(first["hidden"], other["hidden"])


def test_tokens_come_from_the_same_crop_and_flips():
    """A main view of twice the size, averaged in pairs, is the view for the tokens."""
    encoder = {**TINY, "patch_size": 16}
    method = beit(size=64, encoder=encoder)
    views = views_of(method, 16)
    assert views["image"].shape[-1] == 64
    assert views["token_view"].shape[-1] == 32
    averaged = F.avg_pool2d(views["image"], 2)
    for small, large in zip(views["token_view"], averaged, strict=True):
        assert torch.corrcoef(torch.stack([small.flatten(), large.flatten()]))[0, 1] > 0.98
    assert torch.equal(views["tokens"], method.source.tokens(views["token_view"]))
    shuffled = torch.corrcoef(torch.stack([views["token_view"][0].flatten(), averaged[1].flatten()]))[0, 1]
    assert shuffled < 0.9


def test_jitter_is_the_encoders_alone():
    still, jittered = beit(), beit(jitter=0.8)
    assert views_of(still)["token_view"] is not None
    assert torch.equal(views_of(still)["token_view"], views_of(still)["image"])
    views = views_of(jittered)
    torch.testing.assert_close(views["token_view"], views_of(still)["image"])
    assert (views["image"] - views["token_view"]).abs().mean() > 0.05


def test_what_is_flat_is_so_without_jitter():
    """Patches whose variance is about the threshold: with jitter others would be below it."""
    images = images_of(8, coarse=16) * (FLAT_VARIANCE / images_of(8, coarse=16).mean(dim=1).var()).sqrt()
    batch = Batch({"image": images}, torch.arange(8))
    still, jittered = (beit(jitter=j).views(batch, generator(), Progress(0, 1, 0))["flat"] for j in (0, 0.8))
    assert torch.equal(still, jittered) and 0.2 < still.float().mean() < 0.8


@pytest.mark.parametrize("bands", [1, 3, 13])
def test_any_number_of_bands(bands):
    method = beit(bands)
    parts = method.loss(views_of(method))
    assert parts.total.dtype == torch.float32
    torch.testing.assert_close(parts.total, sum(parts.parts.values()))
    assert {"masked_accuracy", "token_entropy", "token_gain", "codebook_use"} <= set(parts.logs)
    parts.total.backward()
    assert all(p.grad is None for p in method.source.parameters())
    trained = [n for n, p in method.named_parameters() if p.requires_grad and p.grad is None]
    assert not trained


# -- the encoder -----------------------------------------------------------------------------------------------------


def test_initialisation_of_the_paper():
    method = beit(encoder={**TINY, "width": 64, "depth": 3})
    encoder = method.encoder
    for name, module in method.named_modules():
        if isinstance(module, torch.nn.Linear):
            assert module.weight.abs().max() <= 0.02, name
            assert module.bias is None or not module.bias.any()
    for number, block in enumerate(encoder.blocks, start=1):
        for first, last in ((block.attn.qkv, block.attn.proj), (block.mlp.fc1, block.mlp.fc2)):
            ratio = (first.weight.std() / last.weight.std()).item()
            assert ratio == pytest.approx(math.sqrt(2 * number), rel=0.05)
        torch.testing.assert_close(block.ls1.gamma.detach(), torch.full((64,), 0.1))
    assert encoder.relative_bias is not None
    assert method.mask_token.any()
    assert encoder.class_token.any()


def test_initialisation_is_a_function_of_the_seed():
    first, again, other = (beit(seed=s).state_dict() for s in (5, 5, 6))
    tensors = [k for k, v in first.items() if torch.is_tensor(v)]
    assert all(torch.equal(first[k], again[k]) for k in tensors)
    for name in ("encoder.patch_projection.weight", "head.weight", "mask_token"):
        assert not torch.equal(first[name], other[name])


def test_a_bias_on_keys_changes_nothing():
    """Why the paper's encoder needs none, and ours may have one."""
    encoder = beit().encoder.double()
    images = images_of(2).double()
    before = encoder.features(images)
    for block in encoder.blocks:
        block.attn.qkv.bias.data[32:64] = torch.randn(32, generator=generator()).double()
    torch.testing.assert_close(encoder.features(images), before)


def test_no_weight_decay_on_tokens_and_none_of_the_tokenizer():
    method = beit()
    groups = method.parameter_groups()
    grouped = {id(p) for g in groups for p in g.parameters}
    assert id(method.mask_token) in {id(p) for g in groups if not g.decay for p in g.parameters}
    assert not grouped & {id(p) for p in method.source.parameters()}
    assert grouped == {id(p) for n, p in method.named_parameters() if not n.startswith("source.")}
    assert not any("source" in name or "codebook" in name for name in method.encoder.state_dict())


# -- training --------------------------------------------------------------------------------------------------------


def test_previews_show_true_and_predicted_tokens():
    method = beit()
    views = views_of(method)
    with torch.no_grad():
        (panel,) = method.previews(views)
        rows = dict(panel.rows)
        likeliest = method.logits(views, views["hidden"]).argmax(dim=-1)
    predicted = views["tokens"].clone()
    predicted[views["hidden"]] = likeliest
    torch.testing.assert_close(rows["predicted tokens"], method.source.show(predicted, (4, 4)))
    torch.testing.assert_close(rows["its tokens"], method.source.show(views["tokens"], (4, 4)))
    masked = patchify(rows["masked"], 8)
    assert not masked[views["hidden"]].any()
    assert torch.equal(masked[~views["hidden"]], patchify(views["image"], 8)[~views["hidden"]])
    images = Batch({"image": images_of(4)}, torch.arange(4))
    assert len(method.views_panel(images, views).rows) == 5


@pytest.mark.parametrize("make", [beit, kmeans])
def test_bf16_loss_is_close_to_fp32(make):
    method = make()
    views = views_of(method, 8)
    check_bf16(method, views)


@pytest.mark.parametrize("make", [beit, partial(kmeans, components=3)], ids=["vq", "kmeans"])
def test_overfits_one_batch(make):
    """Smooth images: the loss falls by more than 30 %, below the entropy of the tokens; features do not collapse."""
    method = make(flips="none", crop_min_scale=1.0)
    batch = Batch({"image": images_of(32, coarse=2)}, torch.arange(32))
    optimiser = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], lr=5e-3)
    losses = []
    for step in range(1, 151):
        optimiser.zero_grad()
        parts = method.loss(method.views(batch, generator(step), Progress(0, 1, 0)))
        parts.total.backward()
        optimiser.step()
        method.after_step(Progress(step, 150, 32 * step))
        method.pending.clear()
        losses.append(parts.total.item())
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:3])
    assert parts.logs["token_gain"] > 0
    with torch.no_grad():
        features = F.normalize(method.encoder.features(batch.images["image"]), dim=1)
    assert features.std(dim=0).mean() > 0.3 / 32**0.5
