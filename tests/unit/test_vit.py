"""The encoder: any bands, any grid; and models on disk, read strictly."""

from __future__ import annotations

import json
import os

import pytest
import torch
from safetensors.torch import load_file, save_file

from rsfm.errors import RsfmError
from rsfm.model_info import ModelBand, ModelInfo
from rsfm.models.export import load_encoder, load_model, model_key, save_model
from rsfm.models.vit import ViT, build_encoder, sincos_positions
from rsfm.specs import EncoderParams

torch.set_num_threads(1)

PARAMS = EncoderParams(patch_size=8, width=32, depth=2, heads=2)


def _images(count: int = 2, bands: int = 5, height: int = 32, width: int = 32) -> torch.Tensor:
    return torch.randn(count, bands, height, width, generator=torch.Generator().manual_seed(0))


def _info(encoder: ViT, **more) -> ModelInfo:
    bands = [
        ModelBand(name=f"b{i}", wavelength_nm=500 + i, gsd_m=10, unit="reflectance", mean=i, std=2 + i)
        for i in range(encoder.in_chans)
    ]
    return ModelInfo(
        name="m", architecture="vit", encoder=encoder.config(), image_size=32, feature_dim=32, bands=bands, group="g",
        weights_hash="", created="", **more,
    )  # fmt: skip


@pytest.mark.parametrize(("bands", "height", "width"), [(1, 32, 32), (13, 32, 32), (4, 16, 48), (3, 64, 40)])
def test_any_bands_and_any_grid(bands, height, width):
    encoder = build_encoder(PARAMS, bands, 32, seed=0)
    images = _images(2, bands, height, width)
    tokens = encoder.forward_tokens(images)
    assert tokens.shape == (2, 1 + (height // 8) * (width // 8), 32)
    torch.testing.assert_close(encoder.features(images), tokens[:, 1:].mean(dim=1))
    assert ViT(PARAMS, bands, (height, width)).forward_tokens(images).shape == tokens.shape


def test_without_class_token():
    encoder = build_encoder(PARAMS.model_copy(update={"class_token": False}), 5, 32, seed=0)
    assert encoder.forward_tokens(_images()).shape == (2, 16, 32)
    assert not any("class_token" in name for name in encoder.state_dict())


def test_keep_selects_tokens_and_their_positions():
    """With all patches kept in another order, every token comes out the same, in that order."""
    encoder = build_encoder(PARAMS, 5, 32, seed=0)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(1)).expand(2, -1)
    whole = encoder.forward_tokens(_images())
    shuffled = encoder.forward_tokens(_images(), keep=order)
    torch.testing.assert_close(shuffled[:, 1:], whole[:, 1:][:, order[0]], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(shuffled[:, 0], whole[:, 0], atol=1e-5, rtol=1e-5)


def test_positions_of_other_grids_lie_in_between():
    reference = sincos_positions(16, (4, 4))
    assert torch.equal(sincos_positions(16, (4, 4), (4, 4)), reference)
    # Every third centre of a grid three times as fine is a centre of the reference grid.
    fine = sincos_positions(16, (12, 12), (4, 4)).view(12, 12, 16)[1::3, 1::3].reshape(16, 16)
    torch.testing.assert_close(fine, reference)


@pytest.mark.parametrize(("height", "width"), [(30, 32), (32, 30), (4, 4)])
def test_sizes_that_cannot_be_cut_are_refused(height, width):
    with pytest.raises(RsfmError, match="divisible by 8"):
        build_encoder(PARAMS, 5, 32, seed=0).features(_images(1, 5, height, width))


def test_wrong_number_of_bands_is_refused():
    with pytest.raises(RsfmError, match="takes 5 bands, got 4"):
        build_encoder(PARAMS, 5, 32, seed=0).features(_images(1, 4))


def test_seed_leaves_the_global_state_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    build_encoder(PARAMS, 3, 32, seed=11)
    assert torch.equal(torch.rand(1), expected)


# -- models on disk --------------------------------------------------------------------------------------------------


def test_what_is_saved_is_loaded(tmp_path):
    encoder = build_encoder(PARAMS, 5, 32, seed=0)
    written = save_model(tmp_path / "models" / "m", encoder, _info(encoder, seed=7, method="mae"))
    model = load_model(tmp_path / "models" / "m")
    assert model.info == written
    assert (model.name, model.group, model.seed, model.feature_dim) == ("m", "g", 7, 32)
    assert model.key == model_key(written)
    values = _images() * 3 + 1
    mean = torch.tensor([b.mean for b in model.bands]).view(1, -1, 1, 1)
    std = torch.tensor([b.std for b in model.bands]).view(1, -1, 1, 1)
    with torch.no_grad():
        assert torch.equal(model.extract(values), encoder.eval().features((values - mean) / std))
    assert sorted(p.name for p in (tmp_path / "models").iterdir()) == ["m"]


def test_saving_again_replaces(tmp_path):
    first, second = (build_encoder(PARAMS, 5, 32, seed=s) for s in (0, 1))
    save_model(tmp_path / "m", first, _info(first))
    save_model(tmp_path / "m", second, _info(second))
    loaded, _ = load_encoder(tmp_path / "m")
    assert torch.equal(loaded.patch_projection.weight, second.patch_projection.weight)
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_key_changes_with_weights_and_preprocessing(tmp_path):
    encoder = build_encoder(PARAMS, 5, 32, seed=0)
    info = save_model(tmp_path / "m", encoder, _info(encoder))
    same = info.model_copy(update={"name": "other", "title": "x", "created": "later", "group": "h"})
    assert model_key(same) == model_key(info)
    shifted = info.model_copy(deep=True)
    shifted.bands[2].mean += 1e-3
    assert model_key(shifted) != model_key(info)
    with torch.no_grad():
        encoder.norm.bias[0] += 1e-4
    assert model_key(save_model(tmp_path / "n", encoder, _info(encoder))) != model_key(info)


def test_frozen_models_stay_frozen(tmp_path):
    encoder = build_encoder(PARAMS, 5, 32, seed=0)
    save_model(tmp_path / "m", encoder, _info(encoder))
    model = load_model(tmp_path / "m").train()
    assert not any(m.training for m in model.modules())
    assert not any(p.requires_grad for p in model.parameters())
    assert not model.extract(_images()).requires_grad


def test_values_that_are_not_finite_count_as_the_mean(tmp_path):
    encoder = build_encoder(PARAMS, 5, 32, seed=0)
    save_model(tmp_path / "m", encoder, _info(encoder))
    model = load_model(tmp_path / "m")
    values, mended = _images(), _images()
    values[0, 3, :5, :5] = float("nan")
    values[1, 2, 0, 0] = float("inf")
    mended[0, 3, :5, :5] = model.bands[3].mean
    mended[1, 2, 0, 0] = model.bands[2].mean
    assert torch.equal(model.extract(values), model.extract(mended))
    with pytest.raises(RsfmError, match="b0, b1, b2, b3, b4"):
        model.extract(values[:, :4])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("norm.weight"), "missing norm.weight"),
        (lambda s: s.update(extra=torch.zeros(1)), "left over extra"),
        (lambda s: s.update({"norm.bias": torch.zeros(7)}), r"norm.bias is \(7,\) instead of \(32,\)"),
        (lambda s: s.update({"norm.bias": s["norm.bias"] + 1}), "content hash differs"),
    ],
)
def test_weights_that_do_not_fit_are_refused(tmp_path, change, message):
    encoder = build_encoder(PARAMS, 5, 32, seed=0)
    save_model(tmp_path / "m", encoder, _info(encoder))
    file = tmp_path / "m" / "model.safetensors"
    state = load_file(file)
    change(state)
    save_file(state, file)
    with pytest.raises(RsfmError, match=message):
        load_model(tmp_path / "m")


def test_damaged_files_are_refused(tmp_path):
    encoder = build_encoder(PARAMS, 5, 32, seed=0)
    save_model(tmp_path / "m", encoder, _info(encoder))
    file = tmp_path / "m" / "model.safetensors"
    os.truncate(file, 1000)
    with pytest.raises(RsfmError, match="cannot be read"):
        load_model(tmp_path / "m")
    file.unlink()
    with pytest.raises(RsfmError, match="cannot be read"):
        load_model(tmp_path / "m")
    description = tmp_path / "m" / "model.json"
    data = json.loads(description.read_text())
    description.write_text(json.dumps({**data, "architecture": "mystery"}))
    with pytest.raises(RsfmError, match="mystery"):
        load_model(tmp_path / "m")
    with pytest.raises(RsfmError, match="No model"):
        load_model(tmp_path / "nowhere")
