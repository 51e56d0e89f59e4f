"""Readers give what torchgeo's classes give, on the same small trees; the catalog knows what they know."""

from __future__ import annotations

import dataset_trees
import numpy as np
from dataset_trees import OSCD_CITIES, UC
from torchgeo.datasets import OSCD, RESISC45, BigEarthNet, BigEarthNetV2, EuroSAT, EuroSATSpatial, UCMerced

from data_catalog import entry
from data_catalog.prepare import prepare
from data_catalog.readers.bigearthnet import DROPPED, FOLDED
from data_catalog.readers.tiles import IGNORE
from rsfm.packs import Pack
from rsfm.specs import PrepareSpec


def pack_of(dataset: str, source, workspace, **spec) -> Pack:
    prepare(PrepareSpec(dataset=dataset, source=str(source), **spec), workspace)
    return Pack.named(workspace, dataset)


def test_uc_merced(tmp_path, workspace):
    uc_merced = dataset_trees.uc_merced(tmp_path)
    pack = pack_of("uc-merced", uc_merced, workspace)
    for split in UC:
        theirs = UCMerced(root=str(uc_merced), split=split)
        samples = pack.split_samples(split).sort_values("path")
        assert [p.rpartition("/")[2] for p in samples["path"]] == sorted(
            p.rpartition("/")[2] for p, _ in theirs.samples
        )
        for position, row in samples.iterrows():
            (index,) = [i for i, (p, _) in enumerate(theirs.samples) if p.endswith(row["path"])]
            sample = theirs[index]
            assert theirs.classes[int(sample["label"])] == row["label"]
            np.testing.assert_allclose(pack.array(split)[position], sample["image"].numpy(), atol=0.51)  # we round


def test_lists_and_archives_are_torchgeos():
    for name, known in (("uc-merced", UCMerced), ("eurosat-ms", EuroSAT), ("eurosat-spatial", EuroSATSpatial)):
        options = entry(name).reader_options
        assert {s: options["lists"].format(split=s) for s in known.splits} == known.split_filenames
        assert (options["images"], options["archive"]) == (known.base_dir, known.filename)
    options = entry("nwpu-resisc45").reader_options
    assert (options["images"], options["archive"]) == (RESISC45.directory, RESISC45.filename)
    files = {f.name: f for f in entry("nwpu-resisc45").download.resolve()}
    assert set(files) == {RESISC45.filename, *(options["lists"].format(split=s) for s in RESISC45.splits)}
    assert files["resisc45-val.txt"].md5 == RESISC45.split_md5s["val"]
    assert {f.name: f.md5 for f in entry("oscd").download.resolve()} == OSCD.md5s
    assert [b.name for b in entry("oscd").bands] == list(OSCD.all_bands)


def test_oscd(tmp_path, workspace):
    dataset_trees.oscd(tmp_path)
    pack = pack_of("oscd", tmp_path, workspace, tile_size=48)  # one tile holds a city whole
    for split, cities in OSCD_CITIES.items():
        theirs = OSCD(root=str(tmp_path), split=split)
        assert sorted(f["region"] for f in theirs.files) == sorted(cities)
        for file, sample in zip(theirs.files, theirs, strict=True):
            samples = pack.split_samples(split)
            (i,) = samples.index[samples["scene"] == file["region"]]
            height, width = sample["mask"].shape[1:]
            for layer, image in zip(("image_pre", "image_post"), sample["image"].numpy(), strict=True):
                np.testing.assert_array_equal(pack.array(split, layer)[i, :, :height, :width], image)
            mask = pack.array(split, "mask")[i]
            np.testing.assert_array_equal(mask[:, :height, :width], sample["mask"].numpy())
            assert (mask == IGNORE).sum() == 48 * 48 - height * width


def test_bigearthnet_v2(tmp_path, workspace):
    frame = dataset_trees.bigearthnet_v2(tmp_path)
    pack = pack_of("bigearthnet-v2", tmp_path, workspace, options={"s1": True})
    assert pack.info.task == "multilabel" and pack.info.splits == {"train": 2, "val": 1, "test": 1}
    assert pack.info.classes == list(BigEarthNetV2.class_set)
    assert any(n.endswith("lacks their tiles: 1 of the patches in the metadata.") for n in pack.info.notes)
    assert [x.dtype for x in pack.info.layers] == ["uint16", "float32"]
    for split in ("train", "val", "test"):
        theirs = BigEarthNetV2(root=str(tmp_path), split=split, bands="all")
        theirs.metadata_df = theirs.metadata_df[theirs.metadata_df["patch_id"].isin(pack.samples["id"])]
        for i, row in pack.split_samples(split).iterrows():
            index = theirs.metadata_df.index[theirs.metadata_df["patch_id"] == row["id"]][0]
            np.testing.assert_array_equal(pack.array(split)[i], theirs._load_image(index, "s2").numpy())
            # theirs casts decibels to integers, in the order of the file names (VH before VV)
            np.testing.assert_allclose(
                pack.array(split, "image_s1")[i, ::-1], theirs._load_image(index, "s1").numpy(), atol=1
            )
            assert list(row["labels"]) == list(frame.loc[frame["patch_id"] == row["id"], "labels"].iloc[0])
    first = pack.split_samples("train").iloc[0]
    assert first["scene"] and first["id"].startswith(f"{first['scene']}_"), "patches of one product"
    assert (first["date"], first["gsd_m"], first["crs"]) == ("2017-06-13", 10.0, "EPSG:32633")
    assert list(first["transform"])[:3] == [10, 0, 404_400]


def test_the_19_classes_are_torchgeos():
    fine, coarse = BigEarthNet.class_sets[43], BigEarthNet.class_sets[19]
    assert {fine[k]: coarse[v] for k, v in BigEarthNet.label_converter.items()} == FOLDED
    assert set(fine) == set(FOLDED) | set(DROPPED)
    assert entry("bigearthnet-v1").classes == entry("bigearthnet-v2").classes == coarse
