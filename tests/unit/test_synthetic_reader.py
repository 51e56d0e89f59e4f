"""Packs of the synthetic world, through the same door as real data."""

from __future__ import annotations

import numpy as np
import pytest

from data_catalog import entries, entry
from data_catalog.prepare import dry_run, open_reader, prepare
from rsfm.errors import RsfmError
from rsfm.packs import Pack
from rsfm.specs import PrepareSpec
from rsfm.synthetic.materials import LAND_COVER
from rsfm.synthetic.scenes import PATTERNS

SYNTHETIC = sorted(name for name, e in entries().items() if e.synthetic)
FEW = {"train": 6, "test": 4}


def make(workspace, dataset, name=None, tile_size=None, **options):
    spec = PrepareSpec(dataset=dataset, name=name, tile_size=tile_size, options={**FEW, **options})
    return Pack.open(workspace.packs / prepare(spec, workspace).name)


@pytest.mark.parametrize("name", SYNTHETIC)
def test_entry_says_what_the_reader_gives(name, workspace):
    found = entry(name)
    assert found.title.startswith("Synthetic") and "generated" in found.citation
    _, reader = open_reader(PrepareSpec(dataset=name), workspace)
    layers = reader.layers()
    assert reader.synthetic and reader.task == found.task and reader.classes() == found.classes
    assert [x.name for x in layers] == [x.name for x in found.layers]
    for layer, described in zip(layers, found.layers, strict=True):
        assert (layer.dtype, layer.role, layer.gsd_m) == (described.dtype, described.role, described.gsd_m)
        assert layer.shape[1:] == described.size and layer.classes == described.classes
        assert [b.band() for b in layer.bands] == [b.band() for b in described.bands]
    keys = reader.keys()
    assert {s: sum(k.split == s for k in keys) for s in found.splits} == found.splits
    assert len({k.id for k in keys}) == len(keys)
    assert len(dry_run(PrepareSpec(dataset=name), workspace)) > 2


@pytest.mark.parametrize("name", SYNTHETIC)
def test_pack_is_named_synthetic_and_placed(name, workspace):
    pack = make(workspace, name, tile_size=32, seed=5)
    info = pack.info
    assert info.synthetic and info.title.startswith("Synthetic") and not info.skipped
    assert info.source.startswith("synthetic world, seed 5, rendered to ")
    assert any("Synthetic" in note for note in info.notes)
    samples = pack.samples
    gsd = info.layers[0].gsd_m
    assert (samples["gsd_m"] == gsd).all() and samples["crs"].str.startswith("EPSG:326").all()
    assert samples["date"].str.fullmatch(r"20\d\d-\d\d-\d\d").all()
    for row in samples.itertuples():
        assert row.transform[0] == gsd == -row.transform[4]
        assert row.west < row.east and row.south < row.north
        # 32 pixels in metres of latitude.
        assert (row.north - row.south) * 111_200 == pytest.approx(32 * gsd, rel=0.05)
    if info.task == "classification":
        assert set(samples["label"]) <= set(info.classes)


def test_the_same_request_gives_the_same_bytes(workspace):
    one = make(workspace, "synthetic-landsat7", "one", seed=3)
    other = make(workspace, "synthetic-landsat7", "other", seed=3, test=2)
    third = make(workspace, "synthetic-landsat7", "third", seed=4)
    assert np.array_equal(one.array("train"), other.array("train"))
    assert one.info.content_hash != third.info.content_hash
    assert not np.array_equal(one.array("train"), third.array("train"))
    assert not np.array_equal(one.array("train")[:4], one.array("test"))


def test_tiles_do_not_depend_on_the_order_of_reading(workspace):
    spec = PrepareSpec(dataset="synthetic-s2-series", options=FEW, tile_size=32)
    _, reader = open_reader(spec, workspace)
    _, again = open_reader(spec, workspace)
    keys = reader.keys()
    forward = {k.id: reader.read(k).arrays["image"] for k in keys}
    for key in reversed(keys[::5]):
        assert np.array_equal(again.read(key).arrays["image"], forward[key.id])


def test_scene_labels_go_in_turn(workspace):
    pack = make(workspace, "synthetic-s1", tile_size=32, train=20)
    assert pack.split_samples("train")["label"].tolist() == list(PATTERNS) * 2
    assert pack.array("train").dtype == np.float32 and pack.bands()[0].unit == "db"


def test_radar_and_optical_see_the_same_places(workspace):
    """Water is dark in both at the same pixels."""
    radar = make(workspace, "synthetic-s1", train=10).array("train")[9, 0]
    optical = make(workspace, "synthetic-s2", train=10).array("train")[9, 7]
    assert list(PATTERNS)[9] == "lake"
    water = optical < 900
    assert 0.05 < water.mean() < 0.4
    assert radar[water].mean() < radar[~water].mean() - 4


def test_segmentation_masks(workspace):
    pack = make(workspace, "synthetic-s2-segmentation", tile_size=64)
    masks = pack.array("train", "mask")
    layer = pack.layer("mask")
    assert masks.shape == (6, 1, 64, 64) and masks.dtype == np.uint8 and layer.role == "mask"
    assert layer.classes == list(LAND_COVER) and masks.max() < len(LAND_COVER)
    assert len(np.unique(masks)) >= 5
    infrared = pack.array("train")[:, 7][:, None]
    water, trees = masks == LAND_COVER.index("water"), masks == LAND_COVER.index("forest")
    assert water.any() and infrared[water].mean() < 0.6 * infrared[trees].mean()


def test_change_pairs(workspace):
    pack = make(workspace, "synthetic-rgb-change", tile_size=64, train=12)
    mask = pack.array("train", "mask")[:, 0].astype(bool)
    before, after = (pack.array("train", f"image_{w}").astype(float) for w in ("pre", "post"))
    assert pack.layer("mask").classes == ["unchanged", "changed"]
    assert 0.01 < mask.mean() < 0.4
    # Season and light differ everywhere; what changed differs more, once both are put on the same scale.
    for image in (before, after):
        image -= image.mean(axis=(2, 3), keepdims=True)
        image /= image.std(axis=(2, 3), keepdims=True)
    difference = np.abs(before - after).mean(axis=1)
    assert difference[mask].mean() > 1.3 * difference[~mask].mean()


def test_series_has_dates_of_one_place(workspace):
    pack = make(workspace, "synthetic-s2-series", tile_size=32, dates=4)
    rows = pack.split_samples("train")
    assert len(rows) == 6 * 4
    for _, place in rows.groupby("scene"):
        assert len(place) == 4 and place["label"].nunique() == 1
        assert place["date"].is_monotonic_increasing and place["date"].str[:4].nunique() == 1
        assert place["west"].nunique() == 1
    images = pack.array("train")
    assert not np.array_equal(images[0], images[1])


def test_options_shape_the_pack(workspace):
    pack = make(
        workspace,
        "synthetic",
        sensor="sentinel-2",
        bands=["B04", "B8A"],
        gsd_m=20.0,
        tile_size=24,
        val=2,
        product="scenes",
    )
    assert pack.info.splits == {"train": 6, "val": 2, "test": 4}
    assert [(b.name, b.gsd_m) for b in pack.bands()] == [("B04", 20.0), ("B8A", 20.0)]
    assert pack.layer().shape == (2, 24, 24) and pack.layer().gsd_m == 20.0
    assert "rendered to sentinel-2 at 20 m" in pack.info.source


@pytest.mark.parametrize(
    ("dataset", "extra", "text"),
    [
        ("synthetic-landsat7", {"options": {"colour": 1}}, "no option colour"),
        ("synthetic-landsat7", {"options": {"sensor": "rgb"}}, "always has sensor = landsat-7"),
        ("synthetic", {"options": {"product": "poems"}}, "no product 'poems'"),
        ("synthetic", {"options": {"sensor": "modis"}}, "no sensor 'modis'"),
        ("synthetic", {"options": {"train": -1}}, "Option train must be between 0"),
        ("synthetic", {"options": {"train": 0, "test": 0}}, "at least one tile"),
        ("synthetic", {"options": {"dates": 0}}, "Option dates must be between 1"),
        ("synthetic", {"options": {"tile_size": 32}}, "own field"),
        ("synthetic", {"options": {"seed": "a"}}, "must be a int"),
        ("synthetic", {"options": {"bands": ["B99"]}}, "no band"),
        ("synthetic", {"options": {"match": "nowhere"}}, "No pack at"),
        ("synthetic", {"options": {"detail_m": 0.5}}, "at most 2048"),
        ("synthetic", {"stride": 8}, "stride does not apply"),
        ("synthetic", {"source": "."}, "takes no folder"),
    ],
)
def test_what_makes_no_sense_is_refused(dataset, extra, text, workspace):
    with pytest.raises(RsfmError, match=text):
        prepare(PrepareSpec(dataset=dataset, **extra), workspace)


def statistics(pack):
    return {b.name: (b.statistics.mean, b.statistics.std) for b in pack.info.layers[0].bands}


def test_statistics_are_matched_by_name(workspace):
    model = make(
        workspace, "synthetic", "model", tile_size=32, sensor="landsat-7", seed=9, train=60,
        bands=["B7", "B6", "B5", "B4", "B3", "B2", "B1"],
    )  # fmt: skip
    # Another seed, another band order, other counts: close by construction only.
    plain = make(workspace, "synthetic-landsat7", "plain", tile_size=32, seed=1, train=120)
    matched = make(workspace, "synthetic-landsat7", "matched", tile_size=32, seed=1, train=120, match="model")
    wanted, got = statistics(model), statistics(matched)
    for name, (mean, std) in wanted.items():
        assert got[name][0] == pytest.approx(mean, abs=0.12 * std)
        assert got[name][1] == pytest.approx(std, rel=0.10)
    assert f"matched to model ({model.info.content_hash[:12]})" in matched.info.source
    assert matched.array("train").dtype == np.uint8 and plain.info.content_hash != matched.info.content_hash


def test_another_model_pack_is_another_request(workspace):
    make(workspace, "synthetic-landsat7", "model", tile_size=32, seed=1)
    first = make(workspace, "synthetic-landsat7", "matched", tile_size=32, match="model").info
    make(workspace, "synthetic-landsat7", "model", tile_size=32, seed=2)
    second = make(workspace, "synthetic-landsat7", "matched", tile_size=32, match="model").info
    assert first.request_hash != second.request_hash and first.content_hash != second.content_hash


def test_matching_refuses_other_bands_and_units(workspace):
    make(workspace, "synthetic-landsat8", "model", tile_size=32)
    with pytest.raises(RsfmError, match="band B1 is in reflectance"):
        make(workspace, "synthetic-landsat7", "matched", tile_size=32, match="model")
    with pytest.raises(RsfmError, match="none for band red"):
        make(workspace, "synthetic-rgb", "matched", tile_size=32, match="model")
