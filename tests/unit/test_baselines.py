"""From a model's name to features: baselines, runs, and everything that must be refused."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from rsfm.bands import RGB_TOLERANCE_NM, SENSORS, Band, rgb_bands
from rsfm.errors import RsfmError
from rsfm.model_info import ModelBand, ModelInfo
from rsfm.models.baselines import resolve
from rsfm.models.export import ARCHITECTURES, save_model
from rsfm.models.imagenet import _wheel_weights, load_by_order
from rsfm.models.vit import build_encoder
from rsfm.pack_arrays import write_arrays
from rsfm.packs import Pack
from rsfm.specs import EncoderParams, EvaluateSpec, ResNetParams, TokenizerParams
from rsfm.workspace import Workspace

RUN = "20260102-030405-mae-tiles-0a1b"
BANDS = [
    Band("B02", 492, 10, "reflectance", scale=1e-4), Band("B04", 665, 10, "reflectance", scale=1e-4),
    Band("B03", 560, 10, "reflectance", scale=1e-4), Band("B08", 833, 10, "reflectance", scale=1e-4),
]  # fmt: skip


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def pack(workspace: Workspace) -> Pack:
    images = np.random.default_rng(0).integers(100, 4000, (12, 4, 32, 32)).astype(np.uint16)
    images[:, 3] += 1000
    labels = {"train": ["a", "b"] * 6}
    return write_arrays(workspace, "tiles", {"train": images}, BANDS, labels=labels, gsd_m=10)


def values_of(pack: Pack, names: list[str]) -> torch.Tensor:
    """(N, C, H, W) in the bands' unit."""
    bands = {b.name: (i, b) for i, b in enumerate(pack.bands())}
    array = pack.array("train")
    return torch.from_numpy(np.stack([bands[n][1].to_unit(array[:, bands[n][0]]) for n in names], axis=1))


def spec(model: str, **more: object) -> EvaluateSpec:
    return EvaluateSpec(model=model, dataset="tiles", **more)


def export(
    workspace: Workspace, names: list[str], *, size: int = 32, unit: str = "reflectance", seed: int = 0
) -> ModelInfo:
    params = EncoderParams(patch_size=8, width=32, depth=1, heads=2)
    encoder = build_encoder(params, len(names), size, seed=seed)
    bands = [ModelBand(name=n, wavelength_nm=None, gsd_m=10, unit=unit, mean=0.2, std=0.1) for n in names]
    info = ModelInfo(
        name=RUN, title="MAE tiny · tiles", architecture="vit", encoder=encoder.config(), image_size=size,
        feature_dim=32, bands=bands, method="mae", run_id=RUN, group="abcd", seed=7, weights_hash="", created="now",
    )  # fmt: skip
    return save_model(workspace.models / RUN, encoder, info)


# -- band statistics ---------------------------------------------------------------------------------------------------
def test_band_statistics_are_means_and_deviations_in_the_packs_own_scale(pack: Pack, workspace: Workspace) -> None:
    model = resolve(spec("band-stats"), pack, workspace)
    values = values_of(pack, ["B02", "B04", "B03", "B08"])
    features = model.extract(values).numpy()
    assert (model.title, model.feature_dim, features.shape) == ("Band statistics (floor)", 8, (12, 8))
    statistics = [b.statistics for b in pack.layer().bands]
    x = values.numpy().astype(np.float64)
    for i, s in enumerate(statistics):
        assert np.allclose(features[:, i], (x[:, i].mean(axis=(1, 2)) - s.mean) / s.std, atol=1e-4)
        assert np.allclose(features[:, 4 + i], x[:, i].std(axis=(1, 2)) / s.std, atol=1e-4)


def test_band_statistics_see_no_arrangement(pack: Pack, workspace: Workspace) -> None:
    model = resolve(spec("band-stats"), pack, workspace)
    values = values_of(pack, ["B02", "B04", "B03", "B08"])
    shuffled = values.flatten(2)[:, :, torch.randperm(32 * 32)].reshape(values.shape)
    assert torch.allclose(model.extract(values), model.extract(shuffled), atol=1e-4)


def test_bands_may_be_chosen_by_name(pack: Pack, workspace: Workspace) -> None:
    model = resolve(spec("band-stats", bands=["B08", "B02"]), pack, workspace)
    assert [b.name for b in model.bands] == ["B08", "B02"]
    assert model.key != resolve(spec("band-stats"), pack, workspace).key
    with pytest.raises(RsfmError, match="no band B99"):
        resolve(spec("band-stats", bands=["B99"]), pack, workspace)


# -- random initialisation ---------------------------------------------------------------------------------------------
def test_random_encoder_is_a_function_of_its_seed(pack: Pack, workspace: Workspace) -> None:
    values = values_of(pack, ["B02", "B04", "B03", "B08"])
    models = [resolve(spec("random:vit-nano", model_seed=s), pack, workspace) for s in (0, 0, 1)]
    features = [m.extract(values) for m in models]
    assert torch.equal(features[0], features[1])
    assert not torch.allclose(features[0], features[2], atol=0.1)
    assert models[0].key == models[1].key != models[2].key
    assert [m.seed for m in models] == [0, 0, 1]
    assert {(m.title, m.group) for m in models} == {("Random ViT vit-nano", "random:vit-nano")}


@pytest.mark.parametrize("size", [20, 30])
def test_random_encoder_takes_images_that_its_patches_do_not_divide(workspace: Workspace, size: int) -> None:
    images = np.random.default_rng(0).integers(0, 255, (4, 4, size, size)).astype(np.uint16)
    odd = write_arrays(workspace, "odd", {"train": images}, BANDS)
    model = resolve(spec("random:vit-nano"), odd, workspace)
    features = model.extract(values_of(odd, ["B02", "B04", "B03", "B08"]))
    assert features.shape == (4, 192)
    assert torch.isfinite(features).all()


def test_random_like_a_run_keeps_architecture_and_normalisation(pack: Pack, workspace: Workspace) -> None:
    trained = export(workspace, ["B08", "B02"])
    model = resolve(spec(f"random:{RUN}", model_seed=3), pack, workspace)
    assert [(b.name, b.mean, b.std) for b in model.bands] == [("B08", 0.2, 0.1), ("B02", 0.2, 0.1)]
    assert (model.feature_dim, model.seed, model.group) == (trained.feature_dim, 3, "random:abcd")
    assert "Random" in model.title
    values = values_of(pack, ["B08", "B02"])
    assert not torch.allclose(model.extract(values), resolve(spec(RUN), pack, workspace).extract(values), atol=0.1)
    state = torch.get_rng_state()
    resolve(spec(f"random:{RUN}"), pack, workspace)
    assert torch.equal(torch.get_rng_state(), state)


# -- a run's model -----------------------------------------------------------------------------------------------------
def test_run_is_fed_its_bands_by_name(pack: Pack, workspace: Workspace) -> None:
    export(workspace, ["B08", "B02"])
    model = resolve(spec(RUN), pack, workspace)
    assert [b.name for b in model.bands] == ["B08", "B02"]
    assert (model.title, model.group, model.seed) == ("MAE tiny · tiles", "abcd", 7)
    assert not any(p.requires_grad for p in model.parameters())


def test_run_takes_other_sizes(pack: Pack, workspace: Workspace) -> None:
    """At their own size, as close as its patches of 8 allow: not at the 64 pixels of training."""
    export(workspace, ["B08"], size=64)
    model = resolve(spec(RUN), pack, workspace)
    values = values_of(pack, ["B08"])
    for (rows, columns), size in (((32, 32), (32, 32)), ((30, 31), (32, 32)), ((10, 23), (16, 24))):
        image = values[:, :, :rows, :columns]
        resized = torch.nn.functional.interpolate(image, size, mode="bicubic", align_corners=False, antialias=True)
        found = model.extract(image)
        assert found.shape == (12, 32)
        standard = (resized - 0.2) / 0.1
        assert torch.allclose(found, model.encoder.features(standard), atol=1e-4)
        assert model.maps((image - 0.2) / 0.1)[-1].shape[2:] == (size[0] // 8, size[1] // 8)
        whole = torch.nn.functional.interpolate(image, (64, 64), mode="bicubic", align_corners=False, antialias=True)
        assert not torch.allclose(found, model.encoder.features((whole - 0.2) / 0.1), atol=1e-2)


@pytest.mark.parametrize(
    "params",
    [
        ResNetParams(layers="resnet18"), TokenizerParams(codes=16, width=8),
        EncoderParams(patch_size=8, width=32, depth=1, heads=2, pooling="class"),
        EncoderParams(patch_size=8, width=32, depth=1, heads=2, positions="relative"),
    ],
)  # fmt: skip
def test_run_of_every_architecture_takes_any_size(
    pack: Pack, workspace: Workspace, params: EncoderParams | ResNetParams | TokenizerParams
) -> None:
    name = {ResNetParams: "resnet", TokenizerParams: "vq_tokenizer", EncoderParams: "vit"}[type(params)]
    encoder = ARCHITECTURES[name].from_config(params.model_dump(mode="json"), 1, 32)
    bands = [ModelBand(name="B08", wavelength_nm=None, gsd_m=10, unit="reflectance", mean=0.2, std=0.1)]
    info = ModelInfo(
        name=RUN, title="A run", architecture=name, encoder=encoder.config(), image_size=32,
        feature_dim=encoder.feature_dim, bands=bands, run_id=RUN, group="abcd", seed=7, weights_hash="", created="now",
    )  # fmt: skip
    save_model(workspace.models / RUN, encoder, info)
    values = values_of(pack, ["B08"])[:2]
    for model in (RUN, f"random:{RUN}"):
        found = resolve(spec(model), pack, workspace)
        for shape in ((32, 32), (30, 31), (24, 32)):
            features = found.extract(values[:, :, : shape[0], : shape[1]])
            assert features.shape == (2, encoder.feature_dim) and torch.isfinite(features).all()


@pytest.mark.parametrize(
    ("names", "unit", "chosen", "message"),
    [
        (["B08", "B11"], "reflectance", None, "no band B11"),
        (["B08"], "uint8", None, "uint8 is needed"),
        (["B08"], "reflectance", ["B02"], "made for the bands B08"),
    ],
)
def test_run_that_does_not_fit_is_refused(
    pack: Pack, workspace: Workspace, names: list[str], unit: str, chosen: list[str] | None, message: str
) -> None:
    export(workspace, names, unit=unit)
    with pytest.raises(RsfmError, match=message):
        resolve(spec(RUN, bands=chosen), pack, workspace)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("nonsense", "Unknown model 'nonsense'"), ("random:", "Unknown model"), ("random:vit-giant", "Unknown encoder"),
        ("timm:", "Unknown model"),
        ("timm:nope", "timm has no encoder 'nope'; all names that it knows: python -c .*list_models"),
        ("timm:resnet_18.a1_in1k", "timm has no encoder 'resnet_18.a1_in1k'; similar names: .*resnet18"),
        ("timm:dinov2", "similar names: vit_base_patch14_dinov2"), (RUN, "No model at"),
        ("../../etc", "Unknown model"), (f"random:{RUN}", "No model at"),
        ("timm:resnet18.nonsense", "no pretrained weights"),
    ],
)  # fmt: skip
def test_unknown_model_is_refused(pack: Pack, workspace: Workspace, model: str, message: str) -> None:
    with pytest.raises(RsfmError, match=message):
        resolve(spec(model), pack, workspace)


# -- ImageNet encoders -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("sensor", "expected"),
    [
        ("sentinel-2", ["B04", "B03", "B02"]), ("landsat-7", ["B3", "B2", "B1"]), ("landsat-8", ["B4", "B3", "B2"]),
        ("rgb", ["red", "green", "blue"]),
    ],
)  # fmt: skip
def test_red_green_blue_by_wavelength(sensor: str, expected: list[str]) -> None:
    bands = list(SENSORS[sensor].bands)
    assert rgb_bands(bands, where="x") == expected
    assert rgb_bands(bands[::-1], where="x") == expected


def test_no_colour_no_rgb_model() -> None:
    with pytest.raises(RsfmError, match="no red band"):
        rgb_bands(SENSORS["sentinel-1"].bands, where="Pack 'radar'")
    almost = [Band("r", 665 + RGB_TOLERANCE_NM + 1, 10, "dn"), Band("g", 560, 10, "dn"), Band("b", 490, 10, "dn")]
    with pytest.raises(RsfmError, match="no red band"):
        rgb_bands(almost, where="x")


def test_efficientnet_has_the_weights_of_the_wheel_and_the_right_input(pack: Pack, workspace: Workspace) -> None:
    model = resolve(spec("efficientnet-lite0"), pack, workspace)
    assert [b.name for b in model.bands] == ["B04", "B03", "B02"]
    assert (model.title, model.feature_dim) == ("EfficientNet-Lite0 (ImageNet)", 1280)
    # The same by hand: percentiles to 0..1, enlarge, mean and std 0.5, the network with its classifier cut off.
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    network.load_state_dict(dict(zip(network.state_dict(), _wheel_weights().values(), strict=True)))
    values = values_of(pack, ["B04", "B03", "B02"])[:3]
    statistics = {b.name: b.statistics for b in pack.layer().bands}
    planes = [
        (values[:, i] - statistics[n].p2) / (statistics[n].p98 - statistics[n].p2)
        for i, n in enumerate(["B04", "B03", "B02"])
    ]
    image = (torch.stack(planes, dim=1).clamp(0, 1) - 0.5) / 0.5
    large = [[Image.fromarray(p.numpy()).resize((128, 128), Image.Resampling.BICUBIC) for p in i] for i in image]
    image = torch.from_numpy(np.array([[np.asarray(p) for p in i] for i in large]))
    with torch.no_grad():
        expected = network.forward_head(network.forward_features(image), pre_logits=True)
    assert torch.allclose(model.extract(values), expected, atol=1e-3)
    assert expected.std() > 0.1


def eight_bit(workspace: Workspace, name: str, low: int, high: int, unit: str = "uint8") -> Pack:
    images = np.random.default_rng(3).integers(low, high, (4, 3, 32, 32)).astype(np.uint8)
    bands = [Band(b.name, b.wavelength_nm, b.gsd_m, unit) for b in SENSORS["rgb"].bands]
    return write_arrays(workspace, name, {"train": images}, bands, labels={"train": ["a", "b"] * 2})


def test_eight_bit_images_are_fed_as_imagenet_was(workspace: Workspace) -> None:
    """x / 255, then the encoder's own mean and std: a dull pack stays dull, whatever its percentiles are."""
    dull, bright = eight_bit(workspace, "dull", 40, 90), eight_bit(workspace, "bright", 0, 256)
    model = resolve(spec("efficientnet-lite0"), dull, workspace)
    values = values_of(dull, ["red", "green", "blue"])
    seen = model.as_trained((values - model.mean) / model.std)
    size = (model.size, model.size)
    by_hand = torch.nn.functional.interpolate(
        (values / 255 - 0.5) / 0.5, size, mode="bicubic", align_corners=False, antialias=True
    )
    assert torch.allclose(seen, by_hand, atol=1e-5)
    assert any("divided by 255" in r for r in model.remarks) and not any("percentile" in r for r in model.remarks)
    # What decides the features is in the key, which is in the basis of scores: no pack's range here, but the unit.
    assert model.key == resolve(spec("efficientnet-lite0"), bright, workspace).key
    raw = resolve(spec("efficientnet-lite0"), eight_bit(workspace, "raw", 40, 90, unit="dn"), workspace)
    assert raw.key != model.key and any("percentiles of the pack" in r for r in raw.remarks)
    limits = [b.statistics for b in Pack.named(workspace, "raw").layer().bands]
    assert [b.mean - b.std for b in raw.bands] == pytest.approx([s.p2 for s in limits])


def test_weights_by_order_check_every_pair() -> None:
    def net(*widths: int) -> torch.nn.Module:
        return torch.nn.Sequential(*[torch.nn.Linear(a, b) for a, b in pairwise(widths)])

    good = {f"other.{i}.{n.rpartition('.')[2]}": t for i, (n, t) in enumerate(net(4, 3, 2).state_dict().items())}
    target = net(4, 3, 2)
    load_by_order(target, good)
    assert all(torch.equal(a, b) for a, b in zip(target.state_dict().values(), good.values(), strict=True))
    with pytest.raises(RsfmError, match="4 tensors, the model 6"):
        load_by_order(net(4, 3, 2, 1), good)
    with pytest.raises(RsfmError, match="does not fit"):
        load_by_order(net(4, 5, 2), good)
    with pytest.raises(RsfmError, match="does not fit"):  # same shapes, another kind
        norm = torch.nn.BatchNorm1d(3, track_running_stats=False)
        load_by_order(norm, {"a.bias": torch.ones(3), "a.weight": torch.ones(3)})


def test_rgb_bands_may_be_named(pack: Pack, workspace: Workspace) -> None:
    model = resolve(spec("efficientnet-lite0", bands=["B08", "B04", "B03"]), pack, workspace)
    assert [b.name for b in model.bands] == ["B08", "B04", "B03"]
    with pytest.raises(RsfmError, match="takes three bands"):
        resolve(spec("efficientnet-lite0", bands=["B08"]), pack, workspace)


def test_timm_weights_must_be_here(
    pack: Pack, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Without them: one clear line, no network. With them, where timm's own download puts them: they are used."""
    hub = tmp_path_factory.mktemp("hub")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(hub))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(hub))
    with pytest.raises(RsfmError, match="not on this machine"):
        resolve(spec("timm:resnet10t.c3_in1k"), pack, workspace)
    torch.manual_seed(5)
    network = timm.create_model("resnet10t", pretrained=False)
    config = timm.get_pretrained_cfg("resnet10t.c3_in1k")
    (hub / "checkpoints").mkdir()
    torch.save(network.state_dict(), hub / "checkpoints" / config.url.rsplit("/", 1)[1])
    model = resolve(spec("timm:resnet10t.c3_in1k"), pack, workspace)
    assert torch.equal(model.network.encoder.conv1[0].weight, network.conv1[0].weight)
    assert model.extract(values_of(pack, ["B04", "B03", "B02"])).shape == (12, 512)


def test_timm_weights_may_lie_in_a_local_folder(
    pack: Pack, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Under timm's name of the encoder, in either form; `RSFM_WEIGHTS` comes before the workspace."""
    mine = tmp_path_factory.mktemp("mine")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(mine / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(mine / "hf"))
    monkeypatch.setenv("RSFM_WEIGHTS", str(mine))
    with pytest.raises(RsfmError, match=r"resnet10t\.c3_in1k\.safetensors or .* in .*mine.*weights.*timm's caches"):
        resolve(spec("timm:resnet10t.c3_in1k"), pack, workspace)
    network = timm.create_model("resnet10t", pretrained=False)
    workspace.weights.mkdir()
    for number, file in enumerate(
        (workspace.weights / "resnet10t.c3_in1k.pth", mine / "resnet10t.c3_in1k.safetensors")
    ):
        network.conv1[0].weight.data.fill_(number)
        state = network.state_dict()
        save_file(state, file) if file.suffix == ".safetensors" else torch.save(state, file)
        model = resolve(spec("timm:resnet10t.c3_in1k"), pack, workspace)
        assert (model.network.encoder.conv1[0].weight == number).all()
