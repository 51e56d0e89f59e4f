"""What an attempt of an evaluation takes over from the attempts before it."""

from __future__ import annotations

import shutil

from rsfm.evaluation.plan import Plan
from rsfm.models.export import FeatureModel
from rsfm.store.job import JobContext

#: Raised whenever equal models, packs and operators no longer give equal results.
PARTS_FORMAT = 3
#: Folders of a run that hold what one attempt leaves for the next.
_PARTS = ("checkpoints", "models")


def start_over_if_changed(what: Plan, model: FeatureModel, context: JobContext) -> list[str]:
    """Throw away what earlier attempts of the run left, if it is of another pack content, model, operator or format.

    Trained networks and predictions that are kept between attempts would otherwise be mixed with those of the pack as
    it is now. Nothing is lost that could be used: what is asked for is an evaluation of what there is now. (Features
    are cached under names that tell all of this apart.)

    Returns:
        What has changed, or cannot be told to be the same; nothing on the first attempt.

    Raises:
        OSError: something cannot be thrown away, and would be taken for what it is not.
    """
    basis = {
        f"pack {what.pack.name}": what.pack.info.content_hash, f"model {model.name}": model.key,
        f"operator {what.operator.name}": what.operator.operator_hash, "format of kept parts": PARTS_FORMAT,
    }  # fmt: skip
    began_with, left = context.recall("basis"), [p for p in map(context.folder.path.joinpath, _PARTS) if p.is_dir()]
    # Without a note of it, parts are of a version that kept none: they may be of anything.
    began_with = began_with or (dict.fromkeys(basis) if left else basis)
    changed = [name for name, value in basis.items() if began_with.get(name) != value]
    if changed:
        for part in left:
            shutil.rmtree(part)
    context.remember("basis", basis)
    return changed
