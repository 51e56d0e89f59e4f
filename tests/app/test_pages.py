"""Every page on an empty, a populated and a hostile workspace, run without a browser."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from lab import PAGES, SCRIPT, make_lab
from shown import MARKUP, Open, run_of, texts
from streamlit.testing.v1 import AppTest

from rsfm.alarms import ALARMS
from rsfm.workspace import Workspace


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("state", ["empty", "lab", "hostile"])
def test_page_draws(open_page: Open, request: pytest.FixtureRequest, tmp_path: Path, state: str, page: str) -> None:
    workspace = {
        "empty": lambda: Workspace(tmp_path / "nothing"),
        "lab": lambda: request.getfixturevalue("lab"),
        "hostile": lambda: request.getfixturevalue("hostile_lab"),
    }[state]()
    test = open_page(workspace, page)
    assert not test.exception
    assert test.title or page == "run"
    if state == "empty":
        assert test.get("page_link") or page == "datasets", "an empty page says where to go next"
        assert not workspace.root.exists(), "looking creates nothing"


@pytest.mark.parametrize("page", [*PAGES, "run-evaluation", "run-failed", "datasets-classes"])
def test_user_text_is_never_markup(open_page: Open, hostile_lab: Workspace, page: str) -> None:
    query: dict[str, str] = {}
    if page == "run-evaluation":
        query = {"run": run_of(hostile_lab, kind="evaluate", state="succeeded").id}
    elif page == "run-failed":
        query = {"run": run_of(hostile_lab, state="failed").id}
    elif page == "datasets-classes":
        query = {"pack": "synthetic-landsat7", "classes": []}
    test = open_page(hostile_lab, page.partition("-")[0], **query)
    assert not test.exception
    seen = 0
    for kind in ("markdown", "caption", "title", "subheader", "error", "info", "warning", "badge"):
        for element in test.get(kind):
            assert not getattr(element.proto, "allow_html", False), element
            body = str(element.value)
            # Markdown escapes every special character: neither an image nor a link nor HTML is left.
            assert not MARKUP.search(body), body
            assert "\u202e" not in body and "\u2066" not in body, "characters that turn the reading direction round"
            seen += "onerror" in body
    for link in test.get("page_link"):
        assert not MARKUP.search(link.proto.label)
        seen += "onerror" in link.proto.label
    if page in ("run-failed", "now", "datasets", "datasets-classes"):
        assert seen, "the hostile text is shown, as text"


def test_no_page_imports_torch(lab: Workspace) -> None:
    code = f"""
import sys
from streamlit.testing.v1 import AppTest
import jobs.client
jobs.client.ensure_supervisor = lambda w, **_: None
for page in {PAGES!r}:
    test = AppTest.from_file({str(SCRIPT)!r}, default_timeout=60).run()
    test.switch_page(f"app_pages/{{page}}.py").run()
    assert not test.exception, test.exception
from app.loading import load_ahead
load_ahead()
heavy = [m for m in ("torch", "lightning", "timm", "torchgeo", "umap") if m in sys.modules]
assert not heavy, heavy
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120,
        env={"RSFM_WORKSPACE": str(lab.root), "PATH": "/usr/bin:/bin", "HOME": str(lab.root)}, cwd=SCRIPT.parents[1],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


def test_standing_alarms_mark_the_run_on_now_and_runs(open_page: Open, lab: Workspace) -> None:
    title = ALARMS["constant-collapse"].title
    assert f"{title} +1" in texts(open_page(lab, "now"))
    rows = open_page(lab, "runs").dataframe[0].value.set_index("run")
    running, done = run_of(lab, state="running").id, run_of(lab, kind="pretrain", state="succeeded").id
    assert list(rows.loc[running, "alarms"]) == [title, ALARMS["dimensional-collapse"].title]
    assert list(rows.loc[done, "alarms"]) == [], "an alarm that has gone is no mark"


def test_a_fragment_shows_an_error_as_a_sentence() -> None:
    def script() -> None:
        from app.page import guarded
        from rsfm.errors import RsfmError

        def fail() -> None:
            raise RsfmError("There is *no* run.")

        guarded(fail)()

    test = AppTest.from_function(script).run()
    assert not test.exception and test.error[0].value == r"There is \*no\* run\."


def test_pages_work_while_another_program_holds_the_index(open_page: Open, tmp_path: Path) -> None:
    workspace = make_lab(tmp_path / "w")
    run = run_of(workspace, state="running")
    open_page(workspace, "run", run=run.id)  # the index exists now
    code = (
        f"import duckdb, sys; c = duckdb.connect({str(workspace.index)!r}); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline().strip() == "held"
        run.add_event(message="still going")
        time.sleep(1.1)
        for page, query in (("run", {"run": run.id}), ("now", {}), ("runs", {}), ("degradation", {}), ("datasets", {})):
            test = open_page(workspace, page, **query)
            assert not test.exception, page
            if page == "run":
                assert {m.label: m.value for m in test.metric}["Progress"] == "42 %"
        assert test.warning and str(holder.pid) in test.warning[0].value
        holder.communicate("")
