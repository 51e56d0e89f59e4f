"""The run folder: the truth about one run.

    spec.json                     the request, immutable, with versions, revision, host        (whoever submits)
    about.json                    tags and a note, see `rsfm.store.about`                      (people)
    events.jsonl                  state changes and messages                                   (supervisor)
    metrics.jsonl progress.json scores.jsonl artifacts.jsonl   what the job measured and made  (the job)
    heartbeat.json exit.json log.txt                                                           (runner)
    control/                      requests: stop, resume, checkpoint                           (anyone)
    checkpoints/ artifacts/ models/                                                            (the job)

Each file has one writer. A run that is resumed gets a new attempt in the same folder.
"""

from __future__ import annotations

import getpass
import os
import platform
import secrets
import shutil
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from rsfm.errors import RsfmError
from rsfm.specs import EmbedSpec, EvaluateSpec, PrepareSpec, PretrainSpec, Spec, group_hash, parse_spec, spec_hash
from rsfm.store.files import append_jsonl, read_json, read_jsonl, utc_now, write_json
from rsfm.workspace import Workspace

State = Literal["queued", "starting", "running", "stopping", "succeeded", "failed", "cancelled", "lost"]
STATES: tuple[State, ...] = (
    "queued",
    "starting",
    "running",
    "stopping",
    "succeeded",
    "failed",
    "cancelled",
    "lost",
)
FINISHED: frozenset[str] = frozenset({"succeeded", "failed", "cancelled", "lost"})
#: States from which `resume` makes a new attempt.
RESUMABLE: frozenset[str] = frozenset({"failed", "cancelled", "lost"})


@cache
def _versions() -> dict[str, str]:
    names = ("rsfm-lab", "torch", "timm", "lightning", "numpy", "duckdb", "rasterio")
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@cache
def _git_revision() -> str | None:
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        answer = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's numeric user without an account
        return str(os.getuid())


def _slug(text: str) -> str:
    kept = "".join(c if c.isascii() and c.isalnum() else "-" for c in text.lower())
    return "-".join(p for p in kept.split("-") if p)[:32]


def new_run_id(spec: Spec) -> str:
    """`20261121-093045-mae-eurosat-7f3a`: sorts by time, readable, unique."""
    match spec.kind:
        case "pretrain":
            words = f"{spec.method}-{spec.dataset}"
        case "evaluate" | "embed":
            model = spec.model if ":" in spec.model or spec.model.count("-") < 3 else "run"
            words = f"{'eval' if spec.kind == 'evaluate' else spec.kind}-{model}-{spec.dataset}"
        case "predict":
            words = f"predict-{Path(spec.scene).stem}"
        case _:
            words = f"prepare-{spec.name or spec.dataset}"
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{_slug(words)}-{secrets.token_hex(2)}"


def run_group(workspace: Workspace, spec: Spec) -> str:
    """The group of a run; an evaluated model is named by its pretraining group (all its seeds fold together)."""
    if isinstance(spec, EvaluateSpec | EmbedSpec):
        head, sep, tail = spec.model.rpartition(":")
        if is_run_id(tail) and (group := _trained_group(workspace, tail)):
            spec = spec.model_copy(update={"model": f"{head}{sep}group:{group}"})
    return group_hash(spec)


def _trained_group(workspace: Workspace, name: str) -> str | None:
    """The group of the run that trained a model: from its folder, or from the model where it was trained elsewhere."""
    for file in (workspace.runs / name / "spec.json", workspace.models / name / "model.json"):
        data = read_json(file)
        if isinstance(data, dict) and isinstance(data.get("group"), str):
            return data["group"]
    return None


def is_run_id(text: str) -> bool:
    """Whether the text has the form of a run's id (and so is safe as a folder's name)."""
    parts = text.split("-")
    return (
        len(text) <= 200 and len(parts) >= 4 and len(parts[0]) == 8 and len(parts[1]) == 6
        and parts[0].isdigit() and parts[1].isdigit()
        and all(c.isascii() and (c.isalnum() or c == "-") for c in text)
    )  # fmt: skip


@dataclass(frozen=True)
class RunFolder:
    """One run on disk. Reading never raises for what a killed writer may leave."""

    path: Path

    @property
    def id(self) -> str:
        return self.path.name

    # -- reading ---------------------------------------------------------------------------------------------------
    def envelope(self) -> dict[str, Any]:
        """spec.json: {"run_id", "kind", "group", "spec", "created", "after", "priority", "slot", "versions", ...}.

        Raises:
            RsfmError: missing or not JSON.
        """
        data = read_json(self.path / "spec.json")
        if not isinstance(data, dict) or not isinstance(data.get("spec"), dict):
            raise RsfmError(f"{self.path / 'spec.json'} is missing or unreadable.")
        return data

    def spec(self) -> Spec:
        return parse_spec(self.envelope()["spec"])

    def events(self) -> list[dict[str, Any]]:
        """Rows {"time", "state"?, "attempt"?, "message"?, ...} in order."""
        return read_jsonl(self.path / "events.jsonl")[0]

    def state(self) -> State:
        """The last state that the supervisor wrote; `queued` before it wrote any."""
        for event in reversed(self.events()):
            if event.get("state") in STATES:
                return event["state"]
        return "queued"

    def attempt(self) -> int:
        """Number of the latest attempt, from 1; 0 before the first start."""
        return max((e["attempt"] for e in self.events() if isinstance(e.get("attempt"), int)), default=0)

    def progress(self) -> dict[str, Any] | None:
        """{"attempt", "time", "done", "total", "unit", "phase", "rate", "eta_s", ...} or None."""
        return read_json(self.path / "progress.json")

    def heartbeat(self) -> dict[str, Any] | None:
        return read_json(self.path / "heartbeat.json")

    def exit(self) -> dict[str, Any] | None:
        return read_json(self.path / "exit.json")

    def log_tail(self, max_bytes: int = 20_000) -> str:
        """The end of log.txt, from a line's start; progress bars that rewrite a line show their last state."""
        try:
            with (self.path / "log.txt").open("rb") as file:
                file.seek(0, os.SEEK_END)
                size = file.tell()
                file.seek(max(0, size - max_bytes))
                text = file.read().decode("utf-8", "replace")
        except FileNotFoundError:
            return ""
        lines = text.split("\n")
        if size > max_bytes:
            lines = lines[1:]
        return "\n".join(line.rstrip("\r").rsplit("\r", 1)[-1] for line in lines)

    def requested(self, what: str) -> bool:
        return (self.path / "control" / what).exists()

    # -- writing (see the table above for who) ---------------------------------------------------------------------
    def request(self, what: Literal["stop", "resume", "checkpoint"]) -> None:
        folder = self.path / "control"
        folder.mkdir(exist_ok=True)
        write_json(folder / what, {"time": utc_now()})

    def clear_request(self, what: str) -> None:
        (self.path / "control" / what).unlink(missing_ok=True)

    def add_event(self, **fields: Any) -> None:
        """Supervisor only."""
        append_jsonl(self.path / "events.jsonl", {"time": utc_now(), **fields})


def create_run(
    workspace: Workspace,
    spec: Spec,
    *,
    after: list[str] | None = None,
    priority: int = 0,
    tags: list[str] | None = None,
) -> RunFolder:
    """Put a run into the queue: its folder appears in one step, complete.

    Args:
        after: ids of runs that must succeed first.
        priority: higher starts earlier; equal ones in order of submission.
    """
    run_id = new_run_id(spec)
    while (workspace.runs / run_id).exists():  # hundreds of a kind in one second: two of them draw the same end
        run_id = new_run_id(spec)
    folder = workspace.runs / run_id
    staging = workspace.runs / f".new-{run_id}"
    (staging / "control").mkdir(parents=True)
    (staging / "artifacts").mkdir()
    for other in after or []:
        if not is_run_id(other) or not (workspace.runs / other).is_dir():
            shutil.rmtree(staging)
            raise RsfmError(f"Cannot wait for run {other!r}: there is none with that id.")
    write_json(
        staging / "spec.json",
        {
            "run_id": run_id, "kind": spec.kind, "group": run_group(workspace, spec),
            "spec": spec.model_dump(mode="json"), "spec_hash": spec_hash(spec.model_dump(mode="json")),
            "created": utc_now(), "after": after or [], "priority": priority, "tags": tags or [],
            "needs_gpu": needs_gpu(spec), "versions": _versions(), "git_revision": _git_revision(),
            "host": platform.node(), "user": _user(),
        },
    )  # fmt: skip
    staging.rename(folder)
    return RunFolder(folder)


def needs_gpu(spec: Spec) -> bool | None:
    """True: a GPU slot; False: a CPU slot; None: a GPU slot where the machine has one, else a CPU slot."""
    if isinstance(spec, PrepareSpec):
        return False
    device = spec.runtime.device if isinstance(spec, PretrainSpec) else spec.device
    return {"cpu": False, "cuda": True, "auto": None}[device]


def open_run(workspace: Workspace, run_id: str) -> RunFolder:
    """The folder of a run.

    Raises:
        RsfmError: no such run.
    """
    if not is_run_id(run_id) or not (workspace.runs / run_id).is_dir():
        raise RsfmError(f"There is no run {run_id!r} in {workspace.root}. List them with: rsfm runs")
    return RunFolder(workspace.runs / run_id)


def list_runs(workspace: Workspace) -> list[RunFolder]:
    """All run folders, oldest first."""
    return [RunFolder(p) for p in sorted(workspace.runs.glob("[0-9]*")) if p.is_dir()]
