"""One number of an evaluation, and of a group of them: the same as a comparison gives."""

from __future__ import annotations

import json
from typing import Any

import pytest
from store_world import begin, evaluate, finish, indexed, pretrain, score

from app.components.run_table import group_rows
from rsfm.specs import EvaluateSpec
from rsfm.store.files import append_jsonl, utc_now
from rsfm.store.runs import RunFolder, create_run
from rsfm.store.view import Store
from rsfm.workspace import Workspace


def measured(workspace: Workspace, model: str, *rows: dict[str, Any], eval_seeds: tuple[int, ...] = (0,)) -> RunFolder:
    """An evaluation that has finished with these scores."""
    run = create_run(workspace, EvaluateSpec(model=model, dataset="pack", eval_seeds=list(eval_seeds)))
    begin(run).scores([score(model=model, **row) for row in rows])
    finish(run)
    return run


def trained(workspace: Workspace, *seeds: int) -> list[str]:
    runs = [pretrain(workspace, seed=seed) for seed in seeds]
    for run in runs:
        finish(run)
    return [run.id for run in runs]


def group_is_compared(store: Store, adaptation: str = "knn") -> Any:
    """The one group of evaluations, which must say what `compare` says."""
    group = store.run_groups(kind="evaluate").iloc[0]
    row = store.compare(adaptation=adaptation).iloc[0]
    assert group["score"] == pytest.approx(row["mean"]) and group["score_of"] == adaptation
    assert group["score_std"] == pytest.approx(row["std"], nan_ok=True)
    assert (group["seeds"], group["seed_kind"]) == (row["seeds"], row["seed_kind"])
    return group


def test_what_a_later_attempt_measured_again_counts_alone(workspace: Workspace) -> None:
    run = evaluate(workspace)
    begin(run).scores([score(value=0.2)])
    finish(run, "failed")
    begin(run, 2).scores([score(value=0.9)])
    finish(run, attempt=2)
    store = indexed(workspace)
    for sort in ("newest", "score"):
        assert store.runs(sort=sort)["score"].tolist() == [0.9]
    group_is_compared(store)


def test_a_group_is_scored_by_one_adaptation(workspace: Workspace) -> None:
    first, second = trained(workspace, 0, 1)
    for seed, (model, knn, linear) in enumerate(((first, 0.8, 0.7), (second, 0.6, 0.75))):
        measured(
            workspace, model, {"value": knn, "model_seed": seed},
            {"adaptation": "linear", "value": linear, "model_seed": seed},
        )  # fmt: skip
    store = indexed(workspace)
    group = group_is_compared(store, "linear")
    assert group["score"] == pytest.approx(0.725) and sorted(store.runs(kind="evaluate")["score"]) == [0.75, 0.8]
    shown = group_rows(store.run_groups(kind="evaluate"), {}).iloc[0]
    assert shown["seeds"] == "2 model seeds" and "linear" in shown["measured"].lower()


def test_two_models_of_one_seed_are_one_seed(workspace: Workspace) -> None:
    for model, value in zip(trained(workspace, 0, 0), (0.8, 0.6), strict=True):
        measured(workspace, model, {"value": value})
    group = group_is_compared(indexed(workspace))
    assert (group["score"], group["seeds"], group["succeeded"], group["counted"]) == (0.6, 1, 2, 1)


def test_models_that_were_trained_elsewhere_are_folded_by_their_group(workspace: Workspace) -> None:
    for seed, value in enumerate((0.5, 0.6)):
        name = f"20260101-000000-mae-tiles-000{seed}"
        (workspace.models / name).mkdir(parents=True)
        (workspace.models / name / "model.json").write_text(json.dumps({"group": "g"}))
        measured(workspace, name, {"value": value, "model_seed": seed})
    store = indexed(workspace)
    assert group_is_compared(store)["seeds"] == 2 and len(store.run_groups()) == 1


def test_evaluation_seeds_of_one_run_or_of_several_are_folded(workspace: Workspace) -> None:
    measured(workspace, "band-stats", {"value": 0.5, "eval_seed": 0})
    measured(workspace, "band-stats", {"value": 0.9, "eval_seed": 1}, eval_seeds=(1,))
    store = indexed(workspace)
    group = group_is_compared(store)
    assert group["score"] == pytest.approx(0.7) and group["counted"] == 2
    shown = group_rows(store.run_groups(), {}).iloc[0]
    assert shown["seeds"] == "2 evaluation seeds" and shown["score"] == "0.7000 ± 0.2828" and not shown["unfinished"]


def test_runs_on_older_content_or_without_success_do_not_count(workspace: Workspace) -> None:
    old = measured(workspace, "band-stats", {"value": 0.1, "eval_seed": 1, "pack_hash": "old"}, eval_seeds=(1,))
    new = measured(workspace, "band-stats", {"value": 0.9})
    failed = create_run(workspace, EvaluateSpec(model="band-stats", dataset="pack", eval_seeds=[2]))
    begin(failed).scores([score(model="band-stats", value=0.0, eval_seed=2, pack_hash="h")])
    finish(failed, "failed")
    store = indexed(workspace)
    group = store.run_groups().iloc[0]
    assert (group["score"], group["seeds"], group["n"], group["failed"], group["counted"]) == (0.9, 1, 3, 1, 1)
    assert group_rows(store.run_groups(), {})["unfinished"].tolist() == ["1 failed, 1 repeated"]
    assert store.runs().set_index("run_id").loc[[old.id, new.id], "score"].tolist() == [0.1, 0.9]


def test_a_seed_that_diverged_is_not_hidden(workspace: Workspace) -> None:
    for seed, values in enumerate(({"loss": 1.0, "knn": 0.5}, {"loss": float("inf")})):
        run = pretrain(workspace, seed=seed)
        begin(run)
        append_jsonl(
            run.path / "metrics.jsonl", {"attempt": 1, "step": 1, "samples": 1, "time": utc_now(), "values": values}
        )
        finish(run)
    row = json.loads((run.path / "metrics.jsonl").read_text())
    for loss in (row["values"]["loss"], None):
        (run.path / "metrics.jsonl").write_text(json.dumps(row | {"values": {"loss": loss}}) + "\n")
        shown = group_rows(indexed(workspace).run_groups(), {}).iloc[0]
        assert shown["loss"] == "not finite: 1 of 2" and shown["knn"] == "0.5000 (1 of 2)"
