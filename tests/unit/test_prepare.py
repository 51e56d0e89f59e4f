"""Preparing packs: what is read, what is refused, what is left out."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.warp
from PIL import Image
from rasterio.transform import from_origin
from rasters import BANDS, SIZE, reflectance, write_tif

from data_catalog.add import understand
from data_catalog.entry import write_registered
from data_catalog.prepare import dry_run, prepare
from rsfm.errors import RsfmError
from rsfm.packs import Pack
from rsfm.specs import PrepareSpec
from rsfm.store.job import Stopped


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve good reflectance images in two classes, Sentinel-2 red, green, blue, with labels.csv."""
    root = tmp_path / "tiles"
    rows = []
    for i in range(12):
        name = f"{'field' if i % 2 else 'water'}_{i}.tif"
        write_tif(
            root / name, reflectance(i), descriptions=["B04", "B03", "B02"],
            crs="EPSG:32633", transform=from_origin(500_000 + 200 * i, 5_000_000, 10, 10),
        )  # fmt: skip
        rows.append((name, name.split("_")[0], "train" if i < 9 else "test"))
    write_labels(root, rows)
    return root


def write_labels(root: Path, rows: list[tuple[str, ...]], header: tuple[str, ...] = ("file", "label", "split")) -> None:
    with (root / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def add_label(root: Path, name: str, label: str = "field", split: str = "train") -> None:
    with (root / "labels.csv").open("a", newline="") as file:
        csv.writer(file).writerow((name, label, split))


def registered(folder: Path, workspace, **known) -> PrepareSpec:
    known = {"unit": "reflectance", "scale": 1e-4, "sensor_name": "sentinel-2", **known}
    write_registered(understand(folder, "tiles", **known).entry, workspace)
    return PrepareSpec(dataset="tiles")


def test_folder_with_labels(folder, workspace):
    spec = registered(folder, workspace)
    assert any("9 train" in line for line in dry_run(spec, workspace))
    info = prepare(spec, workspace)
    pack = Pack.named(workspace, "tiles")
    assert info.splits == {"train": 9, "test": 3}
    assert (info.task, info.classes) == ("classification", ["field", "water"])
    assert [b.name for b in pack.bands()] == ["B04", "B03", "B02"]
    first = pack.split_samples("test").iloc[0]
    number = int(first["path"].split("_")[1].split(".")[0])
    np.testing.assert_array_equal(pack.array("test")[0], reflectance(number))
    assert first["gsd_m"] == pytest.approx(10)
    with rasterio.open(folder / first["path"]) as file:
        west, south, east, north = rasterio.warp.transform_bounds(file.crs, "EPSG:4326", *file.bounds)
    np.testing.assert_allclose(
        first[["west", "south", "east", "north"]].tolist(), [west, south, east, north], atol=1e-9
    )
    stats = pack.layer().bands[0].statistics
    assert stats.mean == pytest.approx(pack.array("train")[:, 0].mean() * 1e-4, rel=1e-9)


BAD = {
    "empty": (lambda p: p.write_bytes(b""), "empty"),
    "not an image": (lambda p: p.write_bytes(b"hello" * 50), "cannot be decoded"),
    "truncated": (
        lambda p: (write_tif(p, reflectance(1, (BANDS, 64, 64))), p.write_bytes(p.read_bytes()[:9000])),
        "cannot be decoded",
    ),
    "missing": (lambda p: None, "cannot be opened"),
    "band count": (lambda p: write_tif(p, reflectance(1, (2, SIZE, SIZE))), "2 bands instead of 3"),
    "dtype": (lambda p: write_tif(p, (reflectance(1) // 20).astype(np.uint8)), "uint8"),
    "constant": (lambda p: write_tif(p, np.zeros((BANDS, SIZE, SIZE), np.uint16)), "constant"),
    "nodata only": (lambda p: write_tif(p, np.full((BANDS, SIZE, SIZE), 65535, np.uint16)), "constant"),
    "too bright": (
        lambda p: write_tif(p, reflectance(1) * 15),
        "median reflectance",
    ),
    "too dark": (lambda p: write_tif(p, (reflectance(1) // 1000).astype(np.uint16)), "largest reflectance"),
    "size": (lambda p: write_tif(p, reflectance(1, (BANDS, SIZE, SIZE + 4))), "12 x 16 pixels"),
    "band order": (
        lambda p: write_tif(p, reflectance(1), descriptions=["B02", "B03", "B04"]),
        "the entry says B04 B03 B02",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", sorted(BAD))
def test_bad_files_are_named_and_skipped_or_refused(folder, workspace, kind):
    make, reason = BAD[kind]
    spec = registered(folder, workspace)
    make(folder / "planted.tif")
    add_label(folder, "planted.tif")
    info = prepare(spec, workspace)
    assert info.splits == {"train": 9, "test": 3}
    (skipped,) = info.skipped
    assert skipped.path == "planted.tif" and reason in skipped.reason
    assert str(folder) not in skipped.reason
    assert any(n.startswith(("1 file (", "1 file, ")) for n in info.notes)
    with pytest.raises(RsfmError, match=r"planted\.tif"):
        prepare(spec.model_copy(update={"on_bad": "refuse"}), workspace)
    assert Pack.named(workspace, "tiles").info.content_hash == info.content_hash  # the old pack stands


@pytest.mark.parametrize("share", [1.0, 0.3])
def test_values_that_are_not_finite(tmp_path, workspace, share):
    root = tmp_path / "db"
    for i in range(6):
        write_tif(root / f"{i}.tif", np.random.default_rng(i).normal(-12, 4, (2, SIZE, SIZE)).astype(np.float32))
    holes = np.random.default_rng(9).normal(-12, 4, (2, SIZE, SIZE)).astype(np.float32)
    holes[np.random.default_rng(1).random(holes.shape) < share] = np.nan
    write_tif(root / "holes.tif", holes)
    write_tif(root / "linear.tif", 10 ** (holes / 10) if share < 1 else np.abs(np.nan_to_num(holes)) + 1)
    write_registered(understand(root, "db", unit="db", bands=["VV", "VH"], sensor_name="sentinel-1").entry, workspace)
    info = prepare(PrepareSpec(dataset="db"), workspace)
    assert info.splits == {"train": 6}
    reasons = {s.path: s.reason for s in info.skipped}
    assert "finite" in reasons["holes.tif"]
    assert set(reasons) == {"holes.tif", "linear.tif"}


def test_sixteen_bit_content_in_an_eight_bit_dataset(tmp_path, workspace):
    root = tmp_path / "photos"
    root.mkdir()
    for i in range(5):
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (SIZE, SIZE, 3), np.uint8)).save(root / f"{i}.png")
    write_tif(root / "x.tif", reflectance(1))
    Image.fromarray(np.zeros((SIZE, SIZE), np.uint8)).save(root / "grey.png")
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (SIZE, SIZE, 4), np.uint8), "RGBA").save(
        root / "alpha.png"
    )
    (root / "cut.jpg").write_bytes(_jpeg()[:700])
    write_registered(understand(root, "photos").entry, workspace)
    info = prepare(PrepareSpec(dataset="photos"), workspace)
    assert info.splits == {"train": 5} and info.task == "unlabelled"
    reasons = {s.path: s.reason for s in info.skipped}
    assert "uint16" in reasons["x.tif"] and "uint8" in reasons["x.tif"]
    assert "1 bands" in reasons["grey.png"] and "4 bands" in reasons["alpha.png"]
    assert "cannot be decoded" in reasons["cut.jpg"]


def _jpeg() -> bytes:
    import io

    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def test_mostly_bad_data_are_refused(folder, workspace):
    spec = registered(folder, workspace)
    for i in range(7):
        next(folder.glob(f"*_{i}.tif")).write_bytes(b"")
    with pytest.raises(RsfmError, match=r"More than half of the 12 samples.*water_0.tif the file is empty"):
        prepare(spec, workspace)
    with pytest.raises(RsfmError):
        Pack.named(workspace, "tiles")


def test_unlabelled_image_in_a_labelled_folder(folder, workspace):
    spec = registered(folder, workspace)
    write_tif(folder / "extra.tif", reflectance(77))
    add_label(folder, "extra.tif", label="")
    write_tif(folder / "unlisted.tif", reflectance(78))
    info = prepare(spec, workspace)
    assert [(s.path, s.reason) for s in info.skipped] == [("extra.tif", "has no label")]
    assert any("Not used, for labels.csv does not name them: 1 image." in n for n in info.notes)


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        (("name", "label"), [("a.tif", "x")], "file,label"),
        (("file", "label"), [("../a.tif", "x")], "not a file below"),
        (("file", "label"), [("/etc/a.tif", "x")], "not a file below"),
        (("file", "label"), [("a.tif", "x"), ("a.tif", "y")], "twice"),
        (("file", "label"), [], "names no image"),
        (("file", "label", "split"), [("a.tif", "x", "train"), ("b.tif", "x", "")], "have no split"),
    ],
)
def test_label_lists_that_cannot_be_understood(folder, workspace, header, rows, message):
    spec = registered(folder, workspace)
    write_labels(folder, rows, header)
    with pytest.raises(RsfmError, match=message):
        prepare(spec, workspace)


def test_second_prepare_does_nothing_until_the_data_change(folder, workspace):
    spec = registered(folder, workspace)
    first = prepare(spec, workspace)
    read = []
    again = prepare(spec, workspace, progress=lambda *a: read.append(a))
    assert again == first and read == []
    write_tif(folder / "water_0.tif", reflectance(99))
    changed = prepare(spec, workspace)
    assert changed.content_hash != first.content_hash and changed.request_hash != first.request_hash


def test_stopped_prepare_continues_to_the_same_pack(folder, workspace, tmp_path):
    from rsfm.workspace import Workspace

    whole = prepare(registered(folder, other := Workspace(tmp_path / "other")), other)
    spec = registered(folder, workspace)
    seen: list[int] = []
    with pytest.raises(Stopped):
        prepare(spec, workspace, progress=lambda done, *_: seen.append(done), should_stop=lambda: len(seen) > 5)
    assert not (workspace.packs / "tiles").exists()
    started: list[tuple[int, str]] = []
    info = prepare(spec, workspace, progress=lambda done, _, phase: started.append((done, phase)))
    assert info.content_hash == whole.content_hash
    assert started[-1][1] == "statistics"


def test_image_size_resamples_antialiased(tmp_path, workspace):
    root = tmp_path / "mixed"
    for i, (height, width) in enumerate([(32, 32), (32, 32), (48, 32), (16, 24)]):
        write_tif(
            root / f"{i}.tif", reflectance(i, (BANDS, height, width)),
            crs="EPSG:32633", transform=from_origin(500_000, 5_000_000, 10, 10),
        )  # fmt: skip
    spec = registered(root, workspace, bands=["B04", "B03", "B02"])
    mixed = prepare(spec, workspace)
    assert {s.path for s in mixed.skipped} == {"2.tif", "3.tif"}  # without a size, the usual one wins, by name
    info = prepare(spec.model_copy(update={"image_size": 8}), workspace)
    assert info.splits == {"train": 4} and info.layers[0].shape == (3, 8, 8)
    assert info.layers[0].gsd_m == pytest.approx(40)
    pack = Pack.named(workspace, "tiles")
    # against Pillow on 8 bits would round; against the area mean, the triangle filter keeps the mean of the inside
    source = reflectance(0, (BANDS, 32, 32)).astype(float)
    assert pack.array("train")[0].mean() == pytest.approx(source.mean(), rel=0.03)
    assert pack.array("train")[0].std() < source.std() / 3  # noise is averaged away, not picked out
    samples = pack.split_samples("train")
    assert samples["gsd_m"].tolist() == pytest.approx([40, 40, 40, 20])
    tall = samples.iloc[2]["transform"]
    assert tall[5] == pytest.approx(5_000_000 - 8 * 10)  # cropped by 8 of 48 rows at the top


def test_limit_takes_some_of_every_class(folder, workspace):
    spec = registered(folder, workspace).model_copy(update={"limit": 5})
    info = prepare(spec, workspace)
    assert info.splits == {"train": 5, "test": 3}
    assert set(Pack.named(workspace, "tiles").split_samples("train")["label"]) == {"field", "water"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"options": {"nonsense": 1}}, "no option nonsense"),
        ({"options": {"split_seed": "x"}}, "must be a int"),
        ({"tile_size": 32}, "ready-made images"),
        ({"source": "/nowhere/at/all"}, "nothing at"),
        ({"name": "../up"}, "cannot be a name"),
    ],
)
def test_requests_that_cannot_be_met_are_refused(folder, workspace, change, message):
    spec = registered(folder, workspace).model_copy(update=change)
    with pytest.raises(RsfmError, match=message):
        prepare(spec, workspace)


def test_no_room(folder, workspace, monkeypatch):
    import shutil

    spec = registered(folder, workspace)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1000, 900, 100))
    with pytest.raises(RsfmError, match="Make room"):
        dry_run(spec, workspace)


def test_class_folders_get_a_stratified_seeded_split(tmp_path, workspace):
    root = tmp_path / "classes"
    for label in ("a", "b"):
        for i in range(10):
            write_tif(root / label / f"{i}.tif", reflectance(hash(label) % 99 + i))
    spec = registered(root, workspace, bands=["B04", "B03", "B02"])
    info = prepare(spec, workspace)
    samples = Pack.named(workspace, "tiles").samples
    assert samples.groupby(["label", "split"]).size().to_dict() == {
        ("a", "test"): 2, ("a", "train"): 8, ("b", "test"): 2, ("b", "train"): 8,
    }  # fmt: skip
    assert any("seed 0" in n for n in info.notes)
    other = prepare(spec.model_copy(update={"options": {"split_seed": 1}}), workspace)
    assert other.content_hash != info.content_hash


def test_split_folders(tmp_path, workspace):
    root = tmp_path / "splits"
    for split, number in (("train", 3), ("Validation", 2)):
        for label in ("a", "b"):
            for i in range(number):
                write_tif(root / split / label / f"{i}.tif", reflectance(i + number))
    info = prepare(registered(root, workspace, bands=["B04", "B03", "B02"]), workspace)
    assert info.splits == {"train": 6, "val": 4}


def test_two_prepares_of_one_pack(folder, workspace):
    spec = registered(folder, workspace)

    def nested(done, total, phase):
        if done == 3:
            with pytest.raises(RsfmError, match="being prepared by another process"):
                prepare(spec, workspace)

    prepare(spec, workspace, progress=nested)


def test_job(folder, workspace, capsys):
    from data_catalog.prepare import run_job
    from rsfm.store.job import JobContext
    from rsfm.store.runs import create_run

    spec = registered(folder, workspace)
    context = JobContext(workspace, create_run(workspace, spec), 1)
    context.folder.request("stop")
    with pytest.raises(Stopped):
        run_job(spec, context)
    context.folder.clear_request("stop")
    run_job(spec, context)
    assert context.folder.progress()["done"] == 12
    assert "9 train, 3 test" in capsys.readouterr().out
