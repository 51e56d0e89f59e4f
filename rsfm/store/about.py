"""What people say of a run: tags and a note, in `about.json` of its folder.

    {"tags": ["baseline", "paper"], "note": "…", "time": "2026-11-21T09:30:45.123+00:00"}

The tags of `spec.json` are those that a run was queued with; that file never changes. The first edit copies them into
`about.json`, whose list counts from then on: so a tag that a run was queued with can be taken off as well. Whoever
edits does it through `edit_about`, which holds one lock for the whole workspace, and names the note that is to be
replaced: two people at once lose nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from filelock import FileLock, Timeout

from rsfm.errors import RsfmError
from rsfm.store.files import read_json, utc_now, write_json
from rsfm.store.runs import RunFolder, open_run
from rsfm.workspace import Workspace

FILE = "about.json"
MAX_TAG = 60
MAX_TAGS = 40
MAX_NOTE = 10_000
_WAIT_S = 10.0


@dataclass(frozen=True)
class About:
    """Tags in the order in which they were given, and the note."""

    tags: tuple[str, ...] = ()
    note: str = ""


def as_text(value: Any) -> str:
    """Text that UTF-8 can hold, without what a terminal or a page would act upon; empty for anything else."""
    if not isinstance(value, str):
        return ""
    kept = "".join(c if c.isprintable() or c in "\n\t" else " " for c in value)
    return kept.encode("utf-8", "replace").decode()


def split_tags(values: Any) -> list[str]:
    """Tags as they count: no blanks around them, a comma between two of them, each one once."""
    texts = values if isinstance(values, list | tuple) else []
    parts = [" ".join(part.split()) for value in texts for part in as_text(value).split(",")]
    return list(dict.fromkeys(filter(None, parts)))


def about_of(envelope: Any, said: Any) -> About:
    """What counts of spec.json and about.json, either of which may be None or damaged."""
    first = split_tags(envelope.get("tags")) if isinstance(envelope, dict) else []
    if not isinstance(said, dict):
        return About(tuple(first))
    tags = split_tags(said.get("tags")) if isinstance(said.get("tags"), list) else first
    return About(tuple(tags), as_text(said.get("note")).strip())


def read_about(folder: RunFolder) -> About:
    """Tags and note of a run, straight from its folder."""
    return about_of(read_json(folder.path / "spec.json"), read_json(folder.path / FILE))


def checked_tags(values: Iterable[str]) -> list[str]:
    """Tags that people may give.

    Raises:
        RsfmError: one is too long.
    """
    tags = split_tags(list(values))
    for tag in tags:
        if len(tag) > MAX_TAG:
            raise RsfmError(f"The tag {tag[:20]!r}… has {len(tag)} characters; a tag has at most {MAX_TAG}.")
    return tags


def edit_about(
    workspace: Workspace, run_ids: Sequence[str], *, add: Iterable[str] = (), remove: Iterable[str] = (),
    note: str | None = None, instead_of: Mapping[str, str] | None = None, below: str = "",
) -> dict[str, About]:  # fmt: skip
    """Change tags and note of some runs: all of them, or none where a request is wrong.

    Args:
        add, remove: tags; one that is already there, or not there, changes nothing.
        note: replaces the note; "" takes it away; None leaves it.
        instead_of: run id -> the note that `note` is to replace; None: whatever stands there.
        below: a text that is added below each run's note.

    Returns:
        run id -> what counts now.

    Raises:
        RsfmError: no such run, a tag in both lists, too many or too long ones, a note that is too long or another one
            than `instead_of` says, an `about.json` that cannot be read, or a folder that cannot be written to.
    """
    added, removed = checked_tags(add), split_tags(list(remove))
    both = sorted(set(added) & set(removed))
    if both:
        raise RsfmError(f"The tag {both[0]!r} cannot be added and removed at once.")
    folders = [open_run(workspace, run_id) for run_id in dict.fromkeys(run_ids)]
    try:
        with FileLock(workspace.root / "about.lock", timeout=_WAIT_S):
            wanted = {}
            for folder in folders:
                now = _readable(folder)
                if note is not None and instead_of is not None:
                    _require_note(folder, now, instead_of[folder.id], note)
                said = now.note if note is None else note
                wanted[folder] = _edited(folder, now, added, removed, f"{said}\n{below}" if said else below)
            for folder, about in wanted.items():
                if about != read_about(folder):
                    write_json(folder.path / FILE, {"tags": about.tags, "note": about.note, "time": utc_now()})
    except Timeout:
        raise RsfmError(f"Someone else has been editing tags for {_WAIT_S:.0f} s: try again.") from None
    except OSError as error:
        raise RsfmError(f"Tags and notes cannot be written to {workspace.runs}: {error.strerror or error}.") from error
    return {folder.id: about for folder, about in wanted.items()}


def _edited(folder: RunFolder, now: About, added: list[str], removed: list[str], note: str) -> About:
    tags = dict.fromkeys([*(t for t in now.tags if t not in removed), *added])
    if len(tags) > MAX_TAGS:
        raise RsfmError(f"Run {folder.id} would have {len(tags)} tags; a run has at most {MAX_TAGS}.")
    if len(note := as_text(note).strip()) > MAX_NOTE:
        raise RsfmError(
            f"The note of run {folder.id} would have {len(note):,} characters; a note has at most {MAX_NOTE:,}."
        )
    return About(tuple(tags), note)


def _require_note(folder: RunFolder, now: About, replaced: str, note: str) -> None:
    """What someone else has written meanwhile is replaced by those only who have read it."""
    if now.note not in (replaced, as_text(note).strip()):
        raise RsfmError(f"The note of run {folder.id} has been changed meanwhile: nothing was saved.")


def _readable(folder: RunFolder) -> About:
    """What counts now; what someone wrote by hand is not thrown away because of a missing comma."""
    file = folder.path / FILE
    if file.exists() and not isinstance(read_json(file), dict):
        raise RsfmError(f"{file} is not readable JSON: mend it or delete it, then try again.")
    return read_about(folder)
