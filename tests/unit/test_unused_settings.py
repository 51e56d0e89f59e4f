"""What an evaluation would not use is refused, and is no part of a score's name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rsfm.bands import Band
from rsfm.errors import RsfmError
from rsfm.evaluation.plan import plan
from rsfm.evaluation.unused import refuse_unused
from rsfm.pack_arrays import write_arrays
from rsfm.specs import EvaluateSpec, evaluate_spec
from rsfm.tasks import TASKS
from rsfm.workspace import Workspace

SCENES, LABELS, MAPS, CHANGE = (TASKS[t] for t in ("classification", "multilabel", "segmentation", "change"))


def asked(adaptations: str, *settings: str, model: str = "band-stats", preset: str = "") -> EvaluateSpec:
    named = ", ".join(f'"{a}"' for a in adaptations.split(",") if a)
    return evaluate_spec(model, "tiles", preset, [f"adaptations=[{named}]", *settings])


@pytest.mark.parametrize(
    ("spec", "task", "told"),
    [
        (asked("", "fit.lr=0.5", "fit.epochs=3"), SCENES, r"fit.epochs=3 \(usual: 20\), .*fit.lr=0.5.*, for finetune"),
        (asked("", "fit.select=best"), LABELS, "fit.select=best .* is evaluated by knn, linear"),
        (asked("finetune", "knn_k=5"), SCENES, r"knn_k=5 \(usual: 20\), for knn"),
        (asked("linear", "knn_temperature=0.1"), SCENES, "knn_temperature=0.1 .*for knn, centroid"),
        (asked("", "knn_k=5"), CHANGE, r"knn_k=5 \(usual: 20\), for other tasks"),
        (asked("", "fit.fusion=abs"), MAPS, "fit.fusion=abs .*for other tasks"),
        (asked("finetune", "fit.fusion=abs"), SCENES, "fit.fusion=abs .*for other tasks"),
        (asked("linear", "fit.decoder_width=64"), MAPS, "fit.decoder_width=64 .*for decoder, finetune"),
        (asked("finetune", "fit.pool_width=64"), SCENES, "fit.pool_width=64 .*for other tasks"),
        (asked("linear,decoder", "fit.layer_decay=1"), CHANGE, "fit.layer_decay=1.0 .*for finetune"),
        (asked("", "bootstrap=100"), SCENES, r"bootstrap=100 \(usual: 1000\), for other tasks"),
        (asked("", "maps_gb=5"), SCENES, r"maps_gb=5.0 \(usual: 20.0\), for other tasks"),
        (asked("finetune", "maps_gb=5"), CHANGE, "maps_gb=5.0 .*for linear, decoder"),
        (asked("", "model_seed=7"), SCENES, r"model_seed=7 \(usual: 0\), for random: models"),
        (asked("linear", "fit.epochs=9", preset="dstnsp-scenes"), SCENES, r"fit.epochs=9 \(usual: 100\), for finetune"),
        (asked("finetune", preset="dstnsp-scenes"), CHANGE, "for scene classification, and pack 'tiles' is for change"),
        (asked("finetune", preset="dstnsp-scenes"), LABELS, "leave the preset out"),
    ],
)  # fmt: skip
def test_what_nothing_would_use_is_refused(spec: EvaluateSpec, task: Any, told: str) -> None:
    with pytest.raises(RsfmError, match=told):
        refuse_unused(spec, task)
    if "usual" in told:
        refuse_unused(spec.only_used(task), task)


@pytest.mark.parametrize(
    ("spec", "task"),
    [
        (asked(""), SCENES), (asked(""), CHANGE), (asked("linear", preset="dstnsp-scenes"), SCENES),
        (asked("linear", preset="dstnsp-change"), CHANGE), (asked("linear", "fit.lr=1e-2"), MAPS),
        (asked("knn,finetune", "knn_k=5", "fit.layer_decay=1"), SCENES),
        (asked("centroid", "knn_temperature=1"), SCENES),
        (asked("", "fit.train_degrade=true"), SCENES), (asked("centroid", "fit.train_degrade=true"), SCENES),
        (asked("", "fit.train_degrade=true"), LABELS), (asked("", "maps_gb=5"), MAPS),
        (asked("linear,finetune", "fit.decoder_width=64", "fit.fusion=abs"), CHANGE),
        (asked("", "model_seed=7", model="random:vit-nano"), SCENES), (asked("", "threads=2", "bootstrap=100"), MAPS),
    ],
)  # fmt: skip
def test_what_one_adaptation_uses_is_fine(spec: EvaluateSpec, task: Any) -> None:
    refuse_unused(spec, task)
    assert spec.only_used(task) == spec


def test_the_plan_of_an_evaluation_refuses_it(workspace: Workspace) -> None:
    images = {split: np.zeros((4, 1, 8, 8), np.uint8) for split in ("train", "test")}
    write_arrays(workspace, "tiles", images, [Band("grey", 600, 1, "uint8")], labels={s: [*"abab"] for s in images})
    with pytest.raises(RsfmError, match=r"Nothing here would use these settings: fit\.epochs=3"):
        plan(asked("linear", "fit.epochs=3"), workspace)
    assert plan(asked("linear"), workspace).adaptations == ("linear",)


@pytest.mark.parametrize(
    ("spec", "task", "names"),
    [
        (asked("", "fit.decoder_width=64", "fit.layer_decay=1", "fit.fusion=abs"), MAPS,
         {"linear": "linear", "decoder": "decoder (decoder_width=64)",
          "finetune": "finetune (layer_decay=1.0, decoder_width=64)"}),
        (asked("", "fit.fusion=abs", "fit.epochs=3"), CHANGE, {"linear": "linear (epochs=3, fusion=abs)"}),
        (asked("", "fit.pool_width=64", "fit.epochs=3", "knn_k=5"), SCENES,
         {"finetune": "finetune (epochs=3)", "knn": "knn (knn_k=5)", "linear": "linear"}),
        (asked("", "fit.lr=0.001"), CHANGE, {"decoder": "decoder", "finetune": "finetune (lr=0.001)"}),
        (asked("", "fit.lr=null", preset="dstnsp-change"), CHANGE, {"linear": "linear (dstnsp-change, lr=None)"}),
    ],
)  # fmt: skip
def test_a_name_holds_what_its_adaptation_uses(spec: EvaluateSpec, task: Any, names: dict[str, str]) -> None:
    assert {adaptation: spec.protocol_name(adaptation, task) for adaptation in names} == names
