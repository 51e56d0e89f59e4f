"""What people should know of an evaluation before it runs, and what its log begins with."""

from __future__ import annotations

import numpy as np

from rsfm import stats
from rsfm.evaluation.batches import view_remarks
from rsfm.evaluation.plan import Plan
from rsfm.model_info import ModelInfo
from rsfm.models.export import EncoderModel, FeatureModel
from rsfm.specs import EvaluateSpec
from rsfm.wording import samples_text


def evaluation_remarks(spec: EvaluateSpec, what: Plan, model: FeatureModel) -> list[str]:
    """What is unusual about the pack, the model and how the two meet; one sentence each."""
    remarks = []
    info, layer = what.pack.info, what.pack.layer(what.pack.main)
    if info.synthetic:
        remarks.append(f"Pack {info.name!r} is synthetic: its scores say nothing about real imagery.")
    if what.task.name == "classification":
        unseen = sorted(set(what.test_labels) - set(what.train_labels))
        if unseen:
            names = ", ".join(what.classes[i] for i in unseen)
            remarks.append(f"No training sample of {names}: always wrong in the test.")
    scenes = int(what.test_scenes.max()) + 1
    if scenes < stats.FEW_SCENES:
        remarks.append(stats.few_scenes(what.n_test, scenes))
    elif scenes < what.n_test:
        worth = stats.equal_scenes(np.bincount(what.test_scenes))
        few = f" They are of different sizes, and worth {worth:.0f} of one size." if worth < scenes / 2 else ""
        remarks.append(f"{samples_text(what.n_test, scenes)}: intervals and tests take a scene as one.{few}")
    if layer.gsd_m is None:
        remarks.append(f"Pack {info.name!r} has no GSD in metres: its curve has factors only.")
    if what.operator.identity not in what.severities:
        name = what.operator.severity_name
        remarks.append(f"Without {name} {what.operator.identity:g} there is no retention.")
    remarks += model.remarks
    trained: ModelInfo | None = model.info if isinstance(model, EncoderModel) else None
    if trained and trained.gsd_m and layer.gsd_m and not 0.5 <= trained.gsd_m / layer.gsd_m <= 2:
        remarks.append(f"The model was trained at {trained.gsd_m:g} m, the pack is at {layer.gsd_m:g} m.")
    height, width = layer.shape[1:]
    if trained and {height, width} != {trained.image_size}:
        size = f"{height}" if height == width else f"{height}×{width}"
        remarks.append(f"The model was trained on {trained.image_size} px images, the pack has {size} px.")
    if any(what.task.trains(a) for a in what.adaptations):
        remarks += view_remarks(spec.fit, model.bands, height, width)
    return remarks
