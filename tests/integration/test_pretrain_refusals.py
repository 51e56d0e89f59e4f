"""Pretrainings that cannot be: refused before they start."""

from __future__ import annotations

import json
import re
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from training_world import attempt, dry_run, make_spec, make_world, spec_of, start, what_it_builds_on

from rsfm.errors import RsfmError
from rsfm.registry import METHODS

torch.set_num_threads(1)


@pytest.fixture
def world(workspace):
    return make_world(workspace)


def test_dry_run_says_what_it_found(world):
    remarks = " ".join(dry_run(make_spec(image_size=16, bands=["red", "nir"]), world))
    for text in ("37 images", "red, nir", "14 steps of 8", "32×32", "images/s", "MB on disk"):
        assert text in remarks
    assert not world.runs.exists() and "compiling" not in remarks
    assert "Tried without compiling" in " ".join(dry_run(make_spec(runtime={"compile": True}), world))


@pytest.mark.parametrize("method", METHODS)
def test_dry_run_of_each_method_says_what_it_takes(method, workspace):
    make_world(workspace)
    remarks = dry_run(spec_of(method, *what_it_builds_on(method, workspace)), workspace)
    for what in (r"Peak memory: about \d+\.\d\d GB\.", r"About [1-9]\d* images/s here: \d+ minutes in all"):
        assert sum(bool(re.match(what, remark)) for remark in remarks) == 1, what


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": "nowhere"}, "rsfm data prepare nowhere"),
        ({"bands": ["red", "B99"]}, "no band B99"),
        ({"splits": ["validation"]}, "no split 'validation'; it has train, val"),
        ({"encoder": {"patch_size": 64}}, "cannot be cut into patches of 64"),
        ({"encoder": {"patch_size": 12}}, "cannot be cut into patches of 12"),
        ({"encoder": {"patch_size": 32}}, "mask_ratio"),
        ({"image_size": 20}, "20×20"),
    ],
)
def test_dry_run_refuses(world, changes, message):
    with pytest.raises(RsfmError, match=message):
        dry_run(make_spec(**changes), world)


def test_dry_run_refuses_a_pack_without_statistics(world):
    file = world.packs / "tiny" / "pack.json"
    info = json.loads(file.read_text())
    info["layers"][0]["bands"][2]["statistics"] = None
    file.write_text(json.dumps(info))
    with pytest.raises(RsfmError, match="band red has no usable statistics"):
        dry_run(make_spec(), world)
    dry_run(make_spec(bands=["nir"]), world)


def test_dry_run_refuses_a_full_disk(world, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 1000))
    with pytest.raises(RsfmError, match="GB are free"):
        dry_run(make_spec(), world)


def test_a_pair_pack_is_refused(world):
    file = world.packs / "tiny" / "pack.json"
    info = json.loads(file.read_text())
    layer = info["layers"][0]
    info["layers"] = [{**layer, "name": "image_pre"}, {**layer, "name": "image_post"}]
    file.write_text(json.dumps(info))
    arrays: Path = world.packs / "tiny" / "arrays"
    for split in ("train", "val"):
        data = (arrays / f"{split}.image.bin").read_bytes()
        for name in ("image_pre", "image_post"):
            (arrays / f"{split}.{name}.bin").write_bytes(data)
    with pytest.raises(RsfmError, match="image_pre, image_post; this method needs one"):
        dry_run(make_spec(), world)


def test_a_gpu_run_on_a_cpu_slot_is_refused(world):
    run = start(world, make_spec(runtime={"device": "cuda"}))
    with pytest.raises(RsfmError, match="CPU slot"):
        attempt(world, run)
