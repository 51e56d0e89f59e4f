"""Starting from other weights: the same features as the source, bands by name, every key accounted for."""

from __future__ import annotations

from functools import partial

import pytest
import timm
import torch

from rsfm.data.source import LayerInput
from rsfm.errors import RsfmError
from rsfm.model_info import ModelBand, ModelInfo
from rsfm.models import imagenet
from rsfm.models import warm_start as warm
from rsfm.models.export import load_strictly, save_model
from rsfm.models.resnet import build_resnet
from rsfm.models.vit import build_encoder
from rsfm.specs import EncoderParams, InitParams, ResNetParams

torch.set_num_threads(1)

TIMM = "vit_tiny_patch16_224"
LIKE_TIMM = EncoderParams(patch_size=16, width=192, depth=12, heads=3, positions="learned")
RGB = [("red", 660.0), ("green", 560.0), ("blue", 480.0)]


def layer(bands=RGB, size=224, unit="uint8", mean=100.0) -> LayerInput:
    described = [ModelBand(name=n, wavelength_nm=w, gsd_m=1, unit=unit, mean=mean, std=50) for n, w in bands]
    return LayerInput("image", described, size, size)


@pytest.fixture
def timm_weights(tmp_path, monkeypatch):
    """A timm network with weights "on this machine"."""
    torch.manual_seed(0)
    network = timm.create_model(TIMM, pretrained=False).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    file = tmp_path / "weights.pth"
    torch.save(network.state_dict(), file)
    monkeypatch.setattr(imagenet, "cached_weights", lambda config: file)
    return network


def loaded(encoder, init, described, workspace):
    state, remarks = warm.warm_start(encoder, init, described, workspace)
    load_strictly(encoder, state, where="test")
    return remarks


def test_a_timm_vit_gives_the_same_tokens(timm_weights, workspace):
    encoder = build_encoder(LIKE_TIMM, 3, 224, seed=1).eval()
    remarks = loaded(encoder, InitParams(weights=f"timm:{TIMM}"), layer(), workspace)
    x = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(encoder.forward_tokens(x), timm_weights.forward_features(x), atol=1e-4, rtol=1e-4)
    assert remarks[-1] == "Left out: head.weight, head.bias."


def test_bands_are_found_by_name_or_colour_in_any_order(timm_weights, workspace):
    blue_first = layer([("B02", 492.0), ("B03", 560.0), ("B04", 665.0)], unit="reflectance")
    encoder = build_encoder(LIKE_TIMM, 3, 224, seed=1).eval()
    loaded(encoder, InitParams(weights=f"timm:{TIMM}"), blue_first, workspace)
    x = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        theirs = timm_weights.forward_features(x.flip(1))
        torch.testing.assert_close(encoder.forward_tokens(x), theirs, atol=1e-4, rtol=1e-4)


def test_other_sizes_resample_positions(timm_weights, workspace):
    encoder = build_encoder(LIKE_TIMM, 3, 96, seed=1)
    loaded(encoder, InitParams(weights=f"timm:{TIMM}"), layer(size=96), workspace)
    theirs = timm_weights.pos_embed[0]
    torch.testing.assert_close(encoder.positions[:1], theirs[:1])
    assert encoder.positions.shape == (37, 192)
    flat = torch.cat([theirs[:1], torch.full((196, 192), 0.3)])
    torch.testing.assert_close(warm.resample_positions(flat, (14, 14), (6, 6), 1)[1:], torch.full((36, 192), 0.3))


@pytest.mark.parametrize("size", [224, 96])
def test_positions_of_patches_only_leave_the_class_token_none(tmp_path, workspace, monkeypatch, size):
    create = partial(timm.create_model, no_embed_class=True)
    network = create(TIMM).eval()
    torch.nn.init.normal_(network.pos_embed)
    torch.save(network.state_dict(), tmp_path / "w.pth")
    monkeypatch.setattr(imagenet, "cached_weights", lambda config: tmp_path / "w.pth")
    monkeypatch.setattr(timm, "create_model", create)
    encoder = build_encoder(LIKE_TIMM, 3, size, seed=1).eval()
    loaded(encoder, InitParams(weights=f"timm:{TIMM}"), layer(size=size), workspace)
    assert not encoder.positions[0].any() and encoder.positions[1:].any(1).all()
    if size == 224:
        x = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            torch.testing.assert_close(encoder.forward_tokens(x), network.forward_features(x), atol=1e-4, rtol=1e-4)


def test_inflating_keeps_known_bands_and_the_size_of_the_response(timm_weights, workspace):
    seven = layer([*RGB, ("nir", 830.0)], size=32)
    with pytest.raises(RsfmError, match=r"no weights for nir.*inflate"):
        warm.warm_start(build_encoder(LIKE_TIMM, 4, 32), InitParams(weights=f"timm:{TIMM}"), seven, workspace)
    encoder = build_encoder(LIKE_TIMM, 4, 32, seed=1)
    remarks = loaded(encoder, InitParams(weights=f"timm:{TIMM}", patch_embed="inflate"), seven, workspace)
    ours = encoder.patch_projection.weight.reshape(192, 16, 16, 4)
    theirs = timm_weights.patch_embed.proj.weight
    torch.testing.assert_close(ours[..., 1], theirs[:, 1] * 3 / 4)
    torch.testing.assert_close(ours[..., 3], theirs.mean(1) * 3 / 4)
    assert "inflated from 3 to 4 bands (nir from the mean)" in remarks[0]
    assert "Heads, decoders and optimiser start anew" in remarks[0] and "normalisation of its own" in remarks[1]


def test_reinitialising_keeps_the_fresh_patch_embedding_only(timm_weights, workspace):
    encoder = build_encoder(LIKE_TIMM.model_copy(update={"patch_size": 8}), 5, 64, seed=1)
    before = encoder.patch_projection.weight.clone()
    five = layer([(f"b{i}", None) for i in range(5)], size=64)
    loaded(encoder, InitParams(weights=f"timm:{TIMM}", patch_embed="reinit"), five, workspace)
    torch.testing.assert_close(encoder.patch_projection.weight, before, atol=0, rtol=0)
    torch.testing.assert_close(encoder.blocks[3].mlp.fc1.weight, timm_weights.blocks[3].mlp.fc1.weight)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"positions": "sincos"}, r"learned positions: set encoder\.positions=learned"),
        ({"class_token": False}, r"set encoder\.class_token=true"),
        ({"depth": 6}, r"has blocks\.10.*encoder has not.*Set encoder"),
        ({"width": 96}, r"attn\.proj\.bias is \(192,\) instead of \(96,\)"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_to_set(timm_weights, workspace, change, match):
    encoder = build_encoder(LIKE_TIMM.model_copy(update=change), 3, 224, seed=1)
    with pytest.raises(RsfmError, match=match):
        warm.warm_start(encoder, InitParams(weights=f"timm:{TIMM}"), layer(), workspace)


def test_resnets_start_from_timm_too(tmp_path, workspace, monkeypatch):
    network = timm.create_model("resnet18", pretrained=False).eval()
    torch.save(network.state_dict(), tmp_path / "r.pth")
    monkeypatch.setattr(imagenet, "cached_weights", lambda config: tmp_path / "r.pth")
    encoder = build_resnet(ResNetParams(layers="resnet18"), 3, 64, seed=0).eval()
    remarks = loaded(encoder, InitParams(weights="timm:resnet18"), layer(size=64), workspace)
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(encoder.features(x), network.forward_features(x).mean((2, 3)))
    assert "fc.weight" in remarks[-1]


def test_torchgeo_weights_by_their_bands(tmp_path, workspace, monkeypatch):
    network = timm.create_model("vit_small_patch16_224", in_chans=13, num_classes=0)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    name = "ViTSmall16_Weights.SENTINEL2_ALL_MOCO"
    encoder = build_encoder(EncoderParams(patch_size=16, width=384, depth=12, heads=6, positions="learned"), 13, 224)
    # EuroSAT's order: B8A last.
    order = [f"B{i:02d}" for i in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12)] + ["B8A"]
    described = layer([(n, 800.0) for n in order], unit="reflectance")
    with pytest.raises(RsfmError, match="not on this machine"):
        warm.warm_start(encoder, InitParams(weights=f"torchgeo:{name}"), described, workspace)
    (tmp_path / "checkpoints").mkdir()
    from torchgeo.models import get_weight

    file = tmp_path / "checkpoints" / get_weight(name).url.rpartition("/")[2]
    torch.save(network.state_dict(), file)
    loaded(encoder, InitParams(weights=f"torchgeo:{name}"), described, workspace)
    ours = encoder.patch_projection.weight.reshape(384, 16, 16, 13)
    torch.testing.assert_close(ours[..., 12], network.patch_embed.proj.weight[:, 8])  # B8A is ninth there
    torch.testing.assert_close(ours[..., 8], network.patch_embed.proj.weight[:, 9])  # B09
    with pytest.raises(RsfmError, match="torchgeo has no weights"):
        warm.warm_start(encoder, InitParams(weights="torchgeo:Nope"), described, workspace)


def export_run(workspace, params, described, name="20260101-000000-mae-x-aaaa"):
    encoder = build_encoder(params, len(described.bands), described.height, seed=3)
    info = ModelInfo(
        name=name, title="MAE", architecture="vit", encoder=encoder.config(), image_size=described.height,
        feature_dim=params.width, bands=described.bands, group="g", weights_hash="", created="2026-01-01",
    )  # fmt: skip
    save_model(workspace.models / name, encoder, info)
    return encoder, name


def test_a_run_of_this_lab_with_its_bands_in_another_order(workspace):
    params = EncoderParams(patch_size=8, width=32, depth=2, heads=2)
    source, name = export_run(workspace, params, layer(size=32))
    turned = layer(RGB[::-1], size=32, mean=90.0)
    encoder = build_encoder(params, 3, 32, seed=9)
    remarks = loaded(encoder, InitParams(weights=name), turned, workspace)
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(encoder.features(x.flip(1)), source.features(x))
    assert "standardised with its own pack's statistics" in remarks[1]
    for described, other, match in (
        (layer(size=32, unit="reflectance"), params, "other units: red"),
        (layer(size=32), params.model_copy(update={"heads": 4}), "heads 2 there, 4 here"),
    ):
        with pytest.raises(RsfmError, match=match):
            warm.warm_start(build_encoder(other, 3, 32), InitParams(weights=name), described, workspace)
    with pytest.raises(RsfmError, match="No model at"):
        warm.warm_start(encoder, InitParams(weights="20260101-000000-mae-x-bbbb"), layer(size=32), workspace)
