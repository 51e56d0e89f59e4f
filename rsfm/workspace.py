"""Where everything of one lab lives on disk."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from rsfm.errors import RsfmError


def is_folder_name(text: str) -> bool:
    """Whether a text can be the name of a pack's, run's or model's folder: no path, and no longer than disks take."""
    return 0 < len(text.encode(errors="replace")) <= 200 and not text.startswith(".") and not set(text) & set("/\\\0")


@dataclass(frozen=True)
class Workspace:
    """The folder that holds packs, runs, models and the index.

    Only paths: nothing is created before something is written.
    """

    root: Path

    @classmethod
    def resolve(cls, path: str | Path | None = None) -> Workspace:
        """The workspace at `path`, else at `$RSFM_WORKSPACE`, else at `./workspace`.

        Raises:
            RsfmError: there is something else than a folder.
        """
        root = Path(path or os.environ.get("RSFM_WORKSPACE") or "workspace").expanduser().resolve()
        if any(p.exists() and not p.is_dir() for p in (root, *root.parents)):
            raise RsfmError(f"The workspace {root} is not a folder: choose another with --workspace or RSFM_WORKSPACE.")
        return cls(root)

    @property
    def packs(self) -> Path:
        return self.root / "packs"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def models(self) -> Path:
        return self.root / "models"

    @property
    def weights(self) -> Path:
        """Published weights that the user put here; see `rsfm.models.foreign.files`."""
        return self.root / "weights"

    @property
    def features(self) -> Path:
        """Cache of frozen features; may be deleted at any time."""
        return self.root / "features"

    @property
    def exports(self) -> Path:
        """Models in other forms, made for a download; may be deleted at any time."""
        return self.root / "exports"

    @property
    def selections(self) -> Path:
        """Selections of samples that are too long for an address; see `app.kept_selections`."""
        return self.root / "selections"

    @property
    def datasets(self) -> Path:
        """Entries that the user added (`rsfm data add`), one JSON file each."""
        return self.root / "datasets"

    @property
    def downloads(self) -> Path:
        return self.root / "downloads"

    @property
    def index(self) -> Path:
        return self.root / "index.duckdb"

    def free_bytes(self) -> int:
        """Free space on the disk where the workspace is or would be."""
        place = self.root
        while not place.exists():
            place = place.parent
        return shutil.disk_usage(place).free

    @property
    def supervisor(self) -> Path:
        """Lock, state and log of the one supervisor of this workspace."""
        return self.root / "supervisor"
