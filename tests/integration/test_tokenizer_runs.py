"""Two stages as jobs: a tokenizer's run, what is refused before and after it, and a run on its tokens."""

from __future__ import annotations

import shutil

import pytest
import torch
from training_world import attempt, current_rows, make_world, start, weights

from rsfm.errors import RsfmError
from rsfm.model_info import ModelInfo
from rsfm.models.export import load_encoder, load_model
from rsfm.specs import PretrainSpec, pretrain_spec
from rsfm.store.job import Stopped
from rsfm.store.runs import RunFolder
from rsfm.train import recorder
from rsfm.train.trial import dry_run
from rsfm.workspace import Workspace

torch.set_num_threads(1)

SHORT = [
    "image_size=32", "samples=32", "batch_size=8", "warmup_samples=8", "monitor_every_steps=2",
    "checkpoint_every_steps=2", "runtime.device=cpu",
]  # fmt: skip


def _spec(method: str, *settings: str) -> PretrainSpec:
    return pretrain_spec(method, "tiny", "smoke", [*SHORT, *settings])


def _run(workspace: Workspace, method: str, *settings: str) -> RunFolder:
    run = start(workspace, _spec(method, *settings))
    attempt(workspace, run)
    return run


@pytest.fixture
def world(workspace, monkeypatch):
    monkeypatch.setattr(recorder, "_POLL_S", 0.0)
    return make_world(workspace)


def test_both_stages(world, capsys):
    tokenizer = _run(world, "vq_tokenizer")
    rows = current_rows(tokenizer)
    assert {"codebook_perplexity", "codebook_use", "loss/reconstruction", "loss/commitment"} <= set(rows[4])
    encoder, info = load_encoder(world.models / tokenizer.id)
    assert (info.architecture, info.method, encoder.grid) == ("vq_tokenizer", "vq_tokenizer", (4, 4))
    # A model like any other: it can be evaluated.
    assert load_model(world.models / tokenizer.id).extract(torch.rand(2, 4, 32, 32) * 255).shape == (2, 16)

    spec = _spec("beit_vq", f"tokenizer={tokenizer.id}")
    assert any(tokenizer.id in remark for remark in dry_run(spec, world))
    run = start(world, spec)
    attempt(world, run)
    assert {"masked_accuracy", "token_entropy", "token_gain", "codebook_use"} <= set(current_rows(run)[4])
    trained = load_encoder(world.models / run.id)[0]
    assert not any("tokenizer" in name or "codebook" in name for name in trained.state_dict())
    assert load_encoder(world.models / tokenizer.id)[1].weights_hash == info.weights_hash
    pictures = sorted(p.name for p in (run.path / "artifacts" / "previews").glob("*.png"))
    assert {"views-00000000.png", "reconstruction-00000004.png"} <= set(pictures)
    assert "eval mode" not in capsys.readouterr().out


def test_dry_run_and_run_refuse_a_missing_tokenizer_alike(world):
    command = "rsfm pretrain --method vq_tokenizer --dataset tiny --set image_size=32"
    for setting, what in (("tokenizer=", "needs a tokenizer"), ("tokenizer=20260101-000000-x-y", "no model")):
        spec = _spec("beit_vq", setting)
        with pytest.raises(RsfmError, match=what) as before:
            dry_run(spec, world)
        with pytest.raises(RsfmError, match=what) as during:
            attempt(world, start(world, spec))
        assert str(before.value) == str(during.value)
        assert command in str(before.value)
    with pytest.raises(RsfmError, match="not a model's name"):
        dry_run(_spec("beit_vq", "tokenizer=../x"), world)


def test_the_command_names_chosen_bands(world):
    with pytest.raises(RsfmError, match=r"--set 'bands=\[\"red\", \"nir\"\]'"):
        dry_run(_spec("beit_vq", 'bands=["red", "nir"]'), world)


def test_another_kind_of_model_is_refused(world):
    mae = _run(world, "mae")
    with pytest.raises(RsfmError, match="is not a tokenizer but an encoder of the method mae"):
        dry_run(_spec("beit_vq", f"tokenizer={mae.id}"), world)


def test_tokenizers_of_other_bands_or_grids_are_refused(world):
    two = _run(world, "vq_tokenizer", 'bands=["red", "nir"]')
    with pytest.raises(RsfmError, match="was trained on the bands red, nir, but this run has blue"):
        dry_run(_spec("beit_vq", f"tokenizer={two.id}"), world)
    dry_run(_spec("beit_vq", f"tokenizer={two.id}", 'bands=["nir", "red"]'), world)
    with pytest.raises(RsfmError, match=r"4×4 tokens.*8×8 patches.*image_size=64"):
        dry_run(_spec("beit_vq", f"tokenizer={two.id}", 'bands=["nir", "red"]', "encoder.patch_size=4"), world)


def test_a_tokenizer_starts_afresh(world):
    first = _run(world, "vq_tokenizer")
    with pytest.raises(RsfmError, match="starts afresh"):
        dry_run(_spec("vq_tokenizer", f"init.weights={first.id}"), world)


def test_a_run_does_not_go_on_with_another_tokenizer(world):
    first, second = (_run(world, "vq_tokenizer", f"seed={seed}") for seed in (0, 1))
    run = start(world, _spec("beit_vq", f"tokenizer={first.id}"))
    with pytest.raises(Stopped):
        attempt(world, run, 1, stop_step=2)
    kept = world.root / "kept"
    shutil.move(world.models / first.id, kept)
    shutil.copytree(world.models / second.id, world.models / first.id)
    with pytest.raises(RsfmError, match="its weights differ"):
        attempt(world, run, 2)
    shutil.rmtree(world.models / first.id)
    shutil.move(kept, world.models / first.id)
    attempt(world, run, 3)
    whole = start(world, _spec("beit_vq", f"tokenizer={first.id}"))
    attempt(world, whole)
    assert weights(world, run) == weights(world, whole)


def test_kmeans_tokens_need_no_other_run(world):
    run = _run(world, "mim_kmeans")
    again = _run(world, "mim_kmeans")
    assert weights(world, run) == weights(world, again)
    assert ModelInfo.read(world.models / run.id).architecture == "vit"
    assert "token_gain" in current_rows(run)[4]
