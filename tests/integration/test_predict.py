"""Whole scenes: what a trained network draws, and what it leaves."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import torch
from rasterio.transform import from_origin
from rio_cogeo.cogeo import cog_validate
from scenes_world import PLACES, ROOF, UTM, Lab, layer, write_scene, write_village

from rsfm.prediction_info import NODATA
from rsfm.specs import PredictSpec
from rsfm.store.files import read_jsonl
from rsfm.store.view import Store


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab.of(tmp_path_factory.mktemp("lab"))


@pytest.fixture
def village(tmp_path: Path) -> tuple[Path, Path, Path]:
    return write_village(tmp_path)


def iou(found: np.ndarray, true: np.ndarray) -> float:
    return (found & true).sum() / (found | true).sum()


def test_segmentation_of_a_scene(lab, village) -> None:
    _, scene, truth = village
    run, info = lab.predict(PredictSpec(evaluation=lab.segmentation, scene=str(scene), truth=str(truth)))
    true = rasterio.open(truth).read(1)
    assert iou(layer(run, "classes") == 1, true == 1) > 0.6
    assert [entry.kind for entry in info.layers] == ["image", "classes", "confidence", "errors"]
    for entry in info.layers:
        file = run.path / entry.file
        assert cog_validate(file, quiet=True)[0], file
        with rasterio.open(file) as made, rasterio.open(scene) as given:
            assert (made.crs, made.transform, made.shape) == (given.crs, given.transform, given.shape)
            if entry.kind == "image":
                assert made.descriptions == ("red", "green", "blue") and (made.read() == given.read()).all()
            else:
                assert made.nodata == NODATA and made.dtypes == ("uint8",)
            if entry.legend:
                colours = made.colormap(1)
                assert all("#{:02x}{:02x}{:02x}".format(*colours[m.value][:3]) == m.colour for m in entry.legend)
                names = json.loads(made.tags()["CLASS_NAMES"])
                assert names == {str(m.value): m.label for m in entry.legend}
                assert sum(m.share for m in entry.legend) == pytest.approx(1)
                area = info.scene.width * info.scene.height * 4 / 0.9996**2
                assert sum(m.area_m2 for m in entry.legend) == pytest.approx(area, rel=1e-4)
    assert [m.label for m in info.layer("classes").legend] == ["land", "roof"]
    confidence = layer(run, "confidence")
    assert confidence.min() >= 50 and confidence.max() <= 100, "percent of the better of two classes"
    assert info.scene.observed == 1 and info.scene.gsd_m == pytest.approx(2)
    assert info.model.evaluation == lab.segmentation and info.model.adaptation == "decoder"


def test_errors_and_scores_are_those_of_the_map(lab, village) -> None:
    _, scene, truth = village
    true = rasterio.open(truth).read(1)
    true[:30] = 255
    write_scene(truth, true[None], names=["truth"], nodata=255)
    run, info = lab.predict(PredictSpec(evaluation=lab.segmentation, scene=str(scene), truth=str(truth)))
    classes, errors = layer(run, "classes"), layer(run, "errors")
    counted = true != 255
    expected = np.where(counted, 2 * true + (true != classes), 255)
    np.testing.assert_array_equal(errors, expected)
    ious = [iou((classes == k) & counted, (true == k) & counted) for k in (0, 1)]
    assert info.scores.metrics["mean_iou"] == pytest.approx(np.mean(ious))
    assert info.scores.metrics["overall_accuracy"] == pytest.approx((classes == true)[counted].mean())
    assert [c.iou for c in info.scores.classes] == pytest.approx(ious)
    assert info.scores.pixels == counted.sum()
    metrics = read_jsonl(run.path / "metrics.jsonl")[0]
    assert metrics[-1]["values"]["scene/mean_iou"] == pytest.approx(np.mean(ious))


def test_change_between_two_scenes(lab, village) -> None:
    before, scene, truth = village
    run, info = lab.predict(
        PredictSpec(
            evaluation=lab.change, scene=str(scene), scene_before=str(before), truth=str(truth), min_area_m2=150,
            threshold=0.6,
        ),
    )  # fmt: skip
    kinds = ["image_before", "image", "change_probability", "changes", "errors"]
    assert [entry.kind for entry in info.layers] == kinds
    true, changes = rasterio.open(truth).read(1) == 1, layer(run, "changes")
    assert iou(changes == 1, true) > 0.6
    probability = layer(run, "change_probability")
    assert (probability[changes == 1] >= 60).all() and (probability[changes == 0] <= 60).all()
    errors = layer(run, "errors")
    tp, fp, fn = ((errors == code).sum() for code in (1, 2, 3))
    assert tp == ((changes == 1) & true).sum() and fp == ((changes == 1) & ~true).sum()
    assert info.scores.metrics["f1"] == pytest.approx(2 * tp / (2 * tp + fp + fn))
    assert (rasterio.open(run.path / info.layer("image_before").file).read() == rasterio.open(before).read()).all()

    degrees = geopandas.read_file(run.path / info.polygons.geojson)
    metres = geopandas.read_file(run.path / info.polygons.gpkg)
    assert degrees.crs == "EPSG:4326" and metres.crs == "EPSG:32633"
    assert len(degrees) == len(metres) == info.polygons.count == len(PLACES)
    np.testing.assert_allclose(metres.area, degrees["area_m2"], rtol=0.1, err_msg="but for the simplification")
    assert degrees["area_m2"].is_monotonic_decreasing and (degrees["area_m2"] >= 150).all()
    assert info.polygons.area_m2 == pytest.approx(degrees["area_m2"].sum(), abs=0.1 * len(degrees))
    boxes = [f"{500_000 + 2 * (left + ROOF / 2)} {5_000_000 - 2 * (top + ROOF / 2)}" for top, left in PLACES]
    points = geopandas.GeoSeries.from_wkt([f"POINT ({xy})" for xy in boxes], crs=metres.crs)
    assert all(metres.contains(point).sum() == 1 for point in points), "each new roof has its outline"
    assert all(degrees.contains(point).sum() == 1 for point in points.to_crs(4326))


def test_artifacts_are_announced_and_listed(lab, village) -> None:

    before, scene, _ = village
    run, info = lab.predict(PredictSpec(evaluation=lab.change, scene=str(scene), scene_before=str(before)))
    assert info.scores is None and info.layer("errors") is None
    assert not (run.path / "checkpoints" / "prediction").exists(), "what was needed to go on is gone"
    assert {f.name for f in (run.path / "artifacts").iterdir()} == {
        "image.tif", "image_before.tif", "change_probability.tif", "changes.tif", "changes.geojson", "changes.gpkg",
        "prediction.json",
    }  # fmt: skip
    store = Store(lab.workspace)
    store.refresh_if_stale()
    rows = store.artifacts(run.id)
    assert rows["ok"].all() and sorted(rows["kind"]) == ["prediction"] + ["raster"] * 4 + ["vector"] * 2
    assert {entry.file for entry in info.layers} <= set(rows["path"])


def test_what_is_not_observed_stays_so_in_every_layer(lab, village, tmp_path: Path) -> None:
    before, scene, truth = village
    holes = {}
    for path, part in ((before, np.s_[:, :, :50]), (scene, np.s_[:, 90:, :])):
        values = rasterio.open(path).read()
        values[part] = 0
        holes[path] = (values == 0).any(axis=0)
        write_scene(path, values, nodata=0)
    run, info = lab.predict(PredictSpec(evaluation=lab.segmentation, scene=str(scene), truth=str(truth)))
    for name in ("classes", "confidence", "errors"):
        np.testing.assert_array_equal(layer(run, name) == NODATA, holes[scene], err_msg=name)
    assert info.scene.observed == pytest.approx(1 - holes[scene].mean())
    pair = PredictSpec(evaluation=lab.change, scene=str(scene), scene_before=str(before))
    run, info = lab.predict(pair)
    for name in ("change_probability", "changes"):
        np.testing.assert_array_equal(layer(run, name) == NODATA, holes[scene] | holes[before], err_msg=name)
    # A no-data number that the file does not know can be given.
    unknown = write_scene(tmp_path / "plain.tif", rasterio.open(scene).read())
    run, _ = lab.predict(PredictSpec(evaluation=lab.segmentation, scene=str(unknown), nodata=0))
    np.testing.assert_array_equal(layer(run, "classes") == NODATA, holes[scene])
    with rasterio.open(run.path / "artifacts" / "image.tif") as image:
        assert image.nodata == 0


def test_an_earlier_scene_on_another_grid_is_resampled(lab, village, tmp_path: Path) -> None:
    before, scene, _ = village
    values = rasterio.open(before).read()
    wider = np.pad(values, ((0, 0), (5, 5), (5, 5)), mode="reflect")
    shifted = write_scene(tmp_path / "wide.tif", wider, crs=UTM["crs"], transform=from_origin(499_990, 5_000_010, 2, 2))
    spec = PredictSpec(evaluation=lab.change, scene=str(scene), scene_before=str(shifted))
    run, info = lab.predict(spec)
    assert any("wide.tif (the earlier scene) is on another grid" in remark for remark in info.remarks)
    with rasterio.open(run.path / "artifacts" / "image_before.tif") as image:
        assert image.shape == values.shape[1:] and np.abs(image.read().astype(int) - values).max() <= 1
    same, _ = lab.predict(spec.model_copy(update={"scene_before": str(before)}))
    assert (layer(run, "changes") != layer(same, "changes")).mean() < 0.01
    half = write_scene(tmp_path / "half.tif", values[:, :, :80])
    run, info = lab.predict(spec.model_copy(update={"scene_before": str(half)}))
    assert any("covers 50% of the scene" in remark for remark in info.remarks)
    np.testing.assert_array_equal(layer(run, "changes")[:, :79] == NODATA, False)
    np.testing.assert_array_equal(layer(run, "changes")[:, 81:] == NODATA, True)


def test_a_scene_without_a_place_has_no_polygons(lab, tmp_path: Path) -> None:
    files = [
        write_scene(tmp_path / file.name, rasterio.open(file).read(), crs=None, transform=None, nodata=0)
        for file in write_village(tmp_path)[:2]
    ]
    run, info = lab.predict(PredictSpec(evaluation=lab.change, scene=str(files[1]), scene_before=str(files[0])))
    assert info.polygons is None and info.scene.crs is None and info.scene.bounds is None
    assert layer(run, "changes").any() and any("no polygons" in remark for remark in info.remarks)


def test_bands_are_chosen_by_name_and_numbers_brought_to_the_unit(lab, village, tmp_path: Path) -> None:
    """The same scene with its bands in another order, more of them, as 16-bit numbers with a rule."""
    plain, _ = lab.predict(PredictSpec(evaluation=lab.segmentation, scene=str(village[1])))
    red, green, blue = rasterio.open(village[1]).read().astype(np.uint16)
    other = write_scene(
        tmp_path / "other.tif", np.stack([blue, red * 0, green, red]) * 4 + 8, names=["blue", "nir", "green", "red"]
    )
    spec = PredictSpec(evaluation=lab.segmentation, scene=str(other), unit="uint8", scale=0.25, offset=-2)
    run, info = lab.predict(spec)
    np.testing.assert_array_equal(layer(run, "classes"), layer(plain, "classes"))
    assert [b.name for b in info.layer("image").bands] == ["red", "green", "blue"]
    with rasterio.open(run.path / "artifacts" / "image.tif") as image:
        np.testing.assert_array_equal(image.read(1), red * 4 + 8)


def test_the_size_of_batches_and_tiles_does_not_show(lab, village) -> None:
    found = [
        layer(lab.predict(PredictSpec(evaluation=lab.segmentation, scene=str(village[1]), **settings))[0], "confidence")
        for settings in ({}, {"batch_size": 1}, {"overlap": 16})
    ]
    assert np.abs(found[0].astype(int) - found[1]).max() <= 1
    assert np.abs(found[0].astype(int) - found[2]).mean() < 3
