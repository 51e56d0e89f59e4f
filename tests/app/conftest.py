"""Labs on disk and a way to run pages without a browser."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import streamlit as st
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.testclient import TestClient
from streamlit.testing.v1 import AppTest

from app.access import Access
from app.routes import build_routes
from app.security import Guard
from rsfm.store.view import Store
from rsfm.workspace import Workspace

sys.path.insert(0, str(Path(__file__).parent))
from lab import SCRIPT, make_lab

if TYPE_CHECKING:
    from predicted import Predicted


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A populated workspace. Tests do not change it."""
    return make_lab(tmp_path_factory.mktemp("lab") / "workspace")


@pytest.fixture
def lab_now(tmp_path: Path) -> Workspace:
    """A populated workspace of one test, where a supervisor can be said to serve."""
    made = make_lab(tmp_path / "w")
    made.supervisor.mkdir(exist_ok=True)
    return made


@pytest.fixture(scope="session")
def hostile_lab(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace whose titles, labels and messages try to be code."""
    return make_lab(tmp_path_factory.mktemp("hostile") / "workspace", hostile=True)


@pytest.fixture
def no_jobs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, object]]:
    """No process is started; what pages asked for is recorded as (verb, argument)."""
    import jobs.client

    asked: list[tuple[str, object]] = []
    monkeypatch.setattr(jobs.client, "ensure_supervisor", lambda w, **_: asked.append(("ensure", w.root)))
    monkeypatch.setattr(jobs.client, "stop", lambda w, run_id: asked.append(("stop", run_id)))
    monkeypatch.setattr(jobs.client, "resume", lambda w, run_id: asked.append(("resume", run_id)))

    def submit(workspace: Workspace, spec: object, **_: object) -> str:
        asked.append(("submit", spec))
        return f"20261121-093045-mae-eurosat-{len(asked):04x}"

    monkeypatch.setattr(jobs.client, "submit", submit)
    monkeypatch.setattr(
        jobs.client, "dry_run", lambda spec, w, **_: asked.append(("dry_run", spec)) or jobs.client.DryRun(True)
    )
    return asked


@pytest.fixture
def open_page(monkeypatch: pytest.MonkeyPatch, no_jobs: list) -> Iterator[Callable[..., AppTest]]:
    """`open_page(workspace, "runs", kind="pretrain")`: the page, run once."""
    # A test writes files and looks at once: no page may take the index of the last second for new enough.
    monkeypatch.setattr(Store.refresh_if_stale, "__defaults__", (0.0,))

    def run(workspace: Workspace, page: str, /, **query: str | list[str]) -> AppTest:
        monkeypatch.setenv("RSFM_WORKSPACE", str(workspace.root))
        test = AppTest.from_file(str(SCRIPT), default_timeout=60).run()
        no_jobs.clear()  # the front page's
        test.switch_page(f"app_pages/{page}.py")
        for name, value in query.items():
            test.query_params[name] = value
        return test.run()

    yield run
    st.cache_resource.clear()


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Predicted:
    """Predicted scenes. A test that changes a file of theirs restores it."""
    from predicted import make_predicted  # torch comes with it, for these tests only

    return make_predicted(tmp_path_factory.mktemp("predicted"))


@pytest.fixture
def client(made: Predicted) -> Iterator[TestClient]:
    """Asks the routes of `made`, as a browser on this machine does."""
    access = Access(hosts=frozenset({"testserver"}))
    app = Starlette(routes=build_routes(made.workspace), middleware=[Middleware(Guard, access=access)])
    with TestClient(app, raise_server_exceptions=True, follow_redirects=False) as client:
        yield client
