"""What an attempt of an evaluation takes over from the attempts before it."""

from __future__ import annotations

import shutil

from rsfm.evaluation.plan import Plan
from rsfm.models.export import FeatureModel
from rsfm.store.job import JobContext

#: Folders of a run that hold what one attempt leaves for the next.
_PARTS = ("checkpoints", "models")


def start_over_if_changed(what: Plan, model: FeatureModel, context: JobContext) -> list[str]:
    """Throw away what earlier attempts of the run left, if it is of another pack content, model or operator.

    Trained networks and predictions that are kept between attempts would otherwise be mixed with those of the pack as
    it is now. Nothing is lost that could be used: what is asked for is an evaluation of what there is now. (Features
    are cached under names that tell all of this apart.)

    Returns:
        What has changed; nothing on the first attempt.
    """
    basis = {
        f"pack {what.pack.name}": what.pack.info.content_hash, f"model {model.name}": model.key,
        f"operator {what.operator.name}": what.operator.operator_hash,
    }  # fmt: skip
    began_with = context.recall("basis") or {}
    changed = [name for name, value in basis.items() if began_with.get(name, value) != value]
    if changed:
        for part in _PARTS:
            shutil.rmtree(context.folder.path / part, ignore_errors=True)
    context.remember("basis", basis)
    return changed
