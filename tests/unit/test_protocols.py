"""Published benchmarks: the authors' numbers, what is planned, and what is found again."""

from __future__ import annotations

import numpy as np
import pytest
import timm
from store_world import begin, score

from jobs.planned import queue_planned
from rsfm.bands import SENSORS
from rsfm.errors import RsfmError
from rsfm.evaluation.plan import plan as check
from rsfm.pack_arrays import write_arrays
from rsfm.packs import Pack
from rsfm.protocols import packs_of, plan, protocol, protocols, reference_frame, reference_rows
from rsfm.protocols.report import measured
from rsfm.registry.evaluation import EVALUATION_PRESETS
from rsfm.specs import EvaluateSpec, evaluate_spec
from rsfm.stats import scale_auc
from rsfm.store.runs import RunFolder, create_run
from rsfm.tasks import TASKS
from rsfm.workspace import Workspace

#: The areas that the authors wrote beside their curves, to the digits they gave.
AUTHORS_AUC = {
    ("levir-cd", "finetune", "none"): {
        "iBOT-ImageNet": 66.36, "iBOT-MillionAID": 66.03, "GFM": 70.84, "SatlasPretrain (S2 RGB)": 67.05,
        "iBOT-MillionAID + color jitter": 65.81,
    },
    ("levir-cd", "finetune", "bilinear"): {"iBOT-MillionAID": 83.75},
    ("cdd", "finetune", "none"): {
        "iBOT-ImageNet": 86.29, "iBOT-MillionAID": 87.34, "SatlasPretrain (S2 RGB)": 87.14, "GFM": 86.06,
    },
    ("nwpu-resisc45", "linear", "none"): {
        "iBOT-ImageNet": 75.5, "iBOT-MillionAID": 74.0, "SatlasPretrain (aerial)": 52.8, "GFM": 70.6,
    },
    ("nwpu-resisc45", "finetune", "none"): {
        "iBOT-ImageNet": 64.9, "iBOT-MillionAID": 64.3, "SatlasPretrain (aerial)": 69.1, "GFM": 71.2,
    },
    ("uc-merced", "linear", "none"): {
        "iBOT-ImageNet": 86.4, "iBOT-MillionAID": 79.8, "SatlasPretrain (aerial)": 73.0, "GFM": 80.8,
    },
    ("uc-merced", "finetune", "none"): {
        "iBOT-ImageNet": 85.5, "iBOT-MillionAID": 81.7, "SatlasPretrain (aerial)": 86.1, "GFM": 87.3,
    },
}  # fmt: skip


#: Scores in % at 1×, 2×, 4×, 8× of the first notebooks.
DRAFTS = {
    "levir-cd": {
        "iBOT-ImageNet": (82.4, 72.1, 12.3, 9.2), "iBOT-MillionAID": (84.9, 73.9, 9.3, 3.6),
        "iBOT-MillionAID + overlap": (85.5, 75.3, 15.4, 8.6), "GFM": (83.9, 81.4, 63.1, 13.1),
        "SatlasPretrain": (76.8, 74.9, 68.2, 42.9),
    },
    "cdd": {
        "iBOT-ImageNet": (79.2, 77.8, 74.2, 69.9), "iBOT-MillionAID": (78.6, 77.8, 75.1, 69.5),
        "iBOT-MillionAID + overlap": (77.9, 77.3, 74.6, 70.0), "GFM": (81.5, 78.0, 71.0, 65.2),
        "SatlasPretrain": (76.8, 75.4, 70.3, 66.7),
    },
    "uc-merced": {
        "iBOT-ImageNet": (98.1, 98.3, 90.5, 65.2), "iBOT-MillionAID": (98.8, 98.3, 51.0, 11.7),
        "GFM": (94.8, 91.4, 78.1, 43.3),
    },
    "nwpu-resisc45": {
        "iBOT-ImageNet": (91.5, 89.4, 74.7, 40.3), "iBOT-MillionAID": (93.8, 87.1, 26.6, 7.5),
        "GFM": (90.4, 85.4, 64.9, 29.9),
    },
}  # fmt: skip
NOT_STATED = "adaptation not stated"


def make_pack(workspace: Workspace, name: str, dataset: str) -> Pack:
    """A tiny pack that says it was made from that catalog entry."""
    rng = np.random.default_rng(0)
    images = {
        s: rng.integers(0, 255, (n, 3, 16, 16)).astype(np.uint8) for s, n in (("train", 12), ("val", 4), ("test", 6))
    }
    bands = SENSORS["rgb"].bands
    if dataset in ("levir-cd", "cdd"):
        masks = {s: rng.integers(0, 2, (len(x), 1, 16, 16)).astype(np.uint8) for s, x in images.items()}
        pack = write_arrays(workspace, name, images, bands, later=images, masks=masks, classes=["same", "change"])
    else:
        labels = {s: ["a", "b"] * (len(x) // 2) for s, x in images.items()}
        pack = write_arrays(workspace, name, images, bands, labels=labels)
    file = pack.path / "pack.json"
    file.write_text(
        file.read_text()
        .replace(f'"dataset": "{name}"', f'"dataset": "{dataset}"')
        .replace(f'"dataset":"{name}"', f'"dataset":"{dataset}"')
    )
    return Pack.named(workspace, name)


def test_areas_of_the_authors_curves_are_theirs() -> None:
    rows = reference_rows("dstnsp")
    rows, seen = rows[rows["adaptation"] != NOT_STATED], 0
    for key, curve in rows.groupby(["dataset", "adaptation", "train_degrade", "model"]):
        expected = AUTHORS_AUC[key[:3]][key[3]]
        # Half of the last digit they gave, and what their own rounding of the curve leaves open.
        error = 0.005 if key[0] in ("levir-cd", "cdd") else 0.05
        assert scale_auc(curve["severity"], curve["value"]) == pytest.approx(expected, abs=error + 1e-9), key
        seen += 1
    assert seen == sum(map(len, AUTHORS_AUC.values())) == 26


def test_early_drafts_are_labelled_and_stand_apart() -> None:
    rows = reference_rows("dstnsp")
    drafts = rows[rows["adaptation"] == NOT_STATED]
    found = {
        (dataset, model.removesuffix(" early draft")): tuple((100 * curve.sort_values("severity")["value"]).round(6))
        for (dataset, model), curve in drafts.groupby(["dataset", "model"])
    }
    assert found == {(dataset, model): v for dataset, models in DRAFTS.items() for model, v in models.items()}
    assert len(found) == 16 and (drafts["model"].str.endswith(" early draft")).all()
    assert not rows.loc[rows["adaptation"] != NOT_STATED, "model"].str.contains("draft").any()
    assert "Early drafts" in protocol("dstnsp").source
    frame = reference_frame({"mine": "uc-merced"})
    labelled = frame["model_title"].str.endswith(" early draft (authors)")
    assert (labelled == (frame["adaptation"] == NOT_STATED)).all() and labelled.sum() == 3 * 4
    groups = frame.groupby(labelled)["model_group"].agg(set)
    assert not groups[True] & groups[False], "another model on every chart and list"


def test_reference_rows_stand_where_ours_would() -> None:
    frame = reference_frame({"mine": "levir-cd"})
    frame = frame[frame["adaptation"] != NOT_STATED]
    assert set(frame["dataset"]) == {"mine"} and set(frame["task"]) == {"change"}
    ours = evaluate_spec("band-stats", "mine", "dstnsp-change").protocol_name("finetune", TASKS["change"])
    assert set(frame["adaptation"]) == {ours} == {"finetune (dstnsp-change)"}
    assert frame["model_title"].str.endswith("(authors)").all() and frame["ci_low"].isna().all()
    curves = frame.set_index(["model_title", "train_degrade"]).loc[("iBOT-MillionAID (authors)", "bilinear")]
    assert scale_auc(curves["severity"], curves["mean"]) == pytest.approx(83.75)
    assert reference_frame({"mine": "eurosat-ms"}).empty


@pytest.mark.parametrize("name", protocols())
def test_presets_exist_and_measurements_are_distinct(name: str) -> None:
    what = protocol(name)
    assert len({m.name for m in what.measurements}) == len(what.measurements)
    for m in what.measurements:
        assert m.preset in EVALUATION_PRESETS
    assert what.differs and what.source


def test_the_published_precision_is_asked_for() -> None:
    """Not left to the machine: bf16 on a GPU would be another benchmark than on a CPU."""
    for p in plan(protocol("dstnsp"), {name: name for name in protocol("dstnsp").datasets}, ["band-stats", "timm:x"]):
        assert p.spec.fit.precision == "fp32", p.name


def test_departures_that_cannot_be_seen_in_the_settings_are_said() -> None:
    said = " ".join(protocol("dstnsp").differs)
    for size in {timm.get_pretrained_cfg(f"vit_{s}_patch14_dinov2.lvd142m").input_size[1] for s in ("small", "base")}:
        assert f"DINOv2 enlarges them to {size} pixels, the authors' took 252" in said
    assert "for CDD they put all four versions of each image into the training set" in said
    assert "compressed as JPEG again" in said


def test_a_preset_names_the_protocol_and_changes_show() -> None:
    task = TASKS["change"]
    assert evaluate_spec("m", "d").protocol_name("finetune", task) == "finetune"
    assert evaluate_spec("m", "d", "", ["fit.epochs=3"]).protocol_name("finetune", task) == "finetune (epochs=3)"
    named = evaluate_spec("m", "d", "dstnsp-change", ["fit.epochs=3"])
    assert named.protocol_name("finetune", task) == "finetune (dstnsp-change, epochs=3)"
    assert named.fit.lr == 6e-5
    with pytest.raises(RsfmError, match="Unknown preset 'nope'; known: dstnsp-change"):
        evaluate_spec("m", "d", "nope")
    with pytest.raises(ValueError, match="unknown preset"):
        EvaluateSpec(model="m", dataset="d", preset="nope")


def test_plan_measures_what_there_is(workspace: Workspace) -> None:
    make_pack(workspace, "tiles", "levir-cd")
    make_pack(workspace, "scenes", "uc-merced")
    make_pack(workspace, "other", "eurosat-ms")
    what = protocol("dstnsp")
    packs = packs_of(what, workspace)
    assert packs == {"levir-cd": "tiles", "uc-merced": "scenes"}
    found = plan(what, packs, ["band-stats", "random:vit-nano"], ["fit.epochs=2"])
    names = [(p.name.split(",")[0], p.spec.model, p.spec.adaptations, p.spec.fit.train_degrade) for p in found]
    assert names == [
        ("levir-cd", "band-stats", ["linear"], False), ("levir-cd", "random:vit-nano", ["finetune"], False),
        ("levir-cd-degraded", "band-stats", ["linear"], True),
        ("levir-cd-degraded", "random:vit-nano", ["finetune"], True),
        ("uc-merced", "band-stats", ["linear"], False), ("uc-merced", "random:vit-nano", ["linear", "finetune"], False),
        ("uc-merced-degraded", "band-stats", ["linear"], True),
        ("uc-merced-degraded", "random:vit-nano", ["finetune"], True),
    ]  # fmt: skip
    assert all(p.spec.severities == [1, 2, 4, 8] for p in found)
    epochs = [p.spec.fit.epochs for p in found]
    assert epochs == [2, 2, 2, 2, 100, 2, 100, 2], "a linear layer on features has no epochs"
    for p in found:
        assert check(p.spec, workspace).target == ("post" if p.name.startswith("levir") else "single")
    with pytest.raises(RsfmError, match="No measurement of dstnsp uses knn_k"):
        plan(what, packs, ["band-stats", "random:vit-nano"], ["fit.epochs=2", "knn_k=3"])
    with pytest.raises(RsfmError, match="'other' is of dataset 'eurosat-ms'"):
        packs_of(what, workspace, ["other"])


def test_asking_for_more_queues_what_is_missing(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.client.ensure_supervisor", lambda *_: None)
    make_pack(workspace, "tiles", "levir-cd")
    what = protocol("dstnsp")
    first = queue_planned(workspace, plan(what, packs_of(what, workspace), ["band-stats"]))
    again = queue_planned(workspace, plan(what, packs_of(what, workspace), ["band-stats", "random:vit-nano"]))
    assert len(first) == 2 and len(again) == 4 and set(first) < set(again)


def evaluated(
    workspace: Workspace, spec: EvaluateSpec, pack: Pack, value: float, run: RunFolder | None = None, **row: object
) -> None:
    """An evaluation of that request (as a new run, or as that one), with the same score everywhere."""
    target = "post" if spec.degrade_target == "auto" else spec.degrade_target
    job = begin(run or create_run(workspace, spec))
    shared = {
        "model": spec.model, "model_title": spec.model, "model_group": spec.model, "dataset": pack.name,
        "pack_hash": pack.info.content_hash, "task": "change", "metric": "f1", "operator": spec.operator,
        "adaptation": spec.protocol_name(spec.adaptations[0], TASKS["change"]), "degrade_target": target,
        "train_degrade": "bilinear" if spec.fit.train_degrade else "none", "bands": ",".join(spec.bands or ["r", "g"]),
    }  # fmt: skip
    rows = [score(**shared | {"severity": s, "eval_seed": e, "value": value} | row)
            for s in spec.severities for e in spec.eval_seeds]  # fmt: skip
    job.scores([*rows, *(r | {"metric": "iou"} for r in rows)])


def test_the_report_holds_what_the_protocol_asks_for_and_nothing_else(workspace: Workspace) -> None:
    pack = make_pack(workspace, "tiles", "levir-cd")
    what, packs = protocol("dstnsp"), {"levir-cd": "tiles"}
    planned = {p.name: p.spec for p in plan(what, packs, ["band-stats", "timm:x"])}
    for name, value in (("levir-cd, band-stats", 0.2), ("levir-cd, timm:x", 0.6), ("levir-cd-degraded, timm:x", 0.8)):
        evaluated(workspace, planned[name], pack, value)
    preset = "dstnsp-change"
    for settings in (
        ["operator=area"], ["degrade_target=both"], ['bands=["r"]'], ["eval_seeds=[7]"], ["bootstrap=100"],
        ["fit.epochs=3"], ["severities=[1, 3]"], ["test_split=val"],
    ):  # fmt: skip
        evaluated(workspace, evaluate_spec("timm:x", "tiles", preset, settings), pack, 0.99)
    evaluated(workspace, planned["levir-cd, timm:x"], pack, 0.99, pack_hash="of before")
    evaluated(workspace, evaluate_spec("band-stats", "tiles", preset), pack, 0.99)
    local = evaluate_spec("timm:y", "tiles", preset, ["device=cpu", "threads=2", "model_seed=4"])
    evaluated(workspace, local, pack, 0.5)
    frame = measured(workspace, what, packs)
    ours = frame[frame["who"] == "ours"]
    found = ours.groupby(["model", "adaptation", "train_degrade"])["value"].agg(["min", "max", "count"])
    assert found.reset_index().values.tolist() == [
        ["band-stats", "linear (lr=None)", "none", pytest.approx(0.2), pytest.approx(0.2), 4],
        ["timm:x", "finetune", "bilinear", pytest.approx(0.8), pytest.approx(0.8), 4],
        ["timm:x", "finetune", "none", pytest.approx(0.6), pytest.approx(0.6), 4],
        ["timm:y", "finetune", "none", pytest.approx(0.5), pytest.approx(0.5), 4],
    ]
    assert set(ours["metric"]) == {"f1"} and sorted(set(ours["severity"])) == [1, 2, 4, 8]
    shorter = measured(workspace, what, packs, ["fit.epochs=3"])
    assert shorter.loc[shorter["who"] == "ours", "adaptation"].unique().tolist() == ["finetune (epochs=3)"]


def test_report_without_results_is_the_authors(workspace: Workspace) -> None:
    make_pack(workspace, "tiles", "levir-cd")
    what = protocol("dstnsp")
    frame = measured(workspace, what, packs_of(what, workspace))
    assert set(frame["who"]) == {"authors"} and set(frame["dataset"]) == {"tiles"} and len(frame) == (6 + 5) * 4
