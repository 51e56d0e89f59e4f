"""Where tokens come from: a tokenizer that another run trained, and k-means over patches."""

from __future__ import annotations

import copy

import pytest
import torch
from tokens_world import (
    bands_of,
    beit,
    images_of,
    kmeans,
    layer_of,
    patches_of,
    spec_of,
    tokenizer_of,
    views_of,
)

from rsfm.errors import RsfmError
from rsfm.methods.beit_vq import BEiTVQ, VQTokens
from rsfm.methods.mim_kmeans import fit_tokens
from rsfm.model_info import ModelBand
from rsfm.models.vit import patchify
from rsfm.registry import METHODS
from rsfm.registry.mim_kmeans import KMeansMIMParams


# -- of a tokenizer -------------------------------------------------------------------------------------------------
def test_the_tokenizer_sees_what_it_was_trained_on():
    """Other statistics and another order of the bands: the same tokens for the same pixels."""
    theirs = bands_of(3)
    network, info = tokenizer_of(theirs)
    values = 3 * images_of(4) + 1  # in the bands' unit

    def standardised(bands: list[ModelBand]) -> torch.Tensor:
        mean, std = (torch.tensor([getattr(b, k) for b in bands]).view(1, -1, 1, 1) for k in ("mean", "std"))
        return (values[:, [int(b.name[1]) for b in bands]] - mean) / std

    source = VQTokens(copy.deepcopy(network), info, layer_of(theirs))
    assert torch.equal(source.tokens(standardised(theirs)), network.tokens(standardised(theirs)))
    expected = source.tokens(standardised(theirs))
    shown = source.show(expected, (4, 4))
    torch.testing.assert_close(shown, network.decode(network.codebook[expected], (4, 4)))
    ours = [bands_of(3, mean=5.0, std=2.5)[i] for i in (2, 0, 1)]
    other = VQTokens(network, info, layer_of(ours))
    assert (other.tokens(standardised(ours)) == expected).float().mean() > 0.95  # up to rounding
    means = torch.tensor([b.mean for b in ours]).view(1, -1, 1, 1)
    back = other.show(expected, (4, 4)) * 2.5 + means  # in the unit
    torch.testing.assert_close(back, (shown + torch.arange(3.0).view(1, -1, 1, 1))[:, [2, 0, 1]], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("bands", "what"),
    [
        (bands_of(4), "trained on the bands b0, b1, b2"),
        (bands_of(2), "trained on the bands"),
        (bands_of(3, "db"), "is in db"),
    ],
)
def test_tokenizers_of_other_bands_or_units_are_refused(bands, what):
    with pytest.raises(RsfmError, match=what) as caught:
        BEiTVQ.build(spec_of(), {"image": layer_of(bands)}, tokenizer=tokenizer_of(bands_of(3)))
    assert "rsfm pretrain --method vq_tokenizer --dataset x --set image_size=32" in str(caught.value)


def test_a_tokenizer_of_another_grid_is_refused():
    with pytest.raises(RsfmError, match=r"8×8 tokens \(64 px\), but this encoder has 4×4 patches.*image_size=32"):
        BEiTVQ.build(spec_of(), {"image": layer_of()}, tokenizer=tokenizer_of(bands_of(3), 64))


def test_no_tokenizer_is_refused_with_the_command_that_makes_one():
    with pytest.raises(RsfmError, match=r"rsfm pretrain --method vq_tokenizer --dataset x --set image_size=32"):
        BEiTVQ.build(spec_of(), {"image": layer_of()})


def test_a_checkpoint_with_another_tokenizer_is_refused():
    method = beit()
    state = method.state_dict()
    method.load_state_dict(state)
    method.source.weights_hash = "other"
    with pytest.raises(RsfmError, match="its weights differ"):
        method.load_state_dict(state)


# -- of k-means -----------------------------------------------------------------------------------------------------
def test_clusters_are_a_function_of_patches_and_seed():
    patches = patches_of()
    first, again, other = (fit_tokens(patches, 8, 6, seed) for seed in (0, 0, 1))
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    assert not torch.equal(first.centres, other.centres)


def test_tokens_are_the_nearest_centres_of_whitened_patches():
    patches = patches_of()
    source = fit_tokens(patches, 8, 6, 0)
    whitened = (patches - source.mean) @ source.axes / source.deviation
    torch.testing.assert_close(whitened.T @ whitened / len(patches), torch.eye(6), atol=2e-3, rtol=0)
    images = images_of(5, 2)
    components = (patchify(images, 8) - source.mean) @ source.axes / source.deviation
    expected = torch.cdist(components, source.centres.expand(5, -1, -1)).argmin(dim=-1)
    assert torch.equal(source.tokens(images), expected)
    assert len(expected.unique()) > 4


def test_what_a_cluster_stands_for_belongs_to_it():
    source = fit_tokens(patches_of(), 8, 6, 0)
    tokens = torch.arange(8).repeat(2).view(1, 16)
    shown = source.show(tokens, (4, 4))
    assert shown.shape == (1, 2, 32, 32)
    assert torch.equal(source.tokens(shown), tokens)


def test_components_that_cannot_be_are_refused():
    with pytest.raises(RsfmError, match="more than the 64 values"):
        fit_tokens(patches_of(bands=1), 8, 65, 0)
    with pytest.raises(RsfmError, match="fewer than 6 directions"):
        fit_tokens(torch.ones(100, 64) * torch.arange(100.0).view(-1, 1), 8, 6, 0)
    with pytest.raises(ValueError, match="sample_patches"):
        KMeansMIMParams(codes=512, sample_patches=100)


@pytest.mark.parametrize("bands", [1, 3, 13])
def test_kmeans_takes_any_number_of_bands(bands):
    method = kmeans(bands)
    method.loss(views_of(method)).total.backward()
    assert not list(method.source.parameters())
    assert [name for name, _ in method.previews(views_of(method))[0].rows][-1] == "predicted tokens"


def test_kmeans_is_never_called_beit():
    entry = METHODS["mim_kmeans"]
    for text in (entry.title, entry.label, entry.summary):
        assert "BEiT" not in text.replace("BEiT-style", "")
