"""Pretraining as a job: what it leaves behind, stopping and resuming, steps that are not finite."""

from __future__ import annotations

import copy
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F
from training_world import BANDS, StopAt, attempt, current_rows, dry_run, make_spec, make_world, start, weights

from rsfm import registry
from rsfm.errors import RsfmError
from rsfm.methods.base import LossParts
from rsfm.methods.mae import MAE
from rsfm.models.export import load_encoder, load_model
from rsfm.pack_arrays import write_arrays
from rsfm.store.files import read_jsonl
from rsfm.store.job import Stopped
from rsfm.train import recorder, setup
from rsfm.train.checkpoints import Checkpoints
from rsfm.train.module import MAX_SKIPPED_IN_A_ROW
from rsfm.train.pretrain import run_job

torch.set_num_threads(1)


@pytest.fixture
def world(workspace):
    return make_world(workspace)


@pytest.fixture(autouse=True)
def poll_always(monkeypatch):
    monkeypatch.setattr(recorder, "_POLL_S", 0.0)


# -- what a run leaves -----------------------------------------------------------------------------------------------


def test_a_run_leaves_metrics_previews_checkpoints_and_a_model(world, capsys):
    run = start(world, make_spec(bands=["nir", "red", "green", "blue"], seed=4))
    attempt(world, run)
    rows = current_rows(run)
    assert sorted(rows) == [0, 1, 3, 6, 9, 12, 14]
    for step in (1, 3, 14):
        assert {"loss", "lr", "weight_decay", "grad_norm", "grad_norm_first", "flat_patch_share"} <= set(rows[step])
    for step in (0, 6, 12, 14):
        assert {"std_l2", "rankme", "rankme_centered", "top1_eigen_share", "knn"} <= set(rows[step])
        # A fresh network would trip them: they begin when a tenth of the training is done.
        assert any(name.startswith("alarm/") for name in rows[step]) == (step > 0)
    assert rows[1]["lr"] == 0
    assert rows[14]["knn"] > 0.9  # the classes differ in their mean
    throughput = [r["values"] for r in read_jsonl(run.path / "metrics.jsonl")[0] if "throughput" in r["values"]]
    assert all(v["throughput"] > 0 and 0 <= v["data_wait_share"] < 1 for v in throughput)
    assert len(throughput) == 5

    assert [p.name for p in Checkpoints(run.path / "checkpoints", 2).paths()] == [
        "step-00000014.ckpt",
        "step-00000012.ckpt",
    ]
    progress = run.progress()
    assert (progress["done"], progress["total"], progress["step"], progress["unit"]) == (112, 112, 14, "samples")

    artifacts = read_jsonl(run.path / "artifacts.jsonl")[0]
    assert [(a["what"], a["step"]) for a in artifacts] == [
        ("views", 0), ("reconstruction", 0), ("reconstruction", 6), ("reconstruction", 12), ("reconstruction", 14),
    ]  # fmt: skip
    for artifact in artifacts:
        picture = Image.open(run.path / artifact["path"])
        assert artifact["kind"] == "preview"
        assert np.asarray(picture).std() > 10

    encoder, info = load_encoder(world.models / run.id)
    assert [b.name for b in info.bands] == ["nir", "red", "green", "blue"]
    assert (info.seed, info.step, info.samples, info.trained_on) == (4, 14, 112, "tiny")
    assert info.group == run.envelope()["group"]
    assert encoder.in_chans == 4
    log = capsys.readouterr().out
    assert "step 14/14" in log
    assert re.search(r"^Peak memory: \d\.\d\d GB\.$", log, re.MULTILINE)
    assert "Tip" not in log
    assert not (run.path / "lightning_logs").exists()


def test_permuted_bands_in_the_file_train_the_same_model(world):
    tiny = world.packs / "tiny"
    order = [2, 0, 3, 1]
    source = {s: np.fromfile(tiny / "arrays" / f"{s}.image.bin", "uint8").reshape(-1, 4, 32, 32) for s in ("train",)}
    write_arrays(world, "shuffled", {"train": source["train"][:, order]}, [BANDS[i] for i in order])
    hashes = []
    for name in ("tiny", "shuffled"):
        run = start(world, make_spec(dataset=name, bands=["red", "nir"], optim={"samples": 32}))
        attempt(world, run)
        hashes.append(weights(world, run))
    assert hashes[0] == hashes[1]


def test_exported_model_gives_the_features_of_the_training(world):
    """The last online features, computed by the training, equal those of the loaded model fed in units."""
    run = start(world, make_spec())
    attempt(world, run)
    model = load_model(world.models / run.id)
    values = torch.from_numpy(np.fromfile(world.packs / "tiny/arrays/train.image.bin", "uint8").reshape(-1, 4, 32, 32))
    normal = F.normalize(model.extract(values.float()).double(), dim=1)
    assert normal.std(dim=0).mean().item() == pytest.approx(current_rows(run)[14]["std_l2"], rel=1e-4)


def test_seeds_differ_and_repeat(world):
    runs = [start(world, make_spec(seed=s, optim={"samples": 40})) for s in (1, 1, 2)]
    for run in runs:
        attempt(world, run)
    assert weights(world, runs[0]) == weights(world, runs[1]) != weights(world, runs[2])
    assert len({r.envelope()["group"] for r in runs}) == 1


def register(monkeypatch, method: type[MAE]) -> None:
    entry = replace(registry.METHODS["mae"], target=f"{method.__module__}:{method.__name__}")
    monkeypatch.setitem(registry.METHODS, "mae", entry)


class RecordingMAE(MAE):
    """Remembers which patches each pass could see."""

    seen: ClassVar[list[list[int]]] = []

    def loss(self, views):
        self.seen.append(views["keep"].flatten().tolist())
        return super().loss(views)


def test_every_pass_has_views_of_its_own(world, monkeypatch):
    register(monkeypatch, RecordingMAE)
    streams = []
    for seed in (0, 0, 1):
        monkeypatch.setattr(RecordingMAE, "seen", [])
        attempt(world, start(world, make_spec(seed=seed, optim={"accumulate": 2, "samples": 40})))
        streams.append(RecordingMAE.seen)
    assert len(streams[0]) == 10
    assert len({tuple(keep) for keep in streams[0] + streams[2]}) == 20
    assert streams[0] == streams[1]


def test_bf16_stays_near_fp32(world):
    losses = []
    for precision in ("fp32", "bf16"):
        run = start(world, make_spec(runtime={"precision": precision}))
        attempt(world, run)
        losses.append([r["loss"] for r in current_rows(run).values() if "loss" in r])
    assert losses[0] != losses[1]
    np.testing.assert_allclose(losses[0], losses[1], atol=0.02)


# -- stopping and resuming -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("workers", "accumulate"), [(0, 1), (0, 2), (2, 1)])
def test_stop_and_resume_equals_the_uninterrupted_run(world, workers, accumulate):
    """Mid-epoch (37 images, batches of 8), between two log lines and between two checkpoints; twice."""
    spec = make_spec(runtime={"workers": workers}, optim={"accumulate": accumulate})
    whole = start(world, spec)
    attempt(world, whole)

    parts = start(world, spec)
    for number, step in ((1, 5), (2, 10)):
        with pytest.raises(Stopped):
            attempt(world, parts, number, stop_step=step)
        assert parts.progress()["step"] == step
        assert Checkpoints(parts.path / "checkpoints", 2).latest().name == f"step-{step:08d}.ckpt"
        assert not (world.models / parts.id).exists()
    attempt(world, parts, 3)

    assert current_rows(parts) == current_rows(whole)
    assert weights(world, parts) == weights(world, whole)
    third = [r["step"] for r in read_jsonl(parts.path / "metrics.jsonl")[0] if r["attempt"] == 3]
    assert min(third) > 10


class NoisyMAE(MAE):
    """Uses the global random state, keeps a moving average, and looks at it in its loss."""

    def __init__(self, *args, **more):
        super().__init__(*args, **more)
        self.average = copy.deepcopy(self.encoder).requires_grad_(False)
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def loss(self, views):
        parts = super().loss({**views, "image": F.dropout(views["image"], 0.1)})
        with torch.no_grad():
            target = self.average.features(views["image"])
        pull = (self.encoder.features(views["image"]) - target).square().mean()
        return LossParts(parts.total + pull, {"reconstruction": parts.total, "pull": pull})

    @torch.no_grad()
    def after_step(self, progress):
        self.updates += 1
        assert self.updates == progress.step
        for mean, new in zip(self.average.parameters(), self.encoder.parameters(), strict=True):
            mean.lerp_(new, 0.1)


def test_state_of_a_method_survives_a_resume(world, monkeypatch):
    register(monkeypatch, NoisyMAE)
    whole, parts = (start(world, make_spec()) for _ in range(2))
    attempt(world, whole)
    with pytest.raises(Stopped):
        attempt(world, parts, 1, stop_step=7)
    attempt(world, parts, 2)
    rows = current_rows(whole)
    assert rows == current_rows(parts)
    assert rows[14]["loss"] == pytest.approx(rows[14]["loss/reconstruction"] + rows[14]["loss/pull"])
    states = [torch.load(r.path / "checkpoints/step-00000014.ckpt", weights_only=True) for r in (whole, parts)]
    assert states[0]["state_dict"]["method.updates"] == 14
    for name, tensor in states[0]["state_dict"].items():
        assert torch.equal(tensor, states[1]["state_dict"][name]), name


def test_kill_and_resume_equals_the_uninterrupted_run(world):
    spec = make_spec(
        optim={"samples": 8 * 150}, runtime={"checkpoint_every_steps": 10, "monitor_every_steps": 75, "threads": 1}
    )
    whole, killed = start(world, spec), start(world, spec)
    attempt(world, whole)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "rsfm.execute", str(killed.path), "--attempt", "1"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(killed.path.glob("checkpoints/step-*.ckpt")):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (world.models / killed.id).exists()
    attempt(world, killed, 2)
    assert weights(world, killed) == weights(world, whole)
    assert current_rows(killed) == current_rows(whole)


def test_damaged_checkpoint_falls_back_to_the_one_before(world, capsys):
    run, whole = start(world, make_spec()), start(world, make_spec())
    attempt(world, whole)
    with pytest.raises(Stopped):
        attempt(world, run, 1, stop_step=9)
    newest = run.path / "checkpoints" / "step-00000009.ckpt"
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 0xFF  # a flipped byte among the weights: torch alone would not notice
    newest.write_bytes(data)
    attempt(world, run, 2)
    log = capsys.readouterr().out
    assert "step-00000009.ckpt is damaged" in log
    assert "Resuming from step-00000008.ckpt" in log
    assert weights(world, run) == weights(world, whole)


def test_all_checkpoints_damaged_starts_again(world, capsys):
    run = start(world, make_spec())
    with pytest.raises(Stopped):
        attempt(world, run, 1, stop_step=9)
    for path in (run.path / "checkpoints").glob("*.ckpt"):
        path.write_bytes(b"" if "08" in path.name else b"garbage" * 100)
    attempt(world, run, 2)
    assert "Resuming" not in capsys.readouterr().out
    assert load_encoder(world.models / run.id)[1].step == 14


def test_a_finished_training_only_exports_again(world):
    run = start(world, make_spec())
    attempt(world, run)
    first, rows = weights(world, run), (run.path / "metrics.jsonl").read_bytes()
    attempt(world, run, 2)
    assert weights(world, run) == first
    assert (run.path / "metrics.jsonl").read_bytes() == rows


def test_checkpoint_on_request(world):
    run = start(world, make_spec(runtime={"checkpoint_every_steps": 100, "keep_checkpoints": 5}))
    run.request("checkpoint")
    attempt(world, run)
    assert [p.name for p in Checkpoints(run.path / "checkpoints", 5).paths()] == [
        "step-00000014.ckpt",
        "step-00000001.ckpt",
    ]
    assert not run.requested("checkpoint")


def test_sigterm_saves_and_stops(world):
    class Terminate(StopAt):
        def progress(self, done, total, **more):
            super().progress(done, total, **more)
            if self.seen == 6:
                os.kill(os.getpid(), signal.SIGTERM)

    run = start(world, make_spec())
    with pytest.raises(Stopped):
        run_job(run.spec(), Terminate(world, run, 1))
    assert (run.path / "checkpoints" / "step-00000006.ckpt").is_file()


# -- steps that are not finite ---------------------------------------------------------------------------------------


class BadMAE(MAE):
    """Gives NaN in the passes named in `bad`."""

    bad: frozenset[int] = frozenset()
    passes = 0

    def loss(self, views):
        parts = super().loss(views)
        type(self).passes += 1
        return replace(parts, total=parts.total * float("nan")) if self.passes in self.bad else parts


def test_a_step_that_is_not_finite_changes_nothing_and_is_counted(world, monkeypatch):
    register(monkeypatch, BadMAE)
    monkeypatch.setattr(BadMAE, "bad", frozenset({5, 6}))
    monkeypatch.setattr(BadMAE, "passes", 0)
    run = start(world, make_spec(runtime={"checkpoint_every_steps": 1, "keep_checkpoints": 20, "log_every_steps": 1}))
    attempt(world, run)
    rows = current_rows(run)
    assert rows[14]["skipped_steps"] == 2
    assert "loss" not in rows[5]
    assert "loss" in rows[7]
    states = {step: torch.load(run.path / f"checkpoints/step-{step:08d}.ckpt", weights_only=True) for step in (4, 6, 7)}
    for name, tensor in states[4]["state_dict"].items():
        assert torch.equal(tensor, states[6]["state_dict"][name])
    moments = [s["optimizer_states"][0]["state"][0]["exp_avg"] for s in states.values()]
    assert torch.equal(moments[0], moments[1])
    name = "method.encoder.patch_projection.weight"
    assert not torch.equal(states[6]["state_dict"][name], states[7]["state_dict"][name])


def test_many_bad_steps_in_a_row_end_the_run(world, monkeypatch):
    register(monkeypatch, BadMAE)
    monkeypatch.setattr(BadMAE, "bad", frozenset(range(3, 1000)))
    monkeypatch.setattr(BadMAE, "passes", 0)
    run = start(world, make_spec(optim={"samples": 800}))
    with pytest.raises(RsfmError, match=f"not finite in {MAX_SKIPPED_IN_A_ROW} steps in a row"):
        attempt(world, run)


def test_dry_run_refuses_what_diverges_at_once(world, monkeypatch):
    register(monkeypatch, BadMAE)
    monkeypatch.setattr(BadMAE, "bad", frozenset(range(100)))
    with pytest.raises(RsfmError, match="not finite"):
        dry_run(make_spec(), world)


# -- from one run to another ------------------------------------------------------------------------------------------


def test_a_run_continues_from_another(world):
    first = start(world, make_spec())
    attempt(world, first)
    weights_before = load_encoder(world.models / first.id)[0].state_dict()
    spec = make_spec(init={"weights": first.id}, seed=5)
    assert any(r.startswith("Continues from MAE") for r in dry_run(spec, world))
    method = setup.set_up(spec, world).method
    for name, tensor in method.encoder.state_dict().items():
        assert torch.equal(tensor, weights_before[name]), name
    second = start(world, spec)
    attempt(world, second)
    assert weights(world, second) != weights(world, first)
    with pytest.raises(RsfmError, match=r"has another encoder: depth 1 there, 2 here"):
        dry_run(make_spec(init={"weights": first.id}, encoder={"depth": 2}), world)
    with pytest.raises(RsfmError, match=r"name some in init\.weights"):
        dry_run(make_spec(init={"patch_embed": "inflate"}), world)


def test_a_run_does_not_go_on_with_another_pack(world):
    run = start(world, make_spec())
    with pytest.raises(Stopped):
        attempt(world, run, stop_step=5)
    noise = np.random.default_rng(1).integers(0, 255, (20, 4, 32, 32)).astype("uint8")
    write_arrays(world, "tiny", {"train": noise}, BANDS, gsd_m=10, sensor="rgb")
    with pytest.raises(RsfmError, match="was replaced since this run began"):
        attempt(world, run, 2)


def test_a_diverged_run_fails_and_exports_nothing(world):
    run = start(world, make_spec(optim={"base_lr": 1e38, "grad_clip": 0.0}))
    with pytest.raises(RsfmError, match="diverged"):
        attempt(world, run)
    assert not (world.models / run.id).exists()
