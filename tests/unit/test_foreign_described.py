"""Weights of your own, described by a JSON file beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from foreign_parts import (
    S2,
    described,
    randomised,
    raw_of,
    s2_pack,
    values_of,
)
from safetensors.torch import save_file
from torch import nn
from torchvision.transforms import v2

from rsfm.errors import RsfmError
from rsfm.models.baselines import resolve
from rsfm.models.foreign.model import ForeignModel
from rsfm.packs import Pack
from rsfm.specs import EvaluateSpec
from rsfm.workspace import Workspace

pytestmark = pytest.mark.usefixtures("offline")


DESCRIPTION = {
    "architecture": "vit_tiny_patch16_224", "title": "Ours", "image_size": 64, "licence": "MIT", "source": "here",
    "bands": [
        {"name": "B08", "wavelength_nm": 842, "unit": "reflectance_10000", "mean": 2000.0, "std": 1000.0},
        {"name": "nir-less", "wavelength_nm": 660, "unit": "reflectance", "mean": 0.1, "std": 0.05},
    ],
    "options": {"depth": 2, "embed_dim": 48},
}  # fmt: skip


def own_weights(folder: Path, description: dict[str, Any], **changes: Any) -> nn.Module:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ours.json").write_text(json.dumps({**description, **changes}))
    network = timm.create_model(
        "vit_tiny_patch16_224", in_chans=2, img_size=64, num_classes=0, depth=2, embed_dim=48, **(
            {"global_pool": changes["pooling"]} if changes.get("pooling") else {})
    )  # fmt: skip
    save_file(randomised(network).state_dict(), folder / "ours.safetensors")
    return network


def own(name: str, pack: Pack, workspace: Workspace, **more: Any) -> ForeignModel:
    model = resolve(EvaluateSpec(model=f"file:{name}", dataset="tiles", **more), pack, workspace)
    assert isinstance(model, ForeignModel)
    return model


@pytest.mark.parametrize("pooling", [None, "avg"])
def test_weights_of_your_own(workspace: Workspace, pooling: str | None) -> None:
    pack = s2_pack(workspace)
    network = own_weights(workspace.weights, DESCRIPTION, pooling=pooling)
    model = own("ours", pack, workspace)
    assert (model.title, model.name, model.feature_dim) == ("Ours", "file:ours", 48)
    assert model.group.startswith("file:ours:")
    assert [b.name for b in model.bands] == ["B08", "B04"]
    assert any("nir-less from B04" in r for r in model.remarks) and any("Licence: MIT" in r for r in model.remarks)
    raw = raw_of(pack, ["B08", "B04"])
    x = torch.stack([(raw[:, 0] - 2000) / 1000, (raw[:, 1] / 1e4 - 0.1) / 0.05], dim=1)
    with torch.no_grad():
        expected = network(v2.functional.resize(x, [64, 64], antialias=True))
    torch.testing.assert_close(model.extract(values_of(model, pack)), expected, rtol=1e-3, atol=1e-3)
    absolute = own(str(workspace.weights / "ours.safetensors"), pack, workspace)
    assert absolute.key == model.key and absolute.group == model.group
    assert len(model.maps(torch.zeros(1, 2, 32, 32))) == 2


def test_an_8_bit_model_of_your_own_says_how_reflectance_becomes_8_bit(workspace: Workspace) -> None:
    bands = [{"name": n, "unit": "uint8", "mean": 100, "std": 50} for n in ("red", "green")]
    own_weights(workspace.weights, DESCRIPTION, bands=bands)
    pack = s2_pack(workspace)
    with pytest.raises(RsfmError, match="no band for red, green"):
        own("ours", pack, workspace)
    near = [{**b, "wavelength_nm": w} for b, w in zip(bands, (665, 560), strict=True)]
    own_weights(workspace.weights, DESCRIPTION, bands=near)
    with pytest.raises(RsfmError, match="no rule between"):
        own("ours", pack, workspace)
    own_weights(workspace.weights, DESCRIPTION, bands=[{**b, "reflectance_at_255": 0.5} for b in near])
    model = own("ours", pack, workspace)
    assert (model.bands[0].mean, model.bands[0].std) == pytest.approx((100 / 510, 50 / 510))
    assert model.high.flatten().tolist() == pytest.approx([155 / 50] * 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bands": []}, "bands: List should have at least 1 item"),
        ({"bands": [{**DESCRIPTION["bands"][0], "std": 0}]}, r"bands\.0\.std: Input should be greater than 0"),
        ({"bands": [{**DESCRIPTION["bands"][0], "unit": "K"}]}, r"bands\.0\.unit: Input should be 'reflectance'"),
        ({"bands": [{"name": "B1"}]}, r"bands\.0\.unit: Field required"),
        ({"image_size": 0}, "image_size: Input should be greater than 0"),
        ({"licence": None}, "licence: Input should be a valid string"),
        ({"wavelengths": [1]}, "wavelengths: Extra inputs are not permitted"),
        ({"architecture": "vit_tyny"}, "architecture: timm has no 'vit_tyny'"),
        ({"pooling": "nonsense"}, "pooling or options: timm cannot build"),
        ({"options": {"depth": 2, "nonsense": 1}}, "pooling or options: timm cannot build"),
        ({"options": {"depth": 3, "embed_dim": 48}}, r"missing blocks\.2\."),
        ({"options": {"depth": 1, "embed_dim": 48}}, r"left over blocks\.1\."),
    ],
)
def test_a_wrong_description_is_refused_by_field(workspace: Workspace, change: dict[str, Any], message: str) -> None:
    own_weights(workspace.weights, DESCRIPTION)
    (workspace.weights / "ours.json").write_text(json.dumps({**DESCRIPTION, **change}))
    with pytest.raises(RsfmError, match=message):
        own("ours", s2_pack(workspace), workspace)


def test_weights_of_your_own_that_are_not_there(workspace: Workspace, tmp_path: Path) -> None:
    pack = described(S2)
    with pytest.raises(RsfmError, match=r"no weights ours\.safetensors in .*weights\. Put ours\.safetensors and ours"):
        own("ours", pack, workspace)
    with pytest.raises(RsfmError, match="leads out of the folders"):
        own("../secret", pack, workspace)
    with pytest.raises(RsfmError, match="There are no weights at"):
        own(str(tmp_path / "x.safetensors"), pack, workspace)
    own_weights(workspace.weights, DESCRIPTION)
    (workspace.weights / "ours.json").unlink()
    with pytest.raises(RsfmError, match=r"ours\.json is missing"):
        own("ours", pack, workspace)
