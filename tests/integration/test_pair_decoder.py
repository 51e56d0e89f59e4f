"""Change detection that begins with the decoder which iBOT trained to find the overlap of two crops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from maps_world import FIT, change_pack, evaluate, request, segmentation_pack, value
from safetensors.torch import load_file
from training_world import attempt, start

from rsfm.errors import RsfmError
from rsfm.evaluation.evaluate import dry_run
from rsfm.evaluation.networks import MapNetwork
from rsfm.model_package import unpack, write_package
from rsfm.models.baselines import resolve
from rsfm.packs import Pack
from rsfm.specs import pretrain_spec
from rsfm.store.runs import RunFolder
from rsfm.workspace import Workspace

BEGUN: dict[str, Any] = {**FIT, "fusion": "concat", "decoder_start": "pretrained"}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def pretrained(workspace: Workspace, overlap: float = 1.0) -> RunFolder:
    segmentation_pack(workspace)
    settings = [
        "image_size=32",
        "samples=32",
        "warmup_samples=8",
        "batch_size=8",
        "encoder.width=32",
        "prototypes=32",
        f"lambda_overlap={overlap}",
    ]
    settings += ["overlap_width=16", "overlap_pool_width=16"] if overlap else []
    run = start(workspace, pretrain_spec("ibot", "fields", "smoke", settings))
    attempt(workspace, run)
    return run


def test_all_but_the_last_layer_is_taken_over(workspace: Workspace) -> None:
    run = pretrained(workspace)
    change_pack(workspace)
    kept = load_file(workspace.models / run.id / "decoder.safetensors")
    spec = request(workspace, run.id, "pairs", severities=[1, 16], fit=BEGUN)
    model = resolve(spec, Pack.named(workspace, "pairs"), workspace)
    network = MapNetwork(model, 2, (32, 32), adaptation="decoder", pairs=True, fit=spec.fit)
    state = network.state_dict()
    for name, weights in kept.items():
        assert torch.equal(state[name], weights) == (not name.startswith("decoder.head.")), name
    assert sum(name.startswith("neck.") for name in kept) > 20
    scores, _ = evaluate(workspace, run.id, "pairs", severities=[1, 16], fit=BEGUN)
    assert value(scores, 1, "f1") > 0.6
    assert scores["adaptation"].str.contains("decoder_start=pretrained").all(), "a protocol of its own"


def test_what_does_not_fit_is_refused_before_it_is_queued(workspace: Workspace) -> None:
    run = pretrained(workspace)
    change_pack(workspace)
    for model, change, words in (
        (run.id, {"fusion": "diff"}, "set fit.fusion=concat"),
        (run.id, {"decoder_width": 8}, "set fit.decoder_width=16 and fit.pool_width=16"),
        ("random:vit-nano", {}, "No decoder was trained with model random:vit-nano"),
    ):
        with pytest.raises(RsfmError, match=words):
            dry_run(request(workspace, model, "pairs", severities=[1], fit={**BEGUN, **change}), workspace)
    file = workspace.models / run.id / "decoder.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(RsfmError, match=r"decoder\.safetensors cannot be read"):
        dry_run(request(workspace, run.id, "pairs", severities=[1], fit=BEGUN), workspace)


def test_without_the_overlap_there_is_no_decoder_and_a_package_leaves_it_here(
    workspace: Workspace, tmp_path: Path
) -> None:
    assert not (workspace.models / pretrained(workspace, overlap=0).id / "decoder.safetensors").exists()
    folder = workspace.models / pretrained(workspace).id
    write_package(folder, "# Card", tmp_path / "m.zip")
    for number, source in enumerate((tmp_path / "m.zip", folder)):
        target = tmp_path / str(number)
        target.mkdir()
        unpack(source, target, room=10**9, weights_size=lambda info: 10**8)
        assert not (target / "decoder.safetensors").exists() and (target / "model.safetensors").is_file()
