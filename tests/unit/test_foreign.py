"""Encoders of others: features of every architecture, and that every weight is used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import timm
import torch
from foreign_parts import (
    NORMAL,
    RGB,
    S2,
    S2_ORDER,
    TINY_CROMA,
    TINY_DOFA,
    TINY_MAE,
    TINY_VIT,
    load,
    put,
    randomised,
    raw_images,
    raw_of,
    reaching,
    s2_pack,
    stored,
    swin,
    values_of,
    vit,
)
from timm.optim import param_groups_layer_decay
from torch import Tensor, nn
from torchgeo.models import get_weight
from torchgeo.models.copernicusfm import resize_abs_pos_embed
from torchgeo.models.croma import CROMA
from torchgeo.models.dofa import DOFA
from torchgeo.models.scale_mae import ScaleMAE
from torchvision.transforms import v2

from rsfm.bands import Band
from rsfm.errors import RsfmError
from rsfm.evaluation.evaluate import dry_run
from rsfm.evaluation.networks import LabelNetwork, MapNetwork
from rsfm.models.export import standardise
from rsfm.models.foreign import networks, published
from rsfm.models.foreign.model import ForeignModel
from rsfm.models.foreign.network import TimmNetwork, timm_encoder
from rsfm.pack_arrays import write_arrays
from rsfm.packs import Pack
from rsfm.specs import EvaluateSpec, FitParams
from rsfm.workspace import Workspace

pytestmark = pytest.mark.usefixtures("offline")


@dataclass(frozen=True)
class Case:
    """A published model: its weights' name, a network with random weights, and what that gives for (B, C, H, W)."""

    name: str
    network: Callable[[], nn.Module]
    features: Callable[[nn.Module, Tensor], Tensor]
    bands: str  # which bands it takes
    maps: list[tuple[int, int]]  # width and side of each map
    size: int = 224
    head: Callable[[nn.Module, Tensor], Tensor] | None = None  # from the mean of the last map to the features


def croma_state(network: nn.Module) -> dict[str, Any]:
    parts = ("s1_encoder", "s1_GAP_FFN", "s2_encoder", "s2_GAP_FFN", "joint_encoder")
    return {part: getattr(network, part).state_dict() for part in parts}


def s2_waves(pack_order: Sequence[int] = S2_ORDER) -> list[float]:
    return [float(S2[i].wavelength_nm) for i in pack_order]


CASES = {
    "SSL4EO-S12 ViT": Case(
        "ViTSmall16_Weights.SENTINEL2_ALL_DINO", lambda: vit(13), lambda n, x: n(x), "all", [(48, 14), (48, 14)],
    ),
    "SSL4EO-S12 ResNet": Case(
        "ResNet50_Weights.SENTINEL2_ALL_MOCO", lambda: timm.create_model("resnet10t", in_chans=13, num_classes=0),
        lambda n, x: n(x), "all", [(64, 56), (128, 28), (256, 14), (512, 7)], head=lambda n, x: x,
    ),
    "SoftCon": Case(
        "ViTSmall14_DINOv2_Weights.SENTINEL2_ALL_SOFTCON",
        lambda: timm.create_model("vit_small_patch14_dinov2", in_chans=13, num_classes=0, img_size=224, **TINY_VIT),
        lambda n, x: n(x), "all", [(48, 16), (48, 16)],
    ),
    "Swin": Case(
        "Swin_V2_T_Weights.SENTINEL2_SI_MS_SATLAS", lambda: swin(9), lambda n, x: n(x), "satlas",
        [(24, 64), (48, 32), (96, 16), (192, 8)], 256, lambda n, x: x,
    ),
    "DOFA": Case(
        "DOFABase16_Weights.DOFA_MAE", lambda: DOFA(num_classes=0, **TINY_DOFA),
        lambda n, x: n.forward_features(x, [w / 1000 for w in s2_waves()]), "pack", [(48, 14)] * 4,
        head=lambda n, x: n.fc_norm(x),
    ),
    "Scale-MAE": Case(
        "ScaleMAELarge16_Weights.FMOW_RGB",
        lambda: ScaleMAE(res=10 * 32 / 224, num_classes=0, norm_layer=NORMAL, **TINY_MAE), lambda n, x: n(x), "rgb",
        [(48, 14), (48, 14)],
    ),
    "CROMA": Case(
        "CROMABase_Weights.CROMA_VIT", lambda: CROMA(**TINY_CROMA),
        lambda n, x: n(torch.zeros(len(x), 2, 120, 120), x)["optical_GAP"], "no cirrus", [(32, 15)] * 4, 120,
        lambda n, x: n.s2_GAP_FFN(x),
    ),
    "Panopticon": Case(
        "Panopticon_Weights.VIT_BASE14", lambda: networks.PanopticonNetwork([], size=224).net,
        lambda n, x: n({"imgs": x, "chn_ids": torch.tensor([s2_waves()]).repeat(len(x), 1)}), "pack", [(48, 16)] * 4,
    ),
}  # fmt: skip
BANDS_TAKEN = {
    "all": [b.name for b in S2],
    "satlas": ["B04", "B03", "B02", "B05", "B06", "B07", "B08", "B11", "B12"],
    "pack": [S2[i].name for i in S2_ORDER],
    "rgb": ["B04", "B03", "B02"],
    "no cirrus": [b.name for b in S2 if b.name != "B10"],
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_published_model_is_the_librarys_network_on_the_right_bands(
    case: Case, workspace: Workspace, tiny: None
) -> None:
    """Features are those of the library's own module on what the model's description says; maps; fine-tuning."""
    pack = s2_pack(workspace)
    torch.manual_seed(0)
    network = randomised(case.network())
    state = croma_state(network) if "CROMA" in case.name else dict(network.state_dict())
    if "DOFA" in case.name:  # ends before the last norm
        network.fc_norm = NORMAL(48)
        state = {k: v for k, v in state.items() if not k.startswith("fc_norm")}
    if "Panopticon" in case.name:
        state["mask_token"] = torch.zeros(1, 1, 48)
    put(workspace, case.name, state)
    model = load(case.name, pack, workspace)
    assert [b.name for b in model.bands] == BANDS_TAKEN[case.bands]
    with torch.no_grad():
        expected = case.features(network, expected_input(case, pack))
    assert expected.std() > 1e-3
    torch.testing.assert_close(model.extract(values_of(model, pack)), expected, rtol=1e-3, atol=1e-3)
    assert model.feature_dim == expected.shape[1]
    maps = model.maps(standardise(values_of(model, pack), model.mean, model.std))
    assert [(m.shape[1], m.shape[2]) for m in maps] == case.maps
    assert all(m.shape[2] == m.shape[3] and torch.isfinite(m).all() and m.std() > 1e-4 for m in maps)
    pooled = maps[-1].mean(dim=(2, 3))  # what the features of most are made of
    with torch.no_grad():
        if case.head is not None:
            torch.testing.assert_close(case.head(network, pooled), expected, rtol=1e-3, atol=1e-3)
    learns(model, pack)


def expected_input(case: Case, pack: Pack) -> Tensor:
    """Computed from the stored numbers with torchgeo's own standardisation, at the size of training."""
    raw = raw_of(pack, BANDS_TAKEN[case.bands])
    if case.bands in ("pack", "no cirrus"):
        values = raw.double() / 1e4
        mean, std = (getattr(values, f)(dim=(0, 2, 3), **a)[:, None, None] for f, a in
                     (("mean", {}), ("std", {"correction": 0})))  # fmt: skip
        x = (values - mean) / std if case.bands == "pack" else ((values - mean) / (4 * std) + 0.5).clamp(0, 1)
        x = x.float()
    else:
        if case.name.startswith("ScaleMAE"):  # from reflectance: 255 is 0.3558
            raw = (raw / 3558 * 255).clamp(0, 255)
        elif case.name.startswith("Swin"):
            raw = torch.cat([(raw[:, :3] / 3558 * 255).clamp(0, 255), raw[:, 3:].clamp(0, 8160)], dim=1)
        x = standardised_by_torchgeo(case.name, raw)
    return v2.functional.resize(x, [case.size, case.size], antialias=True)


def standardised_by_torchgeo(name: str, raw: Tensor) -> Tensor:
    transforms = get_weight(name).transforms
    raw = raw.clone()
    for step in transforms:
        raw = step(raw) if isinstance(step, v2.Normalize) else raw
    return raw


def learns(model: ForeignModel, pack: Pack) -> None:
    """A copy is trained, layer by layer; the model itself stays frozen."""
    network = LabelNetwork(model, 2, frozen=False).train()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.isfinite(network((values_of(model, pack),))).all()
    network((values_of(model, pack),)).sum().backward()
    names = {n for n, p in network.model.trainable.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert len(names) > 0.8 * len(list(network.model.trainable.parameters()))
    scales = {g["lr_scale"] for g in param_groups_layer_decay(network.model.trainable, 0.05, (), layer_decay=0.5)}
    assert len(scales) >= 3  # stem, blocks, the end
    assert not any(p.requires_grad for p in model.parameters())
    assert not any(m.training for m in model.modules())


def test_small_images_are_enlarged_as_torchgeo_does(workspace: Workspace, tiny: None) -> None:
    """These weights' transforms resize and do not crop."""
    name = "ResNet50_Weights.FMOW_RGB_GASSL"
    put(workspace, name, randomised(timm.create_model("resnet10t", in_chans=3, num_classes=0)).state_dict())
    bands = [Band(n, None, 1, "uint8") for n in ("blue", "red", "green")]
    pack = write_arrays(workspace, "air", {"train": raw_images(bands, 40).astype(np.uint8)}, bands)
    expected = get_weight(name).transforms(raw_of(pack, ["red", "green", "blue"]))
    torch.testing.assert_close(reaching(load(name, pack, workspace), pack), expected, rtol=1e-3, atol=1e-3)
    name = "ViTSmall16_Weights.SENTINEL2_ALL_CLOSP"
    put(workspace, name, vit(13).state_dict())
    pack = s2_pack(workspace)
    expected = get_weight(name).transforms(raw_of(pack, [b.name for b in S2]))
    torch.testing.assert_close(reaching(load(name, pack, workspace), pack), expected, rtol=1e-3, atol=1e-3)


def test_larger_images_keep_their_size_where_the_network_can(workspace: Workspace, tiny: None) -> None:
    """Convolutions take any size, timm's ViTs the next multiple of the patch; who has fixed positions says so."""
    pack = s2_pack(workspace)
    x, small = torch.zeros(1, 13, 240, 300), torch.zeros(1, 13, 56, 112)
    for name, network, size in (
        ("ResNet50_Weights.SENTINEL2_ALL_MOCO", timm.create_model("resnet10t", in_chans=13, num_classes=0), (240, 300)),
        ("ViTSmall16_Weights.SENTINEL2_ALL_DINO", vit(13), (240, 304)),
        ("DOFABase16_Weights.DOFA_MAE", DOFA(num_classes=0, **TINY_DOFA), (224, 224)),
    ):
        put(workspace, name, network.state_dict())
        model = load(name, pack, workspace)
        assert model.as_trained(x).shape[-2:] == size
        assert model.as_trained(small).shape[-2:] == ((224, 224) if name.startswith("DOFA") else (224, 448))
        assert ("the only size that this network takes" in model.remarks[-1]) == name.startswith("DOFA")


def test_a_vit_sees_the_detail_of_a_large_image(workspace: Workspace, tiny: None) -> None:
    """More patches, with the positions of training in between: as timm gives them for that size, norm and all."""
    name = "ViTSmall16_Weights.SENTINEL2_ALL_DINO"
    torch.manual_seed(0)
    network = randomised(vit(13))
    put(workspace, name, network.state_dict())
    model = load(name, s2_pack(workspace), workspace)
    x = torch.randn(2, 13, 250, 230, generator=torch.Generator().manual_seed(1))
    resized = nn.functional.interpolate(model.as_trained(x), (256, 240))
    assert torch.equal(resized, model.as_trained(x)), "already the next multiple of 16"
    network.set_input_size((256, 240))  # resamples the positions for good
    with torch.no_grad():
        torch.testing.assert_close(model.features(x), network(resized), rtol=1e-3, atol=1e-3)
        tokens = network.forward_features(resized)
        maps = model.maps(x)
    expected = tokens[:, 1:].mT.unflatten(2, (16, 15))
    torch.testing.assert_close(maps[-1], expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("case", ["SSL4EO-S12 ViT", "SoftCon", "Scale-MAE", "Panopticon"])
def test_the_last_map_has_the_final_norm(case: str, workspace: Workspace, tiny: None) -> None:
    """As the class token has from which these networks' features come; the maps before it have none."""
    what = CASES[case]
    torch.manual_seed(0)
    network = randomised(what.network())
    state = dict(network.state_dict()) | ({"mask_token": torch.zeros(1, 1, 48)} if case == "Panopticon" else {})
    put(workspace, what.name, state)
    pack = s2_pack(workspace)
    model = load(what.name, pack, workspace)
    assert not torch.equal(network.norm.weight, torch.ones(48))
    maps = model.maps(standardise(values_of(model, pack), model.mean, model.std))
    plain = [((m.movedim(1, -1) - network.norm.bias) / network.norm.weight).std(dim=-1, correction=0) for m in maps]
    assert torch.allclose(plain[-1], torch.ones_like(plain[-1]), atol=1e-2)
    assert not torch.allclose(plain[0], torch.ones_like(plain[0]), atol=0.1)


@pytest.mark.parametrize("architecture", ["swin_tiny_patch4_window7_224", "swinv2_cr_tiny_ns_224"])
def test_the_last_stage_of_a_hierarchical_network_has_the_final_norm(architecture: str) -> None:
    """Its features are the mean of the normed last stage; sizes of images are free."""
    torch.manual_seed(0)
    tiny = {"embed_dim": 24, "depths": (1, 1, 1, 1), "num_heads": (1, 2, 3, 6), "in_chans": 2}
    encoder = TimmNetwork(randomised(timm_encoder(architecture, **tiny)))
    assert not encoder.fixed and encoder.divisor == 4
    x = torch.randn(2, 2, 60, 92, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        maps = encoder.pyramid(x)
        torch.testing.assert_close(maps[-1].mean(dim=(2, 3)), encoder.encode(x), rtol=1e-3, atol=1e-3)
    assert [tuple(m.shape[1:]) for m in maps] == [(24, 15, 23), (48, 8, 12), (96, 4, 6), (192, 2, 3)]


def test_panopticons_positions_come_from_larger_images(workspace: Workspace, tiny: None) -> None:
    """The published file holds them for 518 × 518 pixels; torchgeo resamples them for 224."""
    state = dict(networks.PanopticonNetwork([], size=224).net.state_dict())
    state["pos_embed"] = torch.randn(1, 1 + 37 * 37, 48, generator=torch.Generator().manual_seed(1))
    put(workspace, "Panopticon_Weights.VIT_BASE14", state)
    ours = load("Panopticon_Weights.VIT_BASE14", s2_pack(workspace), workspace).network.net.pos_embed
    torch.testing.assert_close(ours.data, resize_abs_pos_embed(state["pos_embed"], 224 // 14, 518 // 14))


def test_radar(workspace: Workspace, tiny: None) -> None:
    """CROMA's radar side, DOFA's placeholder and Panopticon's polarisations."""
    bands = [Band("VH", None, 10, "db"), Band("VV", None, 10, "db")]
    pack = write_arrays(workspace, "tiles", {"train": raw_images(bands, 16)}, bands, gsd_m=10)
    torch.manual_seed(0)
    network = randomised(CROMA(**TINY_CROMA))
    put(workspace, "CROMABase_Weights.CROMA_VIT", croma_state(network))
    model = load("CROMABase_Weights.CROMA_VIT", pack, workspace)
    assert [b.name for b in model.bands] == ["VV", "VH"]
    with torch.no_grad():
        expected = network(reaching(model, pack), torch.zeros(2, 12, 120, 120))["sar_GAP"]
    torch.testing.assert_close(model.extract(values_of(model, pack)), expected, rtol=1e-3, atol=1e-3)
    assert reaching(model, pack).min() >= 0 and reaching(model, pack).max() <= 1
    put(workspace, "DOFABase16_Weights.DOFA_MAE", DOFA(num_classes=0, **TINY_DOFA).state_dict())
    assert load("DOFABase16_Weights.DOFA_MAE", pack, workspace).network.wavelengths_um == [3.75, 3.75]
    put(workspace, "Panopticon_Weights.VIT_BASE14", networks.PanopticonNetwork([], size=224).net.state_dict())
    panopticon = load("Panopticon_Weights.VIT_BASE14", pack, workspace)
    assert panopticon.network.channels.tolist() == [-2, -1]
    first = panopticon.extract(values_of(panopticon, pack))
    assert torch.equal(first, panopticon.extract(values_of(panopticon, pack)))


def test_scale_mae_is_told_how_large_a_pixel_is(workspace: Workspace, tiny: None) -> None:
    name = "ScaleMAELarge16_Weights.FMOW_RGB"
    put(workspace, name, ScaleMAE(num_classes=0, norm_layer=NORMAL, **TINY_MAE).state_dict())
    images = raw_images(stored(S2), 28)
    near = write_arrays(workspace, "tiles", {"train": images}, stored(S2), gsd_m=0.8)
    far = write_arrays(workspace, "tiles2", {"train": images}, stored(S2), gsd_m=8)
    models = [load(name, pack, workspace) for pack in (near, far)]
    assert [m.network.encoder.res for m in models] == pytest.approx([0.1, 1.0])
    assert models[0].key != models[1].key
    a, b = (m.extract(values_of(m, near)) for m in models)
    assert not torch.allclose(a, b, atol=1e-3)
    unknown = write_arrays(workspace, "tiles3", {"train": images}, stored(S2))
    with pytest.raises(RsfmError, match="has no GSD in metres"):
        load(name, unknown, workspace)


def test_tokens_become_a_map_row_by_row() -> None:
    tokens = torch.arange(9.0).view(1, 9, 1).repeat(1, 1, 2)
    assert networks.as_map(tokens)[0, 1].tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]


def test_a_model_without_maps_says_so(workspace: Workspace, tiny: None) -> None:
    name = "EarthLoc_Weights.SENTINEL2_RESNET50"
    network = networks.EarthLocNetwork(3, size=320, **published.SIZES["EarthLoc_Weights"])
    put(workspace, name, randomised(network).state_dict())
    pack = write_arrays(workspace, "air", {"train": np.ones((1, 3, 16, 16), np.uint8)}, RGB)
    model = load(name, pack, workspace)
    assert model.extract(values_of(model, pack)).shape == (1, 64)
    with pytest.raises(RsfmError, match="gives no maps"):
        model.maps(torch.zeros(1, 3, 16, 16))


def test_an_evaluation_says_how_the_model_is_fed(workspace: Workspace, tiny: None) -> None:
    """A dry run, which encodes and trains a step: nothing about these models is special to it."""
    bands = stored(S2, S2_ORDER)
    images = {split: raw_images(bands, 16, 12) for split in ("train", "test")}
    write_arrays(workspace, "tiles", images, bands, labels=dict.fromkeys(images, ["a", "b"] * 6), gsd_m=10)
    name = "ViTSmall16_Weights.SENTINEL2_ALL_DINO"
    put(workspace, name, vit(13).state_dict())
    spec = EvaluateSpec(model=f"torchgeo:{name}", dataset="tiles", adaptations=["linear", "finetune"], device="cpu")
    remarks = "\n".join(dry_run(spec, workspace))
    assert "Images with a side below 224 pixels are enlarged to it" in remarks
    assert "epochs over" in remarks


@pytest.mark.parametrize("case", CASES)
def test_fine_tuning_leaves_alone_what_is_fixed(case: str, workspace: Workspace, tiny: None) -> None:
    """DOFA's and Scale-MAE's positions are computed: their publishers never trained them."""
    what, pack = CASES[case], s2_pack(workspace)
    network = randomised(what.network())
    state = croma_state(network) if case == "CROMA" else dict(network.state_dict())
    put(workspace, what.name, state | ({"mask_token": torch.zeros(1, 1, 48)} if case == "Panopticon" else {}))
    model = load(what.name, pack, workspace)
    tuned = LabelNetwork(model, 2, frozen=False)
    fixed = {n for n, p in tuned.model.trainable.named_parameters() if not p.requires_grad}
    assert fixed == ({"pos_embed"} if case in ("DOFA", "Scale-MAE") else set())
    groups = [p for group in tuned.parameter_groups(FitParams()) for p in group["params"]]
    assert {id(p) for p in groups} == {id(p) for p in tuned.parameters() if p.requires_grad}
    assert not any(p.requires_grad for p in model.parameters())
    assert LabelNetwork(model, 2, frozen=True).head.weight.requires_grad


def test_a_decoder_is_trained_on_foreign_maps(workspace: Workspace, tiny: None) -> None:
    """Swin's four stages as a pyramid, DOFA's tokens through a neck; gradients reach the encoder."""
    pack = s2_pack(workspace)
    fit = FitParams(decoder_width=16, pool_width=16)
    for name in ("Swin_V2_T_Weights.SENTINEL2_SI_MS_SATLAS", "DOFABase16_Weights.DOFA_MAE"):
        network = swin(9) if name.startswith("Swin") else DOFA(num_classes=0, **TINY_DOFA)
        put(workspace, name, network.state_dict())
        model = load(name, pack, workspace)
        whole = MapNetwork(model, 3, (32, 32), adaptation="finetune", pairs=False, fit=fit).train()
        logits = whole([values_of(model, pack)], (32, 32))
        assert logits.shape == (2, 3, 32, 32)
        logits.square().mean().backward()
        blocks = ("blocks.", "features.", "model.blocks.", "model.features.")
        reached = [p.grad for n, p in whole.model.trainable.named_parameters() if n.startswith(blocks)]
        assert reached and all(gradient is not None for gradient in reached), name
