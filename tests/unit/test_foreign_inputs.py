"""What reaches an encoder of others: bands, order, unit and scaling; and everything that must be refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from foreign_parts import (
    RGB,
    S1,
    S2,
    TINY_DOFA,
    described,
    load,
    put,
    s2_pack,
    values_of,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torchgeo.models import get_weight
from torchgeo.models.dofa import DOFA

from rsfm.bands import SENSORS, Band
from rsfm.errors import RsfmError
from rsfm.models.foreign import catalog, inputs, published
from rsfm.workspace import Workspace

pytestmark = pytest.mark.usefixtures("offline")


# -- what reaches the network: every published weight that stands for fixed bands --------------------------------------
def own_scaling() -> list[str]:
    names = []
    for name in published.published():
        try:
            if (
                catalog.takes(name, get_weight(name)).scaling == "own"
                and "SECO" not in name.split(".")[1].split("_")[2:]
            ):
                names.append(name)
        except RsfmError:
            continue
    return names


@pytest.mark.parametrize("name", own_scaling())
def test_the_network_gets_what_torchgeos_own_transform_gives(name: str) -> None:
    """On the same raw numbers, from a pack that holds more bands in another order. (Constant images: no crop shows.)"""
    weight = get_weight(name)
    what = catalog.takes(name, weight)
    units = {"reflectance_10000": "reflectance"}
    bands = [
        Band(w.name, w.wavelength_nm, 10, units.get(w.numbers, w.numbers), 1e-4 if w.numbers in units else 1.0)
        for w in what.bands
    ]
    if any(w.colour for w in what.bands):
        bands = [Band({"R": "red", "G": "green", "B": "blue"}[b.name], None, 1, b.unit) for b in bands]
    sensor = next((w.sensor for w in what.bands if w.sensor), None)
    others = [Band("X", 1900, 10, "reflectance"), Band("Y", None, 10, "db")]
    pack = described([*others[:1], *bands[::-1], *others[1:]], sensor=sensor, dataset=what.bands[0].dataset or "tiles")
    feed = inputs.fed(what.bands, pack, None, name)
    assert [b.name for b in feed.bands] == [b.name for b in bands]
    raw = torch.tensor([{"db": -17.0, "dn": 130.0}.get(w.numbers, 90.0) + i for i, w in enumerate(what.bands)])
    if sensor == "landsat-8":
        raw += 7000
    constant = raw.view(1, -1, 1, 1).repeat(1, 1, 320, 320)
    expected = weight.transforms(constant)[0, :, 100, 100]
    values = raw.double() * torch.tensor([b.scale for b in bands], dtype=torch.float64)
    mean, std = (torch.tensor([getattr(b, f) for b in feed.bands], dtype=torch.float64) for f in ("mean", "std"))
    low, high = torch.tensor(feed.low), torch.tensor(feed.high)
    ours = torch.minimum(torch.maximum(((values - mean) / std).float(), low), high)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)


def test_most_of_torchgeo_can_be_fed() -> None:
    """The families that the lab names; what cannot be fed says why."""
    names = set(own_scaling())
    for part in ("SSL4EO", "MOCO", "DINO", "MAE", "FGMAE", "DECUR", "SOFTCON", "SATLAS", "GASSL", "SIMCLR"):
        assert part == "SSL4EO" or any(part in n for n in names), part
    assert len(names) > 70


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("Aurora_Weights.HRES_T0_AURORA", "forecasts the weather"),
        ("CopernicusFM_Base_Weights.CopernicusFM_ViT", "needs the bandwidth of each band"),
        ("Unet_Weights.SENTINEL2_2CLASS_FTW", "one segmentation task"),
        ("Swin_T_Weights.CITYSCAPES_SEMSEG", "does not say which bands"),
        ("ResNet50_Weights.SENTINEL1_GRD_CLOSP", "does not say in which unit"),
        ("ViTSmall16_Weights.NOPE", r"no weights.*named like .*ViTSmall16_Weights\."),
        ("../../etc/passwd", "has no weights"),
    ],
)
def test_what_cannot_be_fed_says_why(name: str, why: str, workspace: Workspace) -> None:
    with pytest.raises(RsfmError, match=why):
        published.torchgeo_model(name, described(S2), workspace)


def test_seco_gets_the_range_of_each_band_as_it_was_trained() -> None:
    """8-bit reflectance, each band's range to 0..1, then ImageNet's mean and std (arXiv 2103.16607, its own code)."""
    weight = get_weight("ResNet50_Weights.SENTINEL2_RGB_SECO")
    feed = inputs.fed(catalog.takes(str(weight), weight).bands, described(S2[::-1]), None, "SeCo")
    value = 0.2
    for band, low, high, m, s in zip(
        ("B04", "B03", "B02"), (0, 2, 3), (129, 103, 88), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True
    ):
        ours = next(b for b in feed.bands if b.name == band)
        assert (value - ours.mean) / ours.std == pytest.approx(((value * 255 - low) / (high - low) - m) / s)
    assert feed.low == pytest.approx([-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225])
    with pytest.raises(RsfmError, match=r"8-bit numbers made of reflectance \(255 = 1\)"):
        inputs.fed(catalog.takes(str(weight), weight).bands, described(SENSORS["rgb"].bands), None, "SeCo")


# -- bands and units ---------------------------------------------------------------------------------------------------
@settings(max_examples=30, deadline=None)
@given(st.permutations(range(13)))
def test_bands_are_found_wherever_they_are(order: list[int]) -> None:
    weight = get_weight("ViTSmall16_Weights.SENTINEL2_ALL_DINO")
    pack = described([S2[i] for i in order])
    positions = inputs.match(catalog.takes(str(weight), weight).bands, pack, None, "x")
    assert [pack.bands()[p].name for p in positions] == [b.name for b in S2]


def wanted(name: str) -> tuple[inputs.Wanted, ...]:
    return catalog.takes(name, get_weight(name)).bands


OLI = "ViTSmall16_Weights.LANDSAT_OLI_SR_MOCO"
ETM = "ViTSmall16_Weights.LANDSAT_ETM_SR_MOCO"


def test_a_name_means_nothing_where_the_wavelength_says_otherwise() -> None:
    """Landsat's B1 … B7 are other bands than Sentinel-2's: they are taken by wavelength."""
    positions = inputs.match(wanted(OLI), described(S2), None, "x")
    assert [S2[p].name for p in positions] == ["B01", "B02", "B03", "B04", "B8A", "B11", "B12"]
    positions = inputs.match(wanted(ETM), described(S2), None, "x")
    assert [S2[p].name for p in positions] == ["B02", "B03", "B04", "B08", "B11", "B12"]
    feed = inputs.fed(wanted(OLI), described(S2), None, "x")
    assert "SR_B5 from B8A" in feed.remarks[-1]
    assert "Reflectance 0 to 0.3 becomes" in feed.remarks[0]
    assert feed.bands[0].std == pytest.approx(0.3)


def test_without_wavelengths_names_count() -> None:
    nameless = [Band(b.name.lower(), None, 10, "reflectance") for b in S2]
    positions = inputs.match(wanted("ViTSmall16_Weights.SENTINEL2_ALL_DINO"), described(nameless), None, "x")
    assert positions == list(range(13))


def test_a_band_serves_once() -> None:
    """Two thermal bands are wanted and one is there: it is not used twice."""
    bands = [*SENSORS["landsat-7"].bands, Band("B8", 710, 15, "uint8")]
    with pytest.raises(RsfmError, match=r"no band for B6_VCID_2 \(11450 nm\)"):
        inputs.match(wanted("ViTSmall16_Weights.LANDSAT_ETM_TOA_MOCO"), described(bands), None, "x")
    without = [b for b in S2 if b.name != "B08"]  # B04 and B05 are the nearest, and too far away
    with pytest.raises(RsfmError, match=r"no band for SR_B4 \(835 nm\)"):
        inputs.match(wanted(ETM), described([b for b in without if b.name != "B8A"]), None, "x")


def test_a_band_wanted_twice_is_missing_once() -> None:
    twice = [inputs.Wanted("B04", None, "reflectance"), inputs.Wanted("B4", None, "reflectance")]
    with pytest.raises(RsfmError, match="no band for B4 "):
        inputs.match(twice, described(S2), None, "x")


def test_values_beyond_what_training_saw_are_cut_off() -> None:
    """SatlasPretrain: all bands end up in 0 to 1."""
    full = [
        *SENSORS["landsat-8"].bands,
        *(Band(n, w, 30, "dn") for n, w in (("B8", 590), ("B10", 10895), ("B11", 12005))),
    ]
    raw = [Band(b.name, b.wavelength_nm, b.gsd_m, "dn") for b in full]
    radar = [Band("VV", None, 10, "dn"), Band("VH", None, 10, "dn")]
    for name, pack in (
        ("Swin_V2_B_Weights.SENTINEL2_SI_MS_SATLAS", described(S2)),
        ("Swin_V2_B_Weights.LANDSAT_SI_SATLAS", described(raw, sensor="landsat-8")),
        ("Swin_V2_B_Weights.SENTINEL1_SI_SATLAS", described(radar, sensor="sentinel-1")),
    ):
        feed = inputs.fed(wanted(name), pack, None, "x")
        assert feed.low == pytest.approx([0] * len(feed.bands))
        assert feed.high == pytest.approx([1] * len(feed.bands))
    with pytest.raises(RsfmError, match=r"is in raw numbers \(dn\).*raw numbers \(dn\) of Sentinel-1.*calibration"):
        inputs.fed(wanted("Swin_V2_B_Weights.SENTINEL1_SI_SATLAS"), described(radar, sensor="other"), None, "x")


def test_panchromatic_bands_are_found_by_name_only() -> None:
    names = [w.name for w in wanted("Swin_V2_B_Weights.LANDSAT_SI_SATLAS")]
    bands = [*SENSORS["landsat-8"].bands, Band("B10", 10895, 100, "dn"), Band("B11", 12005, 100, "dn")]
    near = [*bands, Band("yellow", 590, 30, "dn")]
    with pytest.raises(RsfmError, match=r"no band for B08 \(590 nm\)"):
        inputs.match(wanted("Swin_V2_B_Weights.LANDSAT_SI_SATLAS"), described(near), None, "x")
    full = described([*bands, Band("B8", 590, 15, "dn")])
    found = inputs.match(wanted("Swin_V2_B_Weights.LANDSAT_SI_SATLAS"), full, None, "x")
    assert [f"B{int(full.bands()[p].name[1:]):02d}" for p in found] == names


RAW = [Band(b.name, b.wavelength_nm, 10, "dn") for b in S2]
SHORT = [b for b in S2 if b.name not in ("B10", "B01")]


@pytest.mark.parametrize(
    ("name", "bands", "message"),
    [
        ("ViTSmall16_Weights.SENTINEL2_ALL_DINO", SHORT, r"no band for B1 \(443 nm\), B10 \(1374 nm\).*Nothing is"),
        ("ViTSmall16_Weights.SENTINEL2_ALL_DINO", S1, "trained on optical bands.*radar ones only.*cannot be made"),
        ("ViTSmall16_Weights.SENTINEL1_GRD_MAE", S2, r"trained on radar bands \(VV, VH\).*optical ones only"),
        ("ViTSmall16_Weights.SENTINEL1_GRD_MAE", S1[:1], "no band for VH"),
        ("ViTSmall16_Weights.SENTINEL2_ALL_DINO", RAW, r"B01 is in raw numbers.*reflectance × 10000.*calibration"),
        ("ResNet50_Weights.SENTINEL2_RGB_MOCO", RGB, "is in 8-bit numbers.*how they were made is not known"),
        ("ResNet50_Weights.FMOW_RGB_GASSL", RAW, "raw numbers without a calibration"),
        ("ResNet50_Weights.FMOW_RGB_GASSL", S2[4:], "no green band"),
        ("ResNet50_Weights.FMOW_RGB_GASSL", S1, "radar ones only"),
        ("ViTSmall16_Weights.LANDSAT_ETM_SR_MOCO", SENSORS["landsat-7"].bands, r"8-bit numbers made of reflectance"),
        ("Swin_V2_B_Weights.SENTINEL1_SI_SATLAS", S1, "decibels.*raw numbers .dn. of Sentinel-1.*no rule"),
        ("EarthLoc_Weights.SENTINEL2_RESNET50", S2, "B04 is in reflectance.*8-bit numbers.*no rule"),
        ("ResNet50_Weights.SENTINEL2_ALL_NDVI_SECO_ECO", S2, "no band for NDVI"),
        ("DOFABase16_Weights.DOFA_MAE", [Band("x", None, 1, "uint8")], "needs the wavelength of every band.*x"),
        ("Panopticon_Weights.VIT_BASE14", [Band("x", None, 1, "uint8")], "needs the wavelength.*or the polarisation"),
        ("CROMABase_Weights.CROMA_VIT", SHORT, r"no band for B01"),
        ("CROMABase_Weights.CROMA_VIT", [Band("VV", None, 10, "dn"), Band("VH", None, 10, "dn")], "in decibels"),
    ],
)
def test_what_does_not_fit_is_refused(
    name: str, bands: Sequence[Band], message: str, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published, "weight_file", lambda *args: Path("w.pth"))
    monkeypatch.setattr(published, "load_state", lambda file: {})
    with pytest.raises(RsfmError, match=f"(?s){message}"):
        published.torchgeo_model(name, described(bands), workspace)


def test_chosen_bands(workspace: Workspace, tiny: None) -> None:
    """Any-band models take a subset, models of red, green and blue any three, others only their own."""
    pack = s2_pack(workspace)
    put(workspace, "DOFABase16_Weights.DOFA_MAE", DOFA(num_classes=0, **TINY_DOFA).state_dict())
    some = load("DOFABase16_Weights.DOFA_MAE", pack, workspace, bands=["B08", "B02"])
    assert [b.name for b in some.bands] == ["B08", "B02"]
    assert some.network.wavelengths_um == [0.833, 0.492]
    assert some.extract(values_of(some, pack)).shape == (2, 48)
    assert some.key != load("DOFABase16_Weights.DOFA_MAE", pack, workspace).key
    gassl = wanted("ResNet50_Weights.FMOW_RGB_GASSL")
    assert [b.name for b in inputs.fed(gassl, pack, ["B08", "B04", "B03"], "x").bands] == ["B08", "B04", "B03"]
    for names in (["B08"], ["B08", "B02", "B99"]):
        with pytest.raises(RsfmError, match=r"cannot take B08|no band B99"):
            inputs.fed(gassl, pack, names, "x")
    own = wanted("ResNet50_Weights.SENTINEL2_RGB_MOCO")
    assert [b.name for b in inputs.fed(own, pack, ["B02", "B03", "B04"], "x").bands] == ["B04", "B03", "B02"]
    with pytest.raises(RsfmError, match="no band for B4"):
        inputs.fed(own, pack, ["B02", "B03", "B08"], "x")
