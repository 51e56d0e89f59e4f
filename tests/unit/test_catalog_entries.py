"""Entries load without data or network, and say what they know."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from data_catalog import entries, entry
from data_catalog.entry import DatasetEntry, read_registered, write_registered
from data_catalog.prepare import prepare
from rsfm.errors import RsfmError
from rsfm.registry import load
from rsfm.specs import PrepareSpec

NAMED_BY_THE_FIELD = {
    "eurosat-ms", "eurosat-100", "millionaid", "image-folder", "scene", "landsat7-sample", "uc-merced", "nwpu-resisc45",
    "levir-cd", "cdd", "oscd", "bigearthnet-v1", "bigearthnet-v2", "fmow-sentinel", "fmow-rgb", "segmunich",
    "msc-france", "ssl4eo-s12", "xview2", "s2looking", "whu-cd", "pastis", "treesatai-ts", "flair2",
}  # fmt: skip
READABLE = {
    "eurosat-ms", "eurosat-100", "eurosat-spatial", "uc-merced", "nwpu-resisc45", "millionaid", "bigearthnet-v1",
    "bigearthnet-v2", "levir-cd", "levir-cd-plus", "cdd", "dsifn-cd", "oscd", "segmunich", "image-folder", "scene",
    "segmentation-folder", "change-folder",
}  # fmt: skip


def test_all_expected_entries_are_there():
    assert set(entries()) >= NAMED_BY_THE_FIELD


@pytest.mark.parametrize("name", sorted(READABLE))
def test_what_can_be_read_says_how_it_lies_on_disk(name):
    found = entry(name)
    assert found.ready and found.layout
    masks = [layer for layer in found.layers if layer.role == "mask"]
    assert found.generic or bool(masks) is (found.task in ("segmentation", "change"))
    for mask in masks:
        assert mask.classes and "coding" in found.reader_options


@pytest.mark.parametrize("name", sorted(entries()))
def test_entry_is_complete(name):
    found = entry(name)
    assert found.title and found.summary and found.facts and "\n" not in found.summary
    if found.reader is not None:
        assert callable(load(found.reader))
    for layer in found.layers:
        assert len({b.name for b in layer.bands}) == len(layer.bands)
        assert layer.role == "mask" or layer.bands
    for values in found.statistics.values():
        assert len(values) == len(found.bands)
        assert found.statistics_source
    if found.download is not None:
        assert found.download.target or found.download.files


def test_datasets_without_reader_say_so(workspace):
    assert not entry("fmow-sentinel").ready
    with pytest.raises(RsfmError, match="no reader yet"):
        prepare(PrepareSpec(dataset="fmow-sentinel"), workspace)


def test_b8a_is_the_last_band_of_eurosat_files():
    for name in ("eurosat-ms", "eurosat-100"):
        bands = entry(name).bands
        assert bands[-1].name == "B8A" and bands[-1].wavelength_nm == 865
        assert [b.name for b in bands[7:10]] == ["B08", "B09", "B10"]
        assert {b.scale for b in bands} == {1e-4}


def test_catalog_agrees_with_torchgeo():
    from torchgeo.datasets import EuroSAT, EuroSAT100, EuroSATSpatial

    for name, known in (("eurosat-ms", EuroSAT), ("eurosat-100", EuroSAT100), ("eurosat-spatial", EuroSATSpatial)):
        assert [b.name for b in entry(name).bands] == list(known.all_band_names)
        files = {f.name: f for f in entry(name).download.resolve()}
        assert files[known.filename].md5 == known.md5 and files[known.filename].unpack
        assert set(files) == {known.filename, *known.split_filenames.values()}


@pytest.mark.parametrize(
    ("typo", "meant"), [("eurosat", "eurosat-ms"), ("levircd", "levir-cd"), ("Landsat7", "landsat7")]
)
def test_unknown_name_suggests_close_ones(typo, meant):
    with pytest.raises(RsfmError, match=meant):
        entry(typo)


def test_registered_entries_survive_a_round_trip_and_a_broken_neighbour(workspace):
    mine = entry("landsat7-sample").model_copy(update={"name": "mine", "default_source": "/data/x.tif"})
    write_registered(mine, workspace)
    (workspace.datasets / "broken.json").write_text("{")
    (workspace.datasets / "liar.json").write_text(json.dumps({"name": "other", "title": "x"}))
    assert entries(workspace)["mine"] == mine.model_copy(update={"registered": True})
    assert set(read_registered(workspace)[1]) == {"broken", "liar"}
    with pytest.raises(RsfmError, match="broken"):
        entry("broken", workspace)


def test_built_in_names_are_taken(workspace):
    with pytest.raises(RsfmError, match="built-in"):
        write_registered(entry("landsat7-sample"), workspace)


@pytest.mark.parametrize("name", ["../evil", "a/b", "", ".x"])
def test_entry_names_are_safe(name):
    with pytest.raises(RsfmError, match="cannot be a name"):
        DatasetEntry(name=name, title="x")


def test_listing_is_light():
    code = (
        "import sys, data_catalog; assert data_catalog.entries();"
        "print(sorted(m for m in ('torch', 'torchgeo', 'rasterio', 'localtileserver') if m in sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
