"""Networks that evaluations of maps keep."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scenes_world import LINEAR, Lab, evaluated, make_pack, write_village

from rsfm.evaluation.kept import load_network
from rsfm.metrics import confusion_counts
from rsfm.network_info import NetworkInfo, find_network, list_networks
from rsfm.packs import Pack
from rsfm.workspace import Workspace


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("adaptation", ["decoder", "finetune"])
def test_a_kept_network_is_the_one_that_was_trained(workspace: Workspace, adaptation: str) -> None:
    """Its map of the test images has the scores that the evaluation reports."""
    make_pack(workspace, pairs=False)
    evaluation = evaluated(workspace, "fields", adaptations=[adaptation], eval_seeds=[3])
    pack = Pack.named(workspace, "fields")
    images, masks = np.array(pack.array("test")), np.array(pack.array("test", "mask"))[:, 0]
    shutil.rmtree(workspace.packs / "fields")
    info = find_network(workspace, evaluation)
    assert (info.adaptation, info.eval_seed, info.classes) == (adaptation, 3, ["land", "roof"])
    assert list_networks(workspace) == ([info], {})
    network = load_network(workspace, info)
    with torch.inference_mode():
        found = network([torch.from_numpy(images.astype(np.float32))], masks.shape[1:]).argmax(dim=1).numpy()
    counts = confusion_counts(masks, found, classes=2)
    kept = pd.read_parquet(workspace.runs / evaluation / "artifacts" / "predictions.parquet")["counts"]
    np.testing.assert_array_equal(counts, np.stack(kept.to_numpy()))


def test_a_network_that_is_damaged_or_whose_encoder_changed_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    make_pack(workspace, pairs=False)
    evaluation = evaluated(workspace, "fields", **LINEAR)
    scene, lab = str(write_village(tmp_path)[1]), Lab(workspace, evaluation, "")
    info = find_network(workspace, evaluation)
    folder = info.folder(workspace)
    text = (folder / "network.json").read_text()

    def change(**fields: Any) -> None:
        changed = NetworkInfo.model_validate_json(text).model_copy(update=fields)
        (folder / "network.json").write_text(changed.model_dump_json())

    change(model_key="another")
    lab.refuses("is not the one that run .* used", evaluation=evaluation, scene=scene)
    change(weights_hash="another")
    lab.refuses("content hash differs", evaluation=evaluation, scene=scene)
    (folder / "network.json").write_text(text)
    weights = (folder / "network.safetensors").read_bytes()
    (folder / "network.safetensors").write_bytes(weights[:-10])
    lab.refuses("cannot be read", evaluation=evaluation, scene=scene)
    (folder / "network.json").write_text("{")
    lab.refuses("is not a readable network description", evaluation=evaluation, scene=scene)
    assert evaluation in list_networks(workspace)[1]
