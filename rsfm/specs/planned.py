"""Several runs that belong together, before any of them is queued."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rsfm.specs.build import Spec


@dataclass(frozen=True)
class Planned:
    """One run of several.

    Attributes:
        name: among them.
        spec: its `model` may be `{name}` of an earlier one, and then means that run's id.
        tags: the first one is shared by all of them, so that they are found again.
        after: names of those that must succeed first.
    """

    name: str
    spec: Spec
    tags: tuple[str, ...]
    after: tuple[str, ...] = ()

    def request(self, ids: Mapping[str, str]) -> Spec:
        """The spec with the ids of earlier runs in it."""
        model = getattr(self.spec, "model", "")
        return self.spec.model_copy(update={"model": ids[model[1:-1]]}) if model.startswith("{") else self.spec
