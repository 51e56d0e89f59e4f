"""Packs are written whole or not at all, and read back as they were given."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rsfm.bands import Band, sensor
from rsfm.errors import RsfmError
from rsfm.pack_arrays import write_arrays
from rsfm.pack_writer import PackWriter, check_pack_name
from rsfm.packs import SAMPLE_COLUMNS, BandInfo, LayerInfo, Pack, list_packs
from rsfm.workspace import Workspace


def _layer(dtype: str = "uint16", shape: tuple[int, int, int] = (2, 4, 4), **more) -> LayerInfo:
    bands = [BandInfo(name=f"b{i}", wavelength_nm=500 + i, gsd_m=10, unit="dn", scale=0.5) for i in range(shape[0])]
    return LayerInfo(dtype=dtype, shape=shape, bands=bands, gsd_m=10.0, sensor="camera", **more)


def _image(i: int, dtype: str = "uint16", shape: tuple[int, int, int] = (2, 4, 4)) -> np.ndarray:
    return np.random.default_rng(i).integers(0, 200, shape).astype(dtype)


@settings(deadline=None, max_examples=25)
@given(
    dtype=st.sampled_from(["uint8", "uint16", "int16", "int32", "float32", "float64"]),
    channels=st.integers(1, 5),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    counts=st.dictionaries(st.sampled_from(["train", "val", "test"]), st.integers(1, 7), min_size=1),
    seed=st.integers(0, 2**20),
)
def test_what_is_written_is_read(tmp_path_factory, dtype, channels, height, width, counts, seed):
    workspace = Workspace(tmp_path_factory.mktemp("ws"))
    rng = np.random.default_rng(seed)
    images = {s: (rng.normal(100, 30, (n, channels, height, width))).astype(dtype) for s, n in counts.items()}
    bands = [
        Band(f"b{i}", None, 10, "reflectance", scale=-0.25 if i == 1 else 1e-4, offset=0.5) for i in range(channels)
    ]
    labels = {s: [f"class{rng.integers(3)}" for _ in range(n)] for s, n in counts.items()}
    pack = write_arrays(workspace, "p", images, bands, labels=labels)

    assert pack.info.splits == counts
    assert pack.bands() == bands
    for split, image in images.items():
        stored = pack.array(split)
        assert stored.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(stored, image)
        assert [pack.info.classes[i] for i in pack.label_indices(split)] == labels[split]
        assert list(pack.split_samples(split)["id"]) == [f"{split}-{i:06d}" for i in range(counts[split])]
    assert tuple(pack.samples.columns) == SAMPLE_COLUMNS

    measured = images["train"] if "train" in images else np.concatenate(list(images.values()))
    for i, (band, info) in enumerate(zip(bands, pack.layer().bands, strict=True)):
        values = measured[:, i].astype(np.float64) * band.scale + band.offset
        got = info.statistics
        np.testing.assert_allclose([got.mean, got.std], [values.mean(), values.std()], rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose([got.min, got.max], [values.min(), values.max()], rtol=1e-9)
        assert got.count == values.size
        for mine, q in ((got.p2, 2), (got.p98, 98)):
            # between the two samples around the rank, within a bin's width of the stored value
            around = np.percentile(values, q, method="lower"), np.percentile(values, q, method="higher")
            slack = abs(band.scale) * np.abs(measured[:, i].astype(np.float64)).max() / 100 + 1e-9
            assert min(around) - slack <= mine <= max(around) + slack


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
def test_percentiles_of_short_integers_are_exact(workspace, dtype):
    values = np.random.default_rng(0).normal(90, 20, (50, 1, 16, 16)).clip(0, 255).astype(dtype)
    pack = write_arrays(workspace, "p", {"train": values}, [Band("b", None, 1, "dn")])
    got = pack.layer().bands[0].statistics
    assert got.p2 == np.percentile(values, 2, method="lower")
    assert got.p98 == np.percentile(values, 98, method="lower")


def test_statistics_leave_out_nodata_and_what_is_not_finite(workspace):
    image = np.array([[[[1.0, 3.0], [np.nan, -9999.0]]]], np.float32)
    layer = LayerInfo(dtype="float32", shape=(1, 2, 2), nodata=-9999.0, bands=[_layer().bands[0]])
    with PackWriter(workspace, "p", request_hash="r", layers=[layer]) as writer:
        writer.add(id="a", split="train", arrays={"image": image[0]})
        info = writer.finish(dataset="d", title="D")
    got = info.layers[0].bands[0].statistics
    assert (got.mean, got.std, got.min, got.max, got.count) == (1.0, 0.5, 0.5, 1.5, 2)  # scale 0.5


def test_statistics_come_from_the_training_split(workspace):
    images = {"train": np.full((3, 1, 2, 2), 4, np.uint8), "test": np.full((3, 1, 2, 2), 200, np.uint8)}
    pack = write_arrays(workspace, "p", images, [Band("b", None, 1, "dn")])
    assert pack.layer().bands[0].statistics.max == 4


def test_a_file_that_several_samples_need_is_named_once(workspace):
    with PackWriter(workspace, "p", request_hash="r", layers=[_layer()]) as writer:
        for path in ("a.png", "a.png", "b.png", "a.png"):
            writer.skip(path, "it is empty")
        writer.add(id="s", split="train", arrays={"image": _image(0)})
    with PackWriter(workspace, "p", request_hash="r", layers=[_layer()]) as writer:  # as the journal says
        assert writer.unusable == 4 and writer.position == 5
        assert [x.path for x in writer.skipped] == ["a.png", "b.png", "a.png"]


def test_same_request_continues_where_a_stopped_writer_was(workspace):
    def write(upto: int, finish: bool) -> tuple[int, object]:
        with PackWriter(workspace, "p", request_hash="r", layers=[_layer()]) as writer:
            start = writer.position
            for i in range(start, upto):
                if i == 3:
                    writer.skip("bad.tif", "it is empty")
                elif i == 4:
                    writer.drop("no data")
                else:
                    writer.add(id=f"s{i}", split="train" if i % 3 else "val", arrays={"image": _image(i)})
            return start, writer.finish(dataset="d", title="D") if finish else None

    assert write(7, finish=False)[0] == 0
    assert list_packs(workspace) == ([], {})
    # bytes that no journal row speaks of: a sample that was half written when the power went
    with (workspace.packs / ".preparing-p/arrays/train.image.bin").open("ab") as file:
        file.write(b"x" * 37)
    with (workspace.packs / ".preparing-p/arrays/test.image.bin").open("ab") as file:
        file.write(b"x" * 37)
    with (workspace.packs / ".preparing-p/journal.jsonl").open("ab") as file:
        file.write(b'{"id": "s7", "spl')
    start, info = write(12, finish=True)
    assert start == 7
    assert [s.path for s in info.skipped] == ["bad.tif"]
    assert any("no data" in n and n.startswith("1 ") for n in info.notes)
    assert not (workspace.packs / ".preparing-p").exists()

    other = Workspace(workspace.root / "uninterrupted")
    workspace = other
    assert write(12, finish=True)[1].content_hash == info.content_hash


def test_another_request_starts_anew(workspace):
    with PackWriter(workspace, "p", request_hash="one", layers=[_layer()]) as writer:
        writer.add(id="a", split="train", arrays={"image": _image(0)})
    with PackWriter(workspace, "p", request_hash="two", layers=[_layer()]) as writer:
        assert writer.position == 0
        writer.add(id="b", split="train", arrays={"image": _image(1)})
        writer.finish(dataset="d", title="D")
    assert list(Pack.named(workspace, "p").samples["id"]) == ["b"]


def test_lost_array_bytes_start_anew(workspace):
    with PackWriter(workspace, "p", request_hash="r", layers=[_layer()]) as writer:
        for i in range(3):
            writer.add(id=f"s{i}", split="train", arrays={"image": _image(i)})
    os.truncate(workspace.packs / ".preparing-p/arrays/train.image.bin", 10)
    with PackWriter(workspace, "p", request_hash="r", layers=[_layer()]) as writer:
        assert writer.position == 0
        writer.add(id="s0", split="train", arrays={"image": _image(0)})
        writer.finish(dataset="d", title="D")
    np.testing.assert_array_equal(Pack.named(workspace, "p").array("train")[0], _image(0))


def test_the_old_pack_stays_until_the_new_one_is_complete(workspace):
    bands = [Band("b", None, 1, "dn")]
    write_arrays(workspace, "p", {"train": np.zeros((2, 1, 2, 2), np.uint8)}, bands)
    layer = LayerInfo(dtype="uint8", shape=(1, 2, 2), bands=[_layer().bands[0]])
    with PackWriter(workspace, "p", request_hash="new", layers=[layer]) as writer:
        writer.add(id="n", split="train", arrays={"image": np.ones((1, 2, 2), np.uint8)})
        assert Pack.named(workspace, "p").info.splits == {"train": 2}
        writer.finish(dataset="d", title="D")
    assert Pack.named(workspace, "p").info.splits == {"train": 1}
    assert sorted(p.name for p in workspace.packs.iterdir() if p.is_dir()) == ["p"]


@pytest.mark.parametrize("complete", [True, False])
def test_a_kill_between_the_two_renames_is_mended(workspace, complete):
    bands = [Band("b", None, 1, "dn")]
    write_arrays(workspace, "p", {"train": np.zeros((2, 1, 2, 2), np.uint8)}, bands)
    write_arrays(workspace, "q", {"train": np.zeros((5, 1, 2, 2), np.uint8)}, bands)
    (workspace.packs / "p").rename(workspace.packs / ".old-p")
    if complete:
        (workspace.packs / "q").rename(workspace.packs / ".preparing-p")
    with PackWriter(workspace, "p", request_hash="other", layers=[_layer()]):
        assert Pack.named(workspace, "p").info.splits == {"train": 5 if complete else 2}
    assert not (workspace.packs / ".old-p").exists()


def test_equal_data_equal_hash_and_other_scale_other_hash(workspace):
    images = {"train": np.arange(16, dtype=np.uint16).reshape(1, 1, 4, 4)}
    band = sensor("sentinel-2").stored_as(["B02"], scale=1e-4)
    first = write_arrays(workspace, "a", images, band)
    same = write_arrays(workspace, "b", images, band)
    scaled = write_arrays(workspace, "c", images, sensor("sentinel-2").stored_as(["B02"], scale=1 / 65535))
    images["train"][0, 0, 0, 0] += 1
    changed = write_arrays(workspace, "d", images, band)
    hashes = [p.info.content_hash for p in (first, same, scaled, changed)]
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 3


def test_two_writers_of_one_pack(workspace):
    with PackWriter(workspace, "p", request_hash="r", layers=[_layer()]):  # noqa: SIM117
        with pytest.raises(RsfmError, match="being prepared by another process"):
            PackWriter(workspace, "p", request_hash="r", layers=[_layer()]).__enter__()


def test_samples_that_do_not_fit_are_refused(workspace):
    with PackWriter(workspace, "p", request_hash="r", layers=[_layer()]) as writer:
        writer.add(id="a", split="train", arrays={"image": _image(0)})
        with pytest.raises(RsfmError, match="unique"):
            writer.add(id="a", split="train", arrays={"image": _image(0)})
        with pytest.raises(RsfmError, match="uint8"):
            writer.add(id="b", split="train", arrays={"image": _image(0).astype(np.uint8)})
        with pytest.raises(RsfmError, match="layers"):
            writer.add(id="b", split="train", arrays={})
        with pytest.raises(RsfmError, match="label"):
            writer.finish(dataset="d", title="D", task="classification", classes=["x"])


def test_empty_pack_is_refused(workspace):
    with (
        PackWriter(workspace, "p", request_hash="r", layers=[_layer()]) as writer,
        pytest.raises(RsfmError, match="empty"),
    ):
        writer.finish(dataset="d", title="D")


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "a b", "-rf", "ä", "x" * 100])
def test_bad_names(name):
    with pytest.raises(RsfmError):
        check_pack_name(name)


def test_footprints_come_from_crs_and_transform(workspace):
    with PackWriter(workspace, "p", request_hash="r", layers=[_layer()]) as writer:
        writer.add(
            id="a", split="train", arrays={"image": _image(0)}, crs="EPSG:4326", transform=(0.5, 0, 10, 0, -0.25, 50)
        )
        writer.add(id="b", split="train", arrays={"image": _image(1)})
        writer.finish(dataset="d", title="D")
    samples = Pack.named(workspace, "p").samples
    assert samples.loc[0, ["west", "south", "east", "north"]].tolist() == [10, 49, 12, 50]
    assert pd.isna(samples.loc[1, "west"])


_KILLED = """
import sys, numpy as np
from rsfm.pack_writer import PackWriter
from rsfm.packs import BandInfo, LayerInfo
from rsfm.workspace import Workspace
import rsfm.pack_writer as w
w._FLUSH_BYTES = 40_000
layer = LayerInfo(dtype="uint16", shape=(3, 32, 32), bands=[
    BandInfo(name=f"b{i}", wavelength_nm=None, gsd_m=1, unit="dn") for i in range(3)])
with PackWriter(Workspace.resolve(sys.argv[1]), "p", request_hash="r", layers=[layer]) as writer:
    print(writer.position, flush=True)
    for i in range(writer.position, 600):
        image = np.random.default_rng(i).integers(0, 9000, (3, 32, 32)).astype(np.uint16)
        writer.add(id=f"s{i}", split="train" if i % 4 else "val", arrays={"image": image})
        if i % 50 == 49:
            print(i, flush=True)
    print(writer.finish(dataset="d", title="D").content_hash, flush=True)
"""


@pytest.mark.chaos
def test_killed_writers_end_in_the_same_pack(workspace, tmp_path):
    def start(root: Path) -> subprocess.Popen:
        return subprocess.Popen([sys.executable, "-c", _KILLED, str(root)], stdout=subprocess.PIPE, text=True)

    whole = start(tmp_path / "whole").communicate(timeout=60)[0].split()[-1]
    positions = []
    for lines in (3, 6, 9):
        process = start(workspace.root)
        for _ in range(lines):
            positions.append(process.stdout.readline()) if _ == 0 else process.stdout.readline()
        time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        if process.returncode == -signal.SIGKILL and not (workspace.packs / "p").exists():
            assert list_packs(workspace) == ([], {})
    out = start(workspace.root).communicate(timeout=60)[0].split()
    assert out[-1] == whole
    assert int(positions[1]) > 0  # it continued rather than began again
    assert Pack.named(workspace, "p").info.splits == {"train": 450, "val": 150}
