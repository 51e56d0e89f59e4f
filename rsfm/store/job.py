"""What a job is given while it runs: its folder, and the only ways to report from it. No torch, no database."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rsfm.store.files import append_jsonl, read_json, utc_now, write_json
from rsfm.store.runs import RunFolder
from rsfm.workspace import Workspace


class Stopped(Exception):
    """Raised by a job that was asked to stop and has saved what it needs to go on later."""


@dataclass
class JobContext:
    """One attempt of one run, seen from inside the job."""

    workspace: Workspace
    folder: RunFolder
    attempt: int
    threads: int = 1
    device: str = "cpu"  # "cpu" or "cuda": what the slot grants
    _rate: tuple[float, float, str] | None = field(default=None, repr=False)  # (since, done then, phase)
    _written: float = field(default=0.0, repr=False)

    def stop_requested(self) -> bool:
        """Whether the job should finish its step, save, and raise `Stopped`."""
        return self.folder.requested("stop")

    def check_stop(self) -> None:
        if self.stop_requested():
            raise Stopped

    def progress(
        self, done: float, total: float, *, unit: str, phase: str = "", force: bool = False, **more: Any
    ) -> None:
        """Say how far the job is. Written at most four times a second; call it as often as you like.

        Args:
            done, total: in `unit` (e.g. "samples"); `phase` names the part of the job.
            more: further live values, e.g. `step`, `loss`.
        """
        now = time.monotonic()
        if self._rate is None or phase != self._rate[2] or done < self._rate[1]:
            self._rate = (now, done, phase)
        if not force and done < total and now - self._written < 0.25:
            return
        self._written = now
        start, first, _ = self._rate
        rate = (done - first) / (now - start) if now > start and done > first else None
        write_json(
            self.folder.path / "progress.json",
            {
                "attempt": self.attempt, "time": utc_now(), "done": done, "total": total, "unit": unit, "phase": phase,
                "rate": rate, "eta_s": (total - done) / rate if rate else None, **more,
            },
        )  # fmt: skip

    def metrics(self, *, step: int, samples: int, values: dict[str, float]) -> None:
        """Append one row of named numbers."""
        append_jsonl(
            self.folder.path / "metrics.jsonl",
            {"attempt": self.attempt, "step": step, "samples": samples, "time": utc_now(), "values": values},
        )

    def scores(self, rows: list[dict[str, Any]]) -> None:
        """Append rows of the `scores` table (see `rsfm.store.schema`)."""
        append_jsonl(
            self.folder.path / "scores.jsonl",
            *({"attempt": self.attempt, "time": utc_now(), **r} for r in rows),
        )

    def artifact(self, path: Path, *, kind: str, title: str = "", **more: Any) -> None:
        """Register a finished file below the run folder (`kind`: preview, predictions, figure, table, ...)."""
        append_jsonl(
            self.folder.path / "artifacts.jsonl",
            {
                "attempt": self.attempt, "time": utc_now(), "path": path.relative_to(self.folder.path).as_posix(),
                "kind": kind, "title": title or path.stem, **more,
            },
        )  # fmt: skip

    def remember(self, name: str, value: Any) -> None:
        """Keep a small JSON value for later attempts of this run."""
        write_json(self.folder.path / f"{name}.json", value)

    def recall(self, name: str) -> Any | None:
        return read_json(self.folder.path / f"{name}.json")
