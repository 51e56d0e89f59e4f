"""Read one folder of the workspace, a run, a pack or a model, into rows of the index."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rsfm.errors import RsfmError
from rsfm.model_info import ModelInfo, ModelOrigin, tensors_of
from rsfm.packs import Pack
from rsfm.store import parse
from rsfm.store.files import read_json
from rsfm.store.parse import as_json, integer, moment
from rsfm.store.runs import FINISHED, is_run_id
from rsfm.store.scan import LINE_FILES, RUN_FILES, WATCHED, Known, Replaced, read_grown, read_whole, signature
from rsfm.store.summary import attempt_rows, run_row

_ALL = 2**40
_SIGNATURES = {
    ".png": b"\x89PNG\r\n\x1a\n", ".jpg": b"\xff\xd8\xff", ".jpeg": b"\xff\xd8\xff", ".parquet": b"PAR1",
}  # fmt: skip


@dataclass
class Update:
    """What is new in one folder. `rows` of other tables than `runs` lack the column `run`."""

    owner: str
    files: dict[str, Known] = field(default_factory=dict)
    #: Everything that was read of the owner before is void.
    restart: bool = False
    #: table -> rows. `runs`, `attempts`, `datasets`, `models` replace the owner's rows, the others add to them.
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    metrics: parse.Metrics | None = None
    problems: list[dict[str, str]] = field(default_factory=list)
    #: attempt -> the first step it does, where an event says so
    start_steps: dict[int, int] = field(default_factory=dict)
    finished: bool = False

    @property
    def partial(self) -> bool:
        """Whether the limit left lines for another time."""
        return any(known.mtime_ns < 0 for known in self.files.values())

    @property
    def consumed(self) -> int:
        return sum(known.consumed for known in self.files.values())

    @property
    def name(self) -> str:
        return self.owner.split("/", 1)[1]

    def trouble(self, path: str, problem: str) -> None:
        self.problems.append({"owner": self.owner, "path": path, "problem": parse.text(problem) or ""})


def read_folder(root: Path, owner: str, known: dict[str, Known], limit: int) -> Update:
    """Read what is new since `known` (empty: everything). Never raises for what it finds.

    Args:
        root: of the workspace.
        limit: about so many bytes of a line file at once; the next call goes on.
    """
    if not (root / owner).is_dir():
        return Update(owner, restart=True)
    match owner.split("/", 1)[0]:
        case "runs":
            try:
                return _read_run(root, owner, known, limit)
            except Replaced:
                update = _read_run(root, owner, {}, limit)
                update.restart = True
                return update
        case "packs":
            return _read_pack(root, owner)
        case _:
            return _read_model(root, owner)


# -- runs ----------------------------------------------------------------------------------------------------------
def _read_run(root: Path, owner: str, known: dict[str, Known], limit: int) -> Update:
    update = Update(owner)
    folder = root / owner
    data: dict[str, bytes] = {}
    for name in RUN_FILES:
        grows = name in LINE_FILES and name != "events.jsonl"
        try:
            if name == "events.jsonl":
                # Small, and its run's row is folded from all of it: read in full, once.
                found = read_grown(folder / name, None, _ALL)
                if name in known and (found is None or not found[0].startswith(known[name].head)):
                    raise Replaced(folder / name)
                if found is not None and name in known and found[1].consumed < known[name].consumed:
                    raise Replaced(folder / name)
            else:
                found = read_grown(folder / name, known.get(name), limit) if grows else read_whole(folder / name)
        except OSError as error:
            if (there := signature(str(folder / name))) is not None:
                # What was read of it before stays; so does how far.
                before = known.get(name) or Known(0, 0, 0)
                update.files[name] = replace(before, inode=there[0], size=there[1], mtime_ns=there[2])
            update.trouble(f"{owner}/{name}", f"cannot be read: {error.strerror or error}")
            continue
        if found is not None:
            data[name], update.files[name] = found
    envelope = _loads(data.get("spec.json"))
    if not is_run_id(update.name) or not isinstance(envelope, dict) or not isinstance(envelope.get("spec"), dict):
        reason = "spec.json is missing or unreadable" if is_run_id(update.name) else "its name is no run's id"
        # As if nothing had been read, so that the whole run comes in once it is mended.
        files = {n: replace(k, consumed=0, head=b"", bad=0) for n, k in update.files.items()}
        quarantined = Update(owner, files, restart=True, problems=update.problems)
        quarantined.trouble(owner, f"left out: {reason}")
        return quarantined
    _parse_lines(update, data, known, folder)
    events = update.rows.pop("all_events")
    ended = _loads(data.get("exit.json"))
    update.rows["attempts"] = attempt_rows(events, ended)
    row = run_row(
        update.name,
        envelope,
        events,
        update.rows["attempts"],
        _loads(data.get("progress.json")),
        _loads(data.get("heartbeat.json")),
        _loads(data.get("about.json")),
    )
    if "about.json" in data and not isinstance(_loads(data["about.json"]), dict):
        update.trouble(f"{owner}/about.json", "is not readable JSON: the tags that the run was queued with count")
    update.rows["runs"] = [row]
    update.finished = row["state"] in FINISHED
    return update


def _parse_lines(update: Update, data: dict[str, bytes], known: dict[str, Known], folder: Path) -> None:
    def start(name: str) -> int:
        return known[name].consumed if name in known else 0

    def bad_lines(name: str, bad: int) -> None:
        if name in update.files and bad:
            update.files[name] = replace(update.files[name], bad=update.files[name].bad + bad)

    events, bad = parse.events(data.get("events.jsonl", b""))
    bad_lines("events.jsonl", bad)  # of the whole file, as it was read
    update.rows["all_events"] = events
    for event in events:
        if event["start_step"] is not None and event["attempt"] is not None:
            first = update.start_steps.get(event["attempt"], event["start_step"])
            update.start_steps[event["attempt"]] = min(first, event["start_step"])
    update.rows["events"] = [e for e in events if e["seq"] >= start("events.jsonl")]
    update.metrics = parse.metrics(data.get("metrics.jsonl", b""))
    bad_lines("metrics.jsonl", update.metrics.bad)
    update.rows["scores"], bad = parse.scores(data.get("scores.jsonl", b""), start("scores.jsonl"))
    bad_lines("scores.jsonl", bad)
    rows, bad = parse.artifacts(data.get("artifacts.jsonl", b""), start("artifacts.jsonl"))
    bad_lines("artifacts.jsonl", bad)
    latest = {row["path"]: row for row in rows}
    for row in latest.values():
        row["bytes"], row["problem"] = check_artifact(folder, row["path"])
        row["ok"] = row["problem"] is None
    update.rows["artifacts"] = sorted(latest.values(), key=lambda row: row["seq"])


def _loads(data: bytes | None) -> Any | None:
    try:
        return None if data is None else json.loads(data)
    except (ValueError, RecursionError):
        return None


def check_artifact(folder: Path, path: str) -> tuple[int | None, str | None]:
    """Size in bytes, and what is wrong with an artifact; None where it is a good file."""
    root = folder.resolve()
    file = (root / path).resolve()
    if not file.is_relative_to(root):
        return None, "lies outside of its run's folder"
    try:
        size = file.stat().st_size
        if not file.is_file():
            return None, "is not a file"
        if not size:
            return 0, "is empty"
        with file.open("rb") as opened:
            begin = _SIGNATURES.get(file.suffix.lower(), b"")
            if opened.read(len(begin)) != begin:
                return size, f"does not begin like a {file.suffix[1:]} file"
        if file.suffix.lower() == ".parquet":
            pq.read_metadata(file)
    except FileNotFoundError:
        return None, "does not exist"
    except (OSError, pa.ArrowException) as error:
        return None, f"cannot be read: {str(error).splitlines()[0]}"
    return size, None


# -- packs and models ----------------------------------------------------------------------------------------------
def _watched(update: Update, folder: Path) -> None:
    """Take the signatures before anything is read, so that a later change shows."""
    for name in WATCHED[update.owner.split("/", 1)[0]]:
        found = signature(str(folder / name))
        if found is not None:
            update.files[name] = Known(*found)


def _read_pack(root: Path, owner: str) -> Update:
    update = Update(owner)
    _watched(update, root / owner)
    row: dict[str, Any] = {"name": update.name, "synthetic": False}
    try:
        info = Pack.open(root / owner).info
    except (RsfmError, OSError) as error:
        row["problem"] = parse.text(str(error))
        update.trouble(owner, row["problem"])
    else:
        layer = info.layers[0] if info.layers else None
        row |= {
            "title": info.title, "dataset": info.dataset, "synthetic": info.synthetic, "task": info.task,
            "splits": as_json(info.splits), "samples": integer(sum(info.splits.values())),
            "bands": ",".join(b.name for b in layer.bands) if layer else None,
            "sensor": layer.sensor if layer else None, "gsd_m": layer.gsd_m if layer else None,
            "size": integer(layer.shape[1]) if layer else None, "classes": len(info.classes),
            "content_hash": info.content_hash, "bytes": integer(info.bytes), "created": moment(info.created),
        }  # fmt: skip
    update.rows["datasets"] = [row]
    return update


def _read_model(root: Path, owner: str) -> Update:
    update = Update(owner)
    folder = root / owner
    _watched(update, folder)
    row: dict[str, Any] = {"name": update.name}
    try:
        info = ModelInfo.read(folder)
        tensors = tensors_of(folder / "model.safetensors")
        size, origin = (folder / "model.safetensors").stat().st_size, ModelOrigin.read(folder)
    except (RsfmError, OSError) as error:
        # What its run was may still be known, so that the row says which model is broken.
        rest = read_json(folder / "model.json")
        row["run_id"] = parse.text(rest.get("run_id")) if isinstance(rest, dict) else None
        row["problem"] = parse.text(str(error))
        update.trouble(owner, row["problem"])
    else:
        row |= {
            "title": info.title, "method": info.method, "run_id": info.run_id, "group_id": info.group,
            "seed": integer(info.seed), "bands": ",".join(b.name for b in info.bands),
            "feature_dim": integer(info.feature_dim), "trained_on": info.trained_on,
            "architecture": info.architecture, "parameters": sum(t.numel for t in tensors.values()),
            "image_size": integer(info.image_size), "sensor": info.sensor, "gsd_m": info.gsd_m,
            "step": integer(info.step), "samples": integer(info.samples), "synthetic": info.synthetic,
            "bytes": size, "imported": moment(origin.imported) if origin else None,
            "created": moment(info.created),
        }  # fmt: skip
    update.rows["models"] = [row]
    return update
