"""What an evaluation sets in vain, refused: no score may be thought to rest on what it does not rest on."""

from __future__ import annotations

from operator import attrgetter

from rsfm.errors import RsfmError
from rsfm.registry.evaluation import EVALUATION_PRESETS
from rsfm.specs import ADAPTATION_SETTINGS, EvaluateSpec, has_effect
from rsfm.tasks import TASKS, Task


def refuse_unused(spec: EvaluateSpec, task: Task) -> None:
    """Refuse a preset of another task, and settings that are not as usual though nothing asked for uses them.

    Raises:
        RsfmError: names all of them, and what they are for.
    """
    if spec.preset and task.name not in (tasks := EVALUATION_PRESETS[spec.preset].tasks):
        meant = " and ".join(TASKS[name].title.lower() for name in tasks)
        raise RsfmError(
            f"Preset {spec.preset!r} is for {meant}, and pack {spec.dataset!r} is for {task.title.lower()}: leave the "
            "preset out, or choose another pack."
        )
    told: dict[str, list[str]] = {}
    for path, usual in spec.unused(task).items():
        users = [a for a in task.adaptations if path in ADAPTATION_SETTINGS and has_effect(path, task, a)]
        who = ", ".join(users) or ("random: models" if path == "model_seed" else "other tasks")
        told.setdefault(who, []).append(f"{path}={attrgetter(path)(spec)} (usual: {usual})")
    if told:
        settings = "; ".join(f"{', '.join(paths)}, for {who}" for who, paths in told.items())
        raise RsfmError(
            f"Nothing here would use these settings: {settings}. Model {spec.model} on pack {spec.dataset!r} is "
            f"evaluated by {', '.join(spec.adaptations or task.usual)}: leave them as usual, or ask for what uses them."
        )
