"""Predicting the tokens of hidden patches: loss, masks, views, initialisation; tokens of a tokenizer and of k-means."""

from __future__ import annotations

import copy
import math
from functools import partial

import numpy as np
import pytest
import torch
from precision import check_bf16
from torch.nn import functional as F

from rsfm.data.source import Batch, LayerInput
from rsfm.errors import RsfmError
from rsfm.losses.tokens import entropy_of_counts, masked_token_loss
from rsfm.methods.base import Progress
from rsfm.methods.beit_vq import BEiTVQ, VQTokens
from rsfm.methods.mim_kmeans import KMeansMIM, fit_tokens
from rsfm.methods.token_mim import TokenMIM, TokenSource
from rsfm.model_info import ModelBand, ModelInfo
from rsfm.models.tokenizer import VQTokenizer, build_tokenizer
from rsfm.models.vit import patchify
from rsfm.registry import METHODS
from rsfm.registry.mim_kmeans import KMeansMIMParams
from rsfm.specs import PretrainSpec, TokenizerParams

torch.set_num_threads(1)

TINY = {"patch_size": 8, "width": 32, "depth": 2, "heads": 2, "positions": "relative", "layer_scale": 0.1}


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _bands(count: int, unit: str = "dn", mean: float = 0.0, std: float = 1.0) -> list[ModelBand]:
    return [
        ModelBand(name=f"b{i}", wavelength_nm=None, gsd_m=10, unit=unit, mean=mean + i, std=std)  # type: ignore[arg-type]
        for i in range(count)
    ]


def _layer(bands: int | list[ModelBand] = 3, size: int = 32) -> LayerInput:
    return LayerInput("image", _bands(bands) if isinstance(bands, int) else bands, size, size)


def _spec(
    size: int = 32, seed: int = 0, encoder: dict | None = None, method: str = "beit_vq", **params
) -> PretrainSpec:
    return PretrainSpec(
        method=method, dataset="x", seed=seed, image_size=size, encoder=encoder or TINY, method_params=params
    )


def _tokenizer(bands: list[ModelBand], size: int = 32, codes: int = 16) -> tuple[VQTokenizer, ModelInfo]:
    network = build_tokenizer(TokenizerParams(width=8, codes=codes, code_dim=8), len(bands), size, seed=1)
    # Random codes are far from all vectors: these are where vectors of noise are.
    vectors = network.encode(torch.randn(8, len(bands), size, size, generator=_generator(9))).flatten(0, 1)
    network.codebook.copy_(vectors[torch.randperm(len(vectors), generator=_generator(9))[:codes]].detach())
    info = ModelInfo(
        name="20260101-000000-t", architecture="vq_tokenizer", encoder=network.config(), image_size=size,
        feature_dim=8, bands=bands, group="g", method="vq_tokenizer", weights_hash="abc", created="now",
    )  # fmt: skip
    return network, info


def _beit(
    bands: int = 3, size: int = 32, seed: int = 0, encoder: dict | None = None, codes: int = 16, **params
) -> BEiTVQ:
    spec, layer = _spec(size, seed, encoder, **params), _layer(bands, size)
    patch = (encoder or TINY)["patch_size"]
    return BEiTVQ.build(spec, {"image": layer}, tokenizer=_tokenizer(layer.bands, size // patch * 8, codes))


def _images(count: int, bands: int = 3, size: int = 32, seed: int = 0, coarse: int = 4) -> torch.Tensor:
    values = torch.randn(count, bands, coarse, coarse, generator=_generator(seed))
    return F.interpolate(values, size=size, mode="bicubic", align_corners=False)


def _views(method: TokenMIM, count: int = 4, seed: int = 0) -> dict[str, torch.Tensor]:
    images = _images(count, method.encoder.in_chans, method.encoder.image_size, seed)
    return dict(method.views(Batch({"image": images}, torch.arange(count)), _generator(seed), Progress(0, 1, 0)))


class Dice(TokenSource):
    """Random tokens."""

    def __init__(self, codes: int) -> None:
        super().__init__()
        self.codes = codes

    def tokens(self, images: torch.Tensor) -> torch.Tensor:
        count = images.shape[2] * images.shape[3] // 64
        return torch.randint(self.codes, (len(images), count), generator=_generator(3))


# -- the loss --------------------------------------------------------------------------------------------------------


def test_loss_is_a_mean_over_places():
    logits = torch.randn(7, 5, generator=_generator())
    tokens = torch.tensor([0, 3, 4, 4, 1, 2, 0])
    loss, accuracy = masked_token_loss(logits, tokens)
    expected = -torch.log_softmax(logits.double(), dim=1)[torch.arange(7), tokens].mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert accuracy.item() == pytest.approx((logits.argmax(dim=1) == tokens).float().mean().item())
    nothing, _ = masked_token_loss(logits[:0], tokens[:0])
    assert nothing.item() == 0


def test_images_that_hide_more_count_more():
    method = _beit()
    views = _views(method, 2)
    hidden = torch.zeros(2, 16, dtype=torch.bool)
    hidden[0, :2] = True
    hidden[1, :9] = True
    views["hidden"] = hidden
    with torch.no_grad():
        both = method.loss(views).total
        each = [method.loss({k: v[i : i + 1] for k, v in views.items()}).total for i in (0, 1)]
    torch.testing.assert_close(both, (2 * each[0] + 9 * each[1]) / 11)


def test_initial_cross_entropy_of_a_large_codebook():
    """ln 8192 + half the variance of the logits: 9.05 to 9.15 for a width of 768."""
    encoder = {**TINY, "width": 768, "depth": 1, "heads": 12}
    method = TokenMIM.build_with(_spec(32, encoder=encoder), _layer(), Dice(8192))
    views = _views(method, 8)
    with torch.no_grad():
        logits = method.logits(views).double()
    expected = (logits.logsumexp(dim=1) - logits.mean(dim=1)).mean().item()  # over all tokens, equally likely
    assert 9.05 <= expected <= 9.15
    cut = 0.02**2 * (1 - 2 * math.exp(-0.5) / math.sqrt(2 * math.pi) / math.erf(1 / math.sqrt(2)))
    assert expected == pytest.approx(math.log(8192) + 768 * cut / 2, abs=0.01)
    with torch.no_grad():
        assert method.loss(views).total.item() == pytest.approx(expected, abs=0.1)


def test_loss_ignores_the_logits_of_visible_places():
    method = _beit()
    views = _views(method)
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
    method = _beit()
    views = _views(method)
    patches = views["hidden"].view(4, 1, 4, 4).repeat_interleave(8, 2).repeat_interleave(8, 3)
    changed = torch.where(patches, torch.full_like(views["image"], 50.0), views["image"])
    with torch.no_grad():
        assert torch.equal(method.loss(views).total, method.loss({**views, "image": changed}).total)
        changed = torch.where(patches, views["image"], torch.full_like(views["image"], 50.0))
        assert method.loss(views).total != method.loss({**views, "image": changed}).total


def test_entropy_and_gain_over_steps():
    method = _beit()
    views = _views(method)
    logs = method.loss(views).logs
    counts = torch.bincount(views["tokens"].flatten(), minlength=16).float()
    torch.testing.assert_close(logs["token_entropy"], entropy_of_counts(counts))
    torch.testing.assert_close(logs["token_gain"], logs["token_entropy"] - method.loss(views).total.detach())
    method.pending.clear()
    seen = torch.zeros(16)
    for step in range(1, 6):
        views = _views(method, seed=step)
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
    whole, parts = _beit(), _beit()
    views = _views(whole, 8)
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
    method = TokenMIM.build_with(_spec(28, encoder=encoder), _layer(1, 28), Dice(4))
    assert (method.target, method.min_area) == (75, 16)
    counts = _views(method, 600)["hidden"].sum(dim=1)
    assert counts.max() <= 75
    assert counts.min() >= 60
    assert counts.float().mean() == pytest.approx(74.5, abs=0.5)
    small = _beit(size=64)
    assert (small.target, small.min_area) == (24, 5)


@pytest.mark.parametrize("params", [{"mask_ratio": 0.05}, {"min_block": 0.9}])
def test_masks_that_cannot_be_are_refused(params):
    with pytest.raises(RsfmError, match=r"min_block|mask_ratio"):
        _beit(**params)


def test_views_are_functions_of_the_generator():
    method = _beit(jitter=0.4)
    first, again, other = _views(method, seed=3), _views(method, seed=3), _views(method, seed=4)
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not torch.equal(first["hidden"], other["hidden"])


def test_tokens_come_from_the_same_crop_and_flips():
    """A main view of twice the size, averaged in pairs, is the view for the tokens."""
    encoder = {**TINY, "patch_size": 16}
    method = _beit(size=64, encoder=encoder)
    views = _views(method, 16)
    assert views["image"].shape[-1] == 64
    assert views["token_view"].shape[-1] == 32
    averaged = F.avg_pool2d(views["image"], 2)
    for small, large in zip(views["token_view"], averaged, strict=True):
        assert torch.corrcoef(torch.stack([small.flatten(), large.flatten()]))[0, 1] > 0.98
    assert torch.equal(views["tokens"], method.source.tokens(views["token_view"]))
    shuffled = torch.corrcoef(torch.stack([views["token_view"][0].flatten(), averaged[1].flatten()]))[0, 1]
    assert shuffled < 0.9


def test_jitter_is_the_encoders_alone():
    still, jittered = _beit(), _beit(jitter=0.8)
    assert _views(still)["token_view"] is not None
    assert torch.equal(_views(still)["token_view"], _views(still)["image"])
    views = _views(jittered)
    torch.testing.assert_close(views["token_view"], _views(still)["image"])
    assert (views["image"] - views["token_view"]).abs().mean() > 0.05


@pytest.mark.parametrize("bands", [1, 3, 13])
def test_any_number_of_bands(bands):
    method = _beit(bands)
    parts = method.loss(_views(method))
    assert parts.total.dtype == torch.float32
    torch.testing.assert_close(parts.total, sum(parts.parts.values()))
    assert {"masked_accuracy", "token_entropy", "token_gain", "codebook_use"} <= set(parts.logs)
    parts.total.backward()
    assert all(p.grad is None for p in method.source.parameters())
    trained = [n for n, p in method.named_parameters() if p.requires_grad and p.grad is None]
    assert not trained


# -- the encoder -----------------------------------------------------------------------------------------------------


def test_initialisation_of_the_paper():
    method = _beit(encoder={**TINY, "width": 64, "depth": 3})
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
    first, again, other = (_beit(seed=s).state_dict() for s in (5, 5, 6))
    tensors = [k for k, v in first.items() if torch.is_tensor(v)]
    assert all(torch.equal(first[k], again[k]) for k in tensors)
    for name in ("encoder.patch_projection.weight", "head.weight", "mask_token"):
        assert not torch.equal(first[name], other[name])


def test_a_bias_on_keys_changes_nothing():
    """Why the paper's encoder needs none, and ours may have one."""
    encoder = _beit().encoder.double()
    images = _images(2).double()
    before = encoder.features(images)
    for block in encoder.blocks:
        block.attn.qkv.bias.data[32:64] = torch.randn(32, generator=_generator()).double()
    torch.testing.assert_close(encoder.features(images), before)


def test_no_weight_decay_on_tokens_and_none_of_the_tokenizer():
    method = _beit()
    groups = method.parameter_groups()
    grouped = {id(p) for g in groups for p in g.parameters}
    assert id(method.mask_token) in {id(p) for g in groups if not g.decay for p in g.parameters}
    assert not grouped & {id(p) for p in method.source.parameters()}
    assert grouped == {id(p) for n, p in method.named_parameters() if not n.startswith("source.")}
    assert not any("source" in name or "codebook" in name for name in method.encoder.state_dict())


# -- tokens of a tokenizer -------------------------------------------------------------------------------------------


def test_the_tokenizer_sees_what_it_was_trained_on():
    """Other statistics and another order of the bands: the same tokens for the same pixels."""
    theirs = _bands(3)
    network, info = _tokenizer(theirs)
    values = 3 * _images(4) + 1  # in the bands' unit

    def standardised(bands: list[ModelBand]) -> torch.Tensor:
        mean, std = (torch.tensor([getattr(b, k) for b in bands]).view(1, -1, 1, 1) for k in ("mean", "std"))
        return (values[:, [int(b.name[1]) for b in bands]] - mean) / std

    source = VQTokens(copy.deepcopy(network), info, _layer(theirs))
    assert torch.equal(source.tokens(standardised(theirs)), network.tokens(standardised(theirs)))
    expected = source.tokens(standardised(theirs))
    shown = source.show(expected, (4, 4))
    torch.testing.assert_close(shown, network.decode(network.codebook[expected], (4, 4)))
    ours = [_bands(3, mean=5.0, std=2.5)[i] for i in (2, 0, 1)]
    other = VQTokens(network, info, _layer(ours))
    assert (other.tokens(standardised(ours)) == expected).float().mean() > 0.95  # up to rounding
    means = torch.tensor([b.mean for b in ours]).view(1, -1, 1, 1)
    back = other.show(expected, (4, 4)) * 2.5 + means  # in the unit
    torch.testing.assert_close(back, (shown + torch.arange(3.0).view(1, -1, 1, 1))[:, [2, 0, 1]], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("bands", "what"),
    [
        (_bands(4), "trained on the bands b0, b1, b2"),
        (_bands(2), "trained on the bands"),
        (_bands(3, "db"), "is in db"),
    ],
)
def test_tokenizers_of_other_bands_or_units_are_refused(bands, what):
    with pytest.raises(RsfmError, match=what) as caught:
        BEiTVQ.build(_spec(), {"image": _layer(bands)}, tokenizer=_tokenizer(_bands(3)))
    assert "rsfm pretrain --method vq_tokenizer --dataset x --set image_size=32" in str(caught.value)


def test_a_tokenizer_of_another_grid_is_refused():
    with pytest.raises(RsfmError, match=r"8×8 tokens \(64 px\), but this encoder has 4×4 patches.*image_size=32"):
        BEiTVQ.build(_spec(), {"image": _layer()}, tokenizer=_tokenizer(_bands(3), 64))


def test_no_tokenizer_is_refused_with_the_command_that_makes_one():
    with pytest.raises(RsfmError, match=r"rsfm pretrain --method vq_tokenizer --dataset x --set image_size=32"):
        BEiTVQ.build(_spec(), {"image": _layer()})


def test_a_checkpoint_with_another_tokenizer_is_refused():
    method = _beit()
    state = method.state_dict()
    method.load_state_dict(state)
    method.source.weights_hash = "other"
    with pytest.raises(RsfmError, match="its weights differ"):
        method.load_state_dict(state)


# -- tokens of k-means -----------------------------------------------------------------------------------------------


def _patches(count: int = 600, bands: int = 2) -> torch.Tensor:
    return patchify(_images(count // 16, bands), 8).flatten(0, 1)[:count]


def test_clusters_are_a_function_of_patches_and_seed():
    patches = _patches()
    first, again, other = (fit_tokens(patches, 8, 6, seed) for seed in (0, 0, 1))
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    assert not torch.equal(first.centres, other.centres)


def test_tokens_are_the_nearest_centres_of_whitened_patches():
    patches = _patches()
    source = fit_tokens(patches, 8, 6, 0)
    whitened = (patches - source.mean) @ source.axes / source.deviation
    torch.testing.assert_close(whitened.T @ whitened / len(patches), torch.eye(6), atol=2e-3, rtol=0)
    images = _images(5, 2)
    components = (patchify(images, 8) - source.mean) @ source.axes / source.deviation
    expected = torch.cdist(components, source.centres.expand(5, -1, -1)).argmin(dim=-1)
    assert torch.equal(source.tokens(images), expected)
    assert len(expected.unique()) > 4


def test_what_a_cluster_stands_for_belongs_to_it():
    source = fit_tokens(_patches(), 8, 6, 0)
    tokens = torch.arange(8).repeat(2).view(1, 16)
    shown = source.show(tokens, (4, 4))
    assert shown.shape == (1, 2, 32, 32)
    assert torch.equal(source.tokens(shown), tokens)


def test_components_that_cannot_be_are_refused():
    with pytest.raises(RsfmError, match="more than the 64 values"):
        fit_tokens(_patches(bands=1), 8, 65, 0)
    with pytest.raises(RsfmError, match="fewer than 6 directions"):
        fit_tokens(torch.ones(100, 64) * torch.arange(100.0).view(-1, 1), 8, 6, 0)
    with pytest.raises(ValueError, match="sample_patches"):
        KMeansMIMParams(codes=512, sample_patches=100)


def _kmeans(bands: int = 3, **params) -> KMeansMIM:
    spec = _spec(method="mim_kmeans", **{"codes": 8, "components": 6, "sample_patches": 600, **params})
    return KMeansMIM.build(spec, {"image": _layer(bands)}, patches=_patches(bands=bands))


@pytest.mark.parametrize("bands", [1, 3, 13])
def test_kmeans_takes_any_number_of_bands(bands):
    method = _kmeans(bands)
    method.loss(_views(method)).total.backward()
    assert not list(method.source.parameters())
    assert [name for name, _ in method.previews(_views(method))[0].rows][-1] == "predicted tokens"


def test_kmeans_is_never_called_beit():
    entry = METHODS["mim_kmeans"]
    for text in (entry.title, entry.label, entry.summary):
        assert "BEiT" not in text.replace("BEiT-style", "")


# -- training --------------------------------------------------------------------------------------------------------


def test_previews_show_true_and_predicted_tokens():
    method = _beit()
    views = _views(method)
    with torch.no_grad():
        (panel,) = method.previews(views)
        rows = dict(panel.rows)
        likeliest = method.logits(views).argmax(dim=-1)
    predicted = views["tokens"].clone()
    predicted[views["hidden"]] = likeliest
    torch.testing.assert_close(rows["predicted tokens"], method.source.show(predicted, (4, 4)))
    torch.testing.assert_close(rows["its tokens"], method.source.show(views["tokens"], (4, 4)))
    masked = patchify(rows["masked"], 8)
    assert not masked[views["hidden"]].any()
    assert torch.equal(masked[~views["hidden"]], patchify(views["image"], 8)[~views["hidden"]])
    images = Batch({"image": _images(4)}, torch.arange(4))
    assert len(method.views_panel(images, views).rows) == 5


@pytest.mark.parametrize("make", [_beit, _kmeans])
def test_bf16_loss_is_close_to_fp32(make):
    method = make()
    views = _views(method, 8)
    check_bf16(method, views)


@pytest.mark.parametrize("make", [_beit, partial(_kmeans, components=3)], ids=["vq", "kmeans"])
def test_overfits_one_batch(make):
    """Smooth images: the loss falls by more than 30 %, below the entropy of the tokens; features do not collapse."""
    method = make(flips="none", crop_min_scale=1.0)
    batch = Batch({"image": _images(32, coarse=2)}, torch.arange(32))
    optimiser = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], lr=5e-3)
    losses = []
    for step in range(1, 151):
        optimiser.zero_grad()
        parts = method.loss(method.views(batch, _generator(step), Progress(0, 1, 0)))
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
