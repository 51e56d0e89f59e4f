"""Faults of models and packs, from an evaluation as it is run to what the result lint says of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from maps_world import FIT, RGB8, blobs, change_pack, request, segmentation_pack
from store_world import finish, indexed
from test_evaluate import colour_task, make_pack

from rsfm.evaluation import evaluate as module
from rsfm.evaluation.evaluate import run_job
from rsfm.evaluation.facts import Looked
from rsfm.models.baselines import resolve
from rsfm.models.export import EncoderModel, save_model
from rsfm.pack_arrays import write_arrays
from rsfm.packs import Pack
from rsfm.specs import EvaluateSpec
from rsfm.store.files import read_jsonl
from rsfm.store.job import JobContext
from rsfm.store.runs import create_run
from rsfm.train.monitors import rankme, std_l2
from rsfm.workspace import Workspace

MODEL = "random:vit-nano"
QUICK: dict[str, Any] = {"severities": [1, 4], "eval_seeds": [0, 1], "fit": {**FIT, "epochs": 1}}
FACTS = ["feature_dim", "feature_std_l2", "feature_rank"]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def scores(workspace: Workspace, pack: str, model: str = MODEL, **settings: Any) -> pd.DataFrame:
    spec = request(workspace, model, pack, **{**QUICK, **settings})
    run = create_run(workspace, spec)
    run.add_event(state="running", attempt=1)
    run_job(spec, JobContext(workspace, run, 1))
    finish(run)
    return pd.DataFrame(read_jsonl(run.path / "scores.jsonl")[0])


def lint(workspace: Workspace, rule: str) -> pd.DataFrame:
    found = indexed(workspace).lint()
    return found[found["rule"] == rule].reset_index(drop=True)


def shifted_pairs(workspace: Workspace) -> None:
    """Pairs whose later images are a hundred times too large."""
    parts = {split: blobs(n, i) for i, (split, n) in enumerate((("train", 8), ("test", 8)))}
    write_arrays(
        workspace, "pairs", {s: images.astype(np.float32) for s, (images, _) in parts.items()}, RGB8,
        later={s: images * np.float32(100) for s, (images, _) in parts.items()},
        masks={s: masks for s, (_, masks) in parts.items()}, classes=["no change", "change"],
    )  # fmt: skip


@pytest.fixture
def sees_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The encoder looks at positions only."""

    def blind(*asked: Any) -> EncoderModel:
        model = resolve(*asked)
        torch.nn.init.zeros_(model.encoder.patch_projection.weight)
        return model

    monkeypatch.setattr(module, "resolve", blind)


# -- features ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("maps_gb", [20, 0], ids=["kept maps", "no kept maps"])
@pytest.mark.parametrize("pack", [segmentation_pack, change_pack])
def test_maps_of_a_healthy_encoder_are_told_of(workspace: Workspace, pack: Any, maps_gb: float) -> None:
    name = pack(workspace).name
    found = scores(workspace, name, adaptations=["linear", "decoder", "finetune"], maps_gb=maps_gb)
    assert (found["feature_dim"] == 192).all()
    assert (found["feature_std_l2"] * 192**0.5).between(0.15, 1).all(), "tiles of one landscape, even at 4×"
    assert (found["feature_rank"] > 5).all()
    kinds = found["adaptation"].str.partition(" ")[0]
    frozen = found[kinds != "finetune"].groupby("severity")[FACTS].nunique()
    assert (frozen == 1).all(axis=None), "of one frozen encoder there is one"
    assert found[kinds == "finetune"]["feature_std_l2"].nunique() == 4, "of tuned ones one each"
    assert lint(workspace, "collapsed-features").empty


@pytest.mark.parametrize(
    ("pack", "adaptation"), [("colour", "knn"), ("fields", "linear"), ("fields", "decoder"), ("pairs", "decoder")]
)
def test_a_collapsed_encoder(workspace: Workspace, sees_nothing: None, pack: str, adaptation: str) -> None:
    if pack == "colour":
        make_pack(workspace, "colour", colour_task, {"train": 30, "test": 12})
    else:
        (segmentation_pack if pack == "fields" else change_pack)(workspace)
    scores(workspace, pack, adaptations=[adaptation])
    found = lint(workspace, "collapsed-features")
    assert found["severity"].tolist() == ["warning"]
    assert found.loc[0, "message"].startswith(f"Random ViT vit-nano on {pack} ({adaptation}")
    assert found.loc[0, "message"].endswith(
        "1×, 4×) rests on collapsed features: they spread 0.000 of what is healthy, over 1.0 of 192 dimensions."
    )


def test_what_has_no_weights_cannot_collapse(workspace: Workspace) -> None:
    segmentation_pack(workspace)
    assert not set(FACTS) & set(scores(workspace, "fields", "band-stats", adaptations=["linear"]).columns)


def test_facts_of_vectors_and_maps() -> None:
    """Of vectors they are the monitors of training; of maps they hang on the first images only, not on batches."""
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(3000, 5, generator=generator)
    looked = Looked()
    looked.add(vectors)
    first = vectors[:2048].double()
    assert looked.facts() == pytest.approx(
        {"feature_dim": 5, "feature_std_l2": std_l2(first), "feature_rank": rankme(first - first.mean(dim=0))}
    )
    maps = torch.randn(600, 5, 1, 8, generator=generator)
    whole, parts, few = Looked(), Looked(), Looked()
    whole.add(maps[:512])  # four places of each
    for batch in maps.split(48):
        parts.add(batch)
    assert parts.facts() == pytest.approx(whole.facts())
    few.add(maps[:7])
    assert few.facts() == {}, "too few to tell"


# -- inputs ------------------------------------------------------------------------------------------------------------
def test_a_pack_a_hundred_times_too_large(workspace: Workspace) -> None:
    """An exported encoder, standardised as the pack that it was trained on."""
    make_pack(workspace, "right", colour_task, {"train": 30, "test": 12})
    pack = Pack.named(workspace, "right")
    model = resolve(EvaluateSpec(model=MODEL, dataset="right"), pack, workspace)
    name = "20260101-000000-mae-right-0000"
    save_model(workspace.models / name, model.encoder, model.info.model_copy(update={"name": name, "title": "MAE"}))
    labels = {s: pack.split_samples(s)["label"].tolist() for s in ("train", "test")}
    wrong = {s: pack.array(s) * np.float32(100) for s in labels}
    write_arrays(workspace, "wrong", wrong, RGB8, labels=labels)
    for dataset in ("right", "wrong"):
        scores(workspace, dataset, name, adaptations=["centroid"])
    found = lint(workspace, "wrong-input")
    assert found[["dataset", "severity"]].to_numpy().tolist() == [["wrong", "error"]]
    assert found.loc[0, "message"].startswith("MAE on wrong (centroid, band ")


def test_of_a_pair_both_images_are_looked_at(workspace: Workspace) -> None:
    shifted_pairs(workspace)
    scores(workspace, "pairs", adaptations=["linear"])
    found = lint(workspace, "wrong-input")
    assert found["severity"].tolist() == ["error"]
    assert "(post)) gets input with mean " in found.loc[0, "message"]
