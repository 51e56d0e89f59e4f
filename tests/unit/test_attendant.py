"""The supervisor's side work: what fails, hangs or happens meanwhile must not lose anything."""

from __future__ import annotations

import threading
import time

import pytest

from jobs.attendant import Attendant
from rsfm.workspace import Workspace


def test_trouble_with_the_index_stays_there(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def broken(where: Workspace) -> None:
        calls.append(where)
        raise OSError("disk full")

    monkeypatch.setattr("rsfm.store.index.refresh", broken)
    attendant = Attendant(workspace, refresh_s=0.01)
    attendant.active = True
    attendant.start()
    deadline = time.monotonic() + 20
    while len(calls) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    attendant.stop()
    assert len(calls) >= 3
    assert calls[0] == workspace


@pytest.mark.parametrize("answer", ["refreshed", "busy", None])
def test_what_is_written_while_the_index_is_refreshed_is_seen_by_the_next_refresh(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, answer: str | None
) -> None:
    """The last run may end at any moment; then nothing is active that would lead to another refresh."""
    attendant, calls = Attendant(workspace, refresh_s=0.01), []

    def refresh(where: Workspace) -> str:
        calls.append(where)
        if len(calls) == 1:
            attendant.dirty = answer == "refreshed"  # the run ends now; or nothing does, and nothing could be read
            if answer is None:
                raise OSError("disk full")
            return answer
        return "refreshed"

    monkeypatch.setattr("rsfm.store.index.refresh", refresh)
    for expected in (1, 2, 2):
        attendant._refresh()
        assert len(calls) == expected


def test_a_reading_that_fails_or_hangs_stops_nothing(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    refreshed, taken, answered = [], [], threading.Event()
    monkeypatch.setattr("rsfm.store.index.refresh", lambda where: refreshed.append(where) or "refreshed")
    attendant = Attendant(workspace, refresh_s=0.01, reading_s=0.01)

    def take(*, gpus: bool) -> None:
        taken.append(gpus)
        if len(taken) > 3:
            answered.wait()  # the driver does not answer any more
        raise OSError("no such device")

    monkeypatch.setattr(attendant.readings, "take", take)
    attendant.start()
    try:
        deadline = time.monotonic() + 20
        while len(taken) < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(taken) == 4  # tried again after each failure
        attendant.dirty = True
        attendant.stop()
        assert "attendant-readings" in [t.name for t in threading.enumerate()], "it is not waited for"
        assert not attendant.dirty and refreshed[-1] == workspace
    finally:
        answered.set()
    assert [r.getMessage() for r in caplog.records] == ["the machine was not read: OSError: no such device"]
