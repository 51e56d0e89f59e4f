"""Weights of others: where they lie, that every key is used or named, and that they are torchgeo's sizes."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from foreign_parts import (
    S2,
    described,
    load,
    put,
    randomised,
    s2_pack,
    vit,
)
from safetensors.torch import save_file
from torchgeo.models import get_model, get_weight

from rsfm.errors import RsfmError
from rsfm.models.export import state_differences
from rsfm.models.foreign import inputs, networks, published
from rsfm.models.foreign.model import ForeignModel
from rsfm.workspace import Workspace

pytestmark = pytest.mark.usefixtures("offline")


def test_every_key_is_used_or_named(workspace: Workspace, tiny: None) -> None:
    name, pack = "ViTSmall16_Weights.SENTINEL2_ALL_DINO", s2_pack(workspace)
    state = dict(randomised(vit(13)).state_dict())
    put(workspace, name, {**state, "head.weight": torch.ones(3, 48), "head.bias": torch.ones(3)})
    assert any("no use for it: head.bias, head.weight" in r for r in load(name, pack, workspace).remarks)
    put(workspace, name, {k: v for k, v in state.items() if not k.startswith("norm.")})
    assert any("stays as it starts: norm.bias, norm.weight" in r for r in load(name, pack, workspace).remarks)
    for change, message in (
        ({"blocks.9.norm1.bias": torch.ones(3)}, r"left over blocks\.9\.norm1\.bias"),
        ({"cls_token": None}, "missing cls_token"),
        ({"pos_embed": torch.ones(1, 50, 48)}, r"pos_embed is \(1, 50, 48\) instead of \(1, 197, 48\)"),
        ({"epoch": 3}, "holds epoch beside tensors"),
    ):
        put(workspace, name, {k: v for k, v in {**state, **change}.items() if v is not None})
        with pytest.raises(RsfmError, match=message):
            load(name, pack, workspace)
    put(workspace, "CROMABase_Weights.CROMA_VIT", state)
    with pytest.raises(RsfmError, match=r"is not CROMA's.*instead of joint_encoder, s1_GAP_FFN"):
        load("CROMABase_Weights.CROMA_VIT", pack, workspace)


def test_damaged_files_are_refused(workspace: Workspace, tiny: None) -> None:
    name, pack = "ViTSmall16_Weights.SENTINEL2_ALL_DINO", s2_pack(workspace)
    file = put(workspace, name, {})
    with pytest.raises(RsfmError, match="holds no weights by name"):
        load(name, pack, workspace)
    for content in (b"", b"<html>not found</html>"):
        file.write_bytes(content)
        with pytest.raises(RsfmError, match="cannot be read as weights"):
            load(name, pack, workspace)


def test_where_weights_are_looked_for(
    workspace: Workspace, tiny: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    name, pack = "ViTSmall16_Weights.SENTINEL2_ALL_DINO", s2_pack(workspace)
    file = get_weight(name).url.rpartition("/")[2]
    monkeypatch.setenv("RSFM_WEIGHTS", str(tmp_path / "nowhere"))
    with pytest.raises(RsfmError, match=r"RSFM_WEIGHTS names .*nowhere, which is not a folder"):
        load(name, pack, workspace)
    mine = tmp_path / "mine"
    mine.mkdir()
    monkeypatch.setenv("RSFM_WEIGHTS", str(mine))
    with pytest.raises(RsfmError, match="jobs do not download") as error:
        load(name, pack, workspace)
    for part in (file, mine, workspace.weights, tmp_path / "hub" / "checkpoints", get_weight(name).url, "curl -L"):
        assert str(part) in str(error.value)
    states = [randomised(vit(13)).state_dict() for _ in range(3)]
    for number, state in enumerate(states):
        state["cls_token"].fill_(number)

    def class_token() -> float:
        return float(load(name, pack, workspace).network.encoder.cls_token[0, 0, 0])

    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(states[0], tmp_path / "hub" / "checkpoints" / file)
    assert class_token() == 0
    put(workspace, name, states[1])
    assert class_token() == 1
    save_file({k: v.contiguous() for k, v in states[2].items()}, mine / f"{name}.safetensors")
    assert class_token() == 2


def test_published_sizes_are_torchgeos(monkeypatch: pytest.MonkeyPatch) -> None:
    """Full size, without memory: keys and shapes of torchgeo's own networks are those that are asked for here."""
    monkeypatch.setattr("torchgeo.models.croma.get_2dalibi", lambda **k: torch.zeros(1, 16, 225, 225))
    sizes = published.SIZES
    with torch.device("meta"):
        pairs = [
            (get_model("swin_v2_t"), networks.SwinNetwork(3, **sizes["Swin_V2_T_Weights"])),
            (get_model("swin_v2_b"), networks.SwinNetwork(3, **sizes["Swin_V2_B_Weights"])),
            (get_model("dofa_base_patch16_224"), networks.DOFANetwork([0.5], size=224, **sizes["DOFABase16_Weights"])),
            (get_model("dofa_large_patch16_224"),
             networks.DOFANetwork([0.5], size=224, **sizes["DOFALarge16_Weights"])),
            (get_model("croma_base", modalities=["optical"]),
             networks.CROMANetwork("optical", size=120, **sizes["CROMABase_Weights"])),
            (get_model("croma_large", modalities=["sar"]),
             networks.CROMANetwork("sar", size=120, **sizes["CROMALarge_Weights"])),
            (get_model("scalemae_large_patch16", num_classes=0),
             networks.ScaleMAENetwork(size=224, gsd_m=1, **sizes["ScaleMAELarge16_Weights"]).encoder),
            (get_model("earthloc", pretrained=False), networks.EarthLocNetwork(3, size=320)),
        ]  # fmt: skip
        for kind, (name, options) in published.TIMM.items():
            theirs = next(w for w in published.published() if w.startswith(f"{kind}."))
            weight = get_weight(theirs)
            model = weight.meta["model"] if "ResNet152" not in kind else "resnet152"
            ours = timm.create_model(name, in_chans=weight.meta["in_chans"], num_classes=0, **options)
            given = {"img_size": weight.meta["img_size"]} if "img_size" in weight.meta else {}
            pairs.append((get_model(model, in_chans=weight.meta["in_chans"], **given), ours))
    for theirs, ours in pairs:
        state = {k: v for k, v in theirs.state_dict().items() if not k.startswith(networks.CLASSIFIERS)}
        wanted_ = {k: v for k, v in ours.state_dict().items() if not k.startswith(networks.CLASSIFIERS)}
        assert state_differences(state, wanted_) == ([], [], []), type(theirs)


def test_the_key_holds_weights_bands_scaling_and_size(workspace: Workspace) -> None:
    """Equal inputs, equal key; each part changes it."""

    def model(*, weights: float = 1, mean: float = 0, size: int = 32, high: float = 9, setting: str = "a") -> str:
        encoder = timm.create_model("resnet10t", in_chans=1, num_classes=0)
        for p in encoder.state_dict().values():
            p.fill_(weights)
        feed = inputs.fed([inputs.Wanted("B04", 665, "reflectance", mean, high=high)], described(S2), None, "x")
        return ForeignModel(
            networks.TimmNetwork(encoder), feed, name="n", title="t", group="g", size=size,
            settings={"s": setting}, remarks=[],
        ).key  # fmt: skip

    keys = [model(), model(weights=2), model(mean=0.1), model(size=64), model(high=5), model(setting="b")]
    assert len(set(keys)) == 6
    assert model() == keys[0]
