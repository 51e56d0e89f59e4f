"""Predictions that cannot be: said before they are queued."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from rasterio.transform import from_origin
from scenes_world import LINEAR, RGB8, Lab, evaluated, make_pack, write_scene, write_village

from rsfm.errors import RsfmError
from rsfm.inference.predict import dry_run
from rsfm.network_info import find_network
from rsfm.pack_arrays import write_arrays
from rsfm.specs import EvaluateSpec, PredictSpec, PrepareSpec
from rsfm.store.runs import create_run
from rsfm.workspace import Workspace


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab.of(tmp_path_factory.mktemp("lab"), **LINEAR)


@pytest.fixture
def village(tmp_path: Path) -> tuple[Path, Path, Path]:
    return write_village(tmp_path)


def test_scenes_that_do_not_suit(lab, village, tmp_path: Path) -> None:
    before, scene, truth = (str(path) for path in village)
    values = rasterio.open(scene).read()
    elsewhere = str(
        write_scene(tmp_path / "far.tif", values, crs="EPSG:4326", transform=from_origin(3, 40, 1e-5, 1e-5))
    )
    two = str(write_scene(tmp_path / "two.tif", values[:2], names=["red", "green"]))
    floats = str(write_scene(tmp_path / "float.tif", values.astype(np.float32) / 255))
    small = str(write_scene(tmp_path / "small.tif", values[:, :40, :40], crs=None, transform=None))
    lab.refuses("do not overlap", evaluation=lab.change, scene=scene, scene_before=elsewhere)
    lab.refuses("must have the same size", evaluation=lab.change, scene=scene, scene_before=small)
    lab.refuses("give scene_before", evaluation=lab.change, scene=scene)
    lab.refuses("leave it out", evaluation=lab.segmentation, scene=scene, scene_before=before)
    lab.refuses("no band blue", evaluation=lab.segmentation, scene=two)
    lab.refuses("float32 numbers and the model was trained on uint8", evaluation=lab.segmentation, scene=floats)
    lab.refuses("is in reflectance and the model takes uint8", evaluation=lab.segmentation, scene=floats,
            unit="reflectance")  # fmt: skip
    lab.refuses("There is no file", evaluation=lab.segmentation, scene=str(tmp_path / "none.tif"))
    lab.refuses("at most half of a tile", evaluation=lab.segmentation, scene=scene, overlap=20)
    for number in (-9999, 256, 0.5):
        lab.refuses("cannot be a number of after.tif, which holds uint8", evaluation=lab.segmentation, scene=scene,
                nodata=number)  # fmt: skip
    lab.refuses("class numbers are one band", evaluation=lab.segmentation, scene=scene, truth=scene)
    lab.refuses("has 3 numbers for 2 classes", evaluation=lab.segmentation, scene=scene, truth=truth,
            truth_values=[0, 1, 2])  # fmt: skip


def test_settings_of_change_where_there_is_none(lab, village, tmp_path: Path) -> None:
    before, scene, _ = (str(path) for path in village)
    for name, value in (("threshold", 0.6), ("min_area_m2", 9.0), ("simplify_px", 2.0)):
        lab.refuses(f"would use {name}={value}: the network detects no change", evaluation=lab.segmentation,
                    scene=scene, **{name: value})  # fmt: skip
    nowhere = [
        str(write_scene(tmp_path / f"{i}.tif", rasterio.open(path).read(), crs=None, transform=None))
        for i, path in enumerate((before, scene))
    ]
    pair = {"evaluation": lab.change, "scene_before": nowhere[0], "scene": nowhere[1]}
    lab.refuses(r"would use simplify_px=2.0: 1.tif has no place on Earth", **pair, simplify_px=2.0)
    dry_run(PredictSpec(**pair, threshold=0.6), lab.workspace)


def test_numbers_of_another_world_are_refused_where_their_meaning_was_assumed(
    workspace: Workspace, village, tmp_path: Path
) -> None:
    values = rasterio.open(village[1]).read()
    rng = np.random.default_rng(0)
    other = Lab(workspace, evaluated(workspace, make_pack(workspace, pairs=False), **LINEAR), "")
    file = find_network(workspace, other.segmentation).folder(workspace) / "network.json"
    file.write_text(file.read_text().replace('"dtype":"uint8","shape":[3', '"dtype":"uint16","shape":[3'))
    wide = (values.astype(np.uint16) * 200 + rng.integers(0, 200, values.shape)).astype(np.uint16)
    scene = str(write_scene(tmp_path / "wide.tif", wide))
    other.refuses("its numbers mean something else", evaluation=other.segmentation, scene=scene)
    for scale, wrong in ((1, True), (1 / 200, False)):
        spec = PredictSpec(evaluation=other.segmentation, scene=scene, unit="uint8", scale=scale)
        assert any("that was given looks wrong" in remark for remark in dry_run(spec, workspace)) == wrong


def test_a_file_that_is_cut_off(lab, village) -> None:
    scene = village[1]
    write_scene(scene, rasterio.open(scene).read(), compress="deflate", blockysize=8)
    data = scene.read_bytes()
    scene.write_bytes(data[: len(data) * 3 // 4])
    rasterio.open(scene).close()
    lab.refuses("after.tif cannot be read, .*(cut off|damaged)", evaluation=lab.segmentation, scene=str(scene))
    scene.write_bytes(data[:100])
    lab.refuses("after.tif is not a raster", evaluation=lab.segmentation, scene=str(scene))


def test_a_truth_with_unknown_numbers(lab, village) -> None:
    _, scene, truth = village
    values = rasterio.open(truth).read() * 7
    write_scene(truth, values, names=["truth"])
    spec = PredictSpec(evaluation=lab.segmentation, scene=str(scene), truth=str(truth))
    with pytest.raises(RsfmError, match=r"holds 7 at row .* stands for none of the 2 classes"):
        lab.predict(spec)
    _, info = lab.predict(spec.model_copy(update={"truth_values": [0, 7]}))
    assert info.scores.pixels == values.size


def test_a_truth_whose_class_is_called_missing_counts(lab, village) -> None:
    _, scene, truth = village
    values = rasterio.open(truth).read()
    write_scene(truth, values, names=["truth"], nodata=0)
    _, info = lab.predict(PredictSpec(evaluation=lab.segmentation, scene=str(scene), truth=str(truth)))
    assert info.scores.pixels == values.size and any("it counts as land" in remark for remark in info.remarks)


def test_runs_without_a_network(lab, village, tmp_path: Path) -> None:
    scene = str(village[1])
    lab.refuses("There is no run", evaluation="20260101-000000-nothing-0000", scene=scene)
    lab.refuses("has no network of finetune; it has linear with seed 0", evaluation=lab.segmentation, scene=scene,
            adaptation="finetune")  # fmt: skip
    lab.refuses("has no network of seed 4", evaluation=lab.segmentation, scene=scene, eval_seed=4)
    prepared = create_run(lab.workspace, PrepareSpec(dataset="synthetic-landsat7"))
    lab.refuses("is no evaluation", evaluation=prepared.id, scene=scene)
    images = np.random.default_rng(0).integers(0, 255, (20, 3, 8, 8)).astype(np.uint8)
    split = {"train": images, "test": images}
    write_arrays(lab.workspace, "labels", split, RGB8, labels={name: ["a", "b"] * 10 for name in split})
    classified = evaluated(lab.workspace, "labels", **LINEAR)
    lab.refuses("no trained network that draws maps", evaluation=classified, scene=scene)
    queued = create_run(lab.workspace, EvaluateSpec(model="band-stats", dataset="fields"))
    lab.refuses("that has ended", evaluation=queued.id, scene=scene)


def test_a_request_says_itself_what_cannot_be() -> None:
    for bad, message in (
        ({"tile_size": 64, "overlap": 40}, "at most half"),
        ({"scale": 0, "unit": "dn"}, "must not be 0"),
        ({"scale": 2}, "need the unit"),
        ({"bands": ["red", "red"]}, "names a value twice"),
        ({"truth_values": [0, 1]}, "give truth too"),
    ):
        with pytest.raises(ValueError, match=message):
            PredictSpec(evaluation="e", scene="s", **bad)


def test_dry_run_says_what_is_assumed_and_how_long_it_takes(lab, village) -> None:
    remarks = " ".join(dry_run(PredictSpec(evaluation=lab.segmentation, scene=str(village[1])), lab.workspace))
    assert "after.tif: uint8 = stored, as in the pack of the training" in remarks
    assert "35 tiles of 32 pixels, about" in remarks
