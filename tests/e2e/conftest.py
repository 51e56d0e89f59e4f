"""A served dashboard and a browser."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, Response, expect, sync_playwright

from rsfm.store.files import read_json
from rsfm.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(Path(__file__).parent))
sys.path[:0] = [str(ROOT / "tests" / name) for name in ("app", "integration")]
from browser import FLAGS, find  # noqa: E402 - its folder is not a package


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = find()
    if path is None:
        pytest.skip("no Chromium on PATH: python tests/e2e/browser.py finds or installs one")
    expect.set_options(timeout=30_000)  # a loaded machine is slow, not wrong
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield opened
        opened.close()


@dataclass
class Visit:
    """A page in a browser of its own, and everything it asked for."""

    page: Page
    base: str
    requests: list[str] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)

    def open(self, path: str) -> Visit:
        self.page.goto(self.base + path)
        self.page.locator('[data-testid="stMainBlockContainer"]').wait_for(timeout=60_000)
        self.settle()
        return self

    def settle(self) -> None:
        """Until the script has run, nothing is a placeholder any more and no error is on the page."""
        self.page.wait_for_function(
            "() => document.querySelector('[data-testid=\"stApp\"]')?.dataset.testScriptState !== 'running'"
            " && !document.querySelector('[data-testid=\"stSkeleton\"]')",
            timeout=60_000,
        )
        broken = self.page.get_by_test_id("stException")
        assert broken.count() == 0, f"{self.page.url}: {broken.first.inner_text()}"

    @property
    def main(self) -> Locator:
        """The page itself, without the header, which has a "Stop" of its own while a script runs."""
        return self.page.get_by_test_id("stMainBlockContainer")

    def tick(self, row: int) -> None:
        """Tick the box of a row of the table of runs, which is a canvas."""
        table = self.page.get_by_test_id("stDataFrame").locator("canvas").first
        table.wait_for()
        box = table.bounding_box()
        assert box is not None
        self.page.mouse.click(box["x"] + 18, box["y"] + 50 + 35 * row)

    def query(self) -> str:
        return self.page.url.partition("?")[2]

    def foreign(self) -> list[str]:
        """Requests that left the dashboard's own address."""
        return [
            r
            for r in self.requests
            if not r.startswith((f"{self.base}/", "data:", "blob:", f"{self.base.replace('http', 'ws')}/"))
        ]


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Visit]]:
    """`visit(base)`: a new browser session on a served dashboard."""
    contexts: list[BrowserContext] = []

    def make(base: str, *, width: int = 1440, height: int = 1000, scheme: str = "light") -> Visit:
        # Without animations, which keep a software renderer busy.
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce",  # type: ignore[arg-type]
        )  # fmt: skip
        context.set_default_timeout(60_000)
        contexts.append(context)
        page = context.new_page()
        made = Visit(page, base)
        page.on("request", lambda r: made.requests.append(r.url))
        page.on("websocket", lambda w: made.requests.append(w.url))
        page.on("response", lambda r: made.troubles.append(f"{r.status}: {r.url}") if is_wrong(r) else None)
        # A page that is left aborts what it was still loading.
        page.on(
            "requestfailed",
            lambda r: None if r.failure == "net::ERR_ABORTED" else made.troubles.append(f"failed: {r.url} {r.failure}"),
        )
        page.on("pageerror", lambda e: made.troubles.append(f"error: {e}"))
        page.on("dialog", lambda d: (made.troubles.append(f"dialog: {d.message}"), d.dismiss()))
        return made

    yield make
    for context in contexts:
        context.close()


def is_wrong(response: Response) -> bool:
    """Under a nested address Streamlit's client first asks two addresses of its own that are not there."""
    return response.status >= 400 and not response.url.endswith(("/_stcore/health", "/_stcore/host-config"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_app(workspace: Workspace) -> tuple[subprocess.Popen[bytes], str]:
    """`rsfm app` on a free port; returns when it answers."""
    port = free_port()
    env = {
        **os.environ, "RSFM_CPU_SLOTS": "1", "RSFM_SUPERVISOR_IDLE_S": "5", "OMP_NUM_THREADS": "1",
        "RSFM_STOP_GRACE_S": "90",
    }  # fmt: skip
    log = workspace.root / "app-log.txt"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", "from rsfm.cli import main; main()", "app", "--port", str(port), "--workspace",
             str(workspace.root)],
            stdout=output, stderr=subprocess.STDOUT, env=env, cwd=ROOT,
        )  # fmt: skip
    base = f"http://127.0.0.1:{port}"
    for _ in range(600):
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(f"{base}/rsfm/health", timeout=1):
                return process, base
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"no answer: {log.read_text()}")


def stop_everything(process: subprocess.Popen[bytes], workspace: Workspace) -> None:
    """End the server, the workspace's supervisor and its jobs: those only."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    status = read_json(workspace.supervisor / "state.json") or {}
    if not psutil.pid_exists(status.get("pid") or -1):
        return
    supervisor = psutil.Process(status["pid"])
    children = supervisor.children(recursive=True)
    supervisor.terminate()
    _, left = psutil.wait_procs([supervisor, *children], timeout=5)
    for one in left:
        one.kill()


@pytest.fixture(scope="session")
def served() -> Iterator[Callable[[Workspace], str]]:
    """`served(workspace)`: its dashboard's address; started once per workspace."""
    running: dict[Path, tuple[subprocess.Popen[bytes], str, Workspace]] = {}

    def serve(workspace: Workspace) -> str:
        if workspace.root not in running:
            running[workspace.root] = (*start_app(workspace), workspace)
        return running[workspace.root][1]

    yield serve
    for process, _, workspace in running.values():
        stop_everything(process, workspace)
