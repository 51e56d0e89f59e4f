"""The served process lets nobody in without the token, and gives nothing away to who is in."""

from __future__ import annotations

import http.client
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_access import FILLED, ROOT, WRONG
from websockets.sync.client import connect

from rsfm.workspace import Workspace


@pytest.fixture(scope="module")
def served(lab: Workspace) -> Iterator[tuple[int, str, Path]]:
    """A dashboard for others on every address of this machine: its port, its token, what it printed."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-c", "from rsfm.cli import main; main()", "app", "--host", "0.0.0.0"]
    environment = {k: v for k, v in os.environ.items() if k not in ("RSFM_WORKSPACE", "RSFM_TOKEN")}
    process = subprocess.Popen(
        [*command, "--port", str(port), "--workspace", str(lab.root)], stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, cwd=ROOT, env=environment, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(rf"http://127\.0\.0\.1:{port}/\?token=(\S+)", line)
        assert found, line
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                ask(port, "/rsfm/health")
                break
            except OSError:
                time.sleep(0.1)
        assert found[1] not in " ".join(Path(f"/proc/{process.pid}/cmdline").read_text().split("\0"))
        yield port, found[1], lab.root
    finally:
        process.terminate()
        process.wait(20)


def ask(port: int, path: str, method: str = "GET", **headers: str) -> tuple[int, str]:
    """A request with its path exactly as written."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.putrequest(method, path, skip_host=True)
    for name, value in {"host": f"127.0.0.1:{port}", **headers}.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    text = answer.read().decode("utf-8", "replace")
    connection.close()
    return answer.status, text


STREAMLITS = (
    "/_stcore/health", "/_stcore/script-health-check", "/_stcore/host-config", "/_stcore/metrics", "/_stcore/stream",
    "/_stcore/upload_file/a/b", "/media/a.png", "/component/a/b.js", "/static/js/index.js", "/index.html",
    "/auth/login", "/oauth2callback", "/favicon.png", "/app/static/a", "/now", "/",
)  # fmt: skip


PROBES = (
    "/../../../../etc/passwd", "/static/../../../../etc/passwd", "/static/..%2f..%2f..%2fetc%2fpasswd",
    "/media/%2e%2e/%2e%2e/etc/passwd", "/rsfm/vendor/..%5c..%5csecurity.py", "/rsfm/vendor/....//....//asgi.py",
    "/rsfm/artifacts/20261121-093045-mae-eurosat-7f3a/..%2f..%2fspec.json", "/rsfm/api/runs/..%2f..%2findex.duckdb",
    "/rsfm/tiles/20261121-093045-mae-eurosat-7f3a/image/99/0/0.png", "/rsfm/tiles/x/image/5/99999999999/1.png",
    "/rsfm/tiles/x/image/-1/0/0.png", "/rsfm/predictions/x/values?lon=nan&lat=1e999", "/rsfm/predictions/x/outlines.sh",
    "/rsfm/maps/predictions/%00", "/rsfm/maps/packs/%ff%fe", "/rsfm/thumbs/landsat7-sample/train/0.png?size=1e9",
    "/rsfm/thumbs/landsat7-sample/train/0.png?view=%00", "/rsfm/thumbs/landsat7-sample/../../x/train/0.png",
    "/rsfm/api/runs?limit=1e9", "/rsfm/api/runs?offset=-1", "/component/..%2f..%2fetc/passwd", "//etc/passwd/rsfm",
    "/_stcore/upload_file/../../../etc/passwd/x", "/rsfm/api/runs?kind=%27;DROP%20TABLE%20runs;--",
    f"/rsfm/thumbs/landsat7-sample/train/{'9' * 5000}.png", f"/rsfm/tiles/x/image/{'9' * 5000}/0/0.png",
    f"/rsfm/maps/packs/{'a' * 400}", f"/rsfm/models/{'a' * 400}",
    f"/rsfm/maps/predictions/20261121-093045-{'a-' * 200}b",
)  # fmt: skip


def test_the_served_process_lets_nobody_in_without_the_token(served: tuple[int, str, Path]) -> None:
    port, token, _ = served
    for path in (*STREAMLITS, *PROBES, *(f"/rsfm{p}" for p in FILLED.values())):
        for method in ("GET", "POST", "PUT", "DELETE"):
            status, text = ask(port, path, method)
            assert status == 401 and text == '{"error":"Authentication is required."}', (method, path, status, text)
    status, text = ask(port, f"/?token={WRONG}")
    assert status == 401 and token not in text
    assert ask(port, "/rsfm/health", host="evil.example")[0] == 421
    for headers in ({}, {"Authorization": f"Bearer {WRONG}"}, {"Cookie": f"rsfm_access_{port}=in.aaaa.bbbb"}):
        with pytest.raises(Exception, match="403"):
            connect(f"ws://127.0.0.1:{port}/_stcore/stream", additional_headers=headers, open_timeout=10)


def test_probes_by_somebody_inside_find_nothing(served: tuple[int, str, Path]) -> None:
    port, token, root = served
    bearer = {"authorization": f"Bearer {token}"}
    assert ask(port, "/_stcore/health", **bearer) == (200, "ok")
    with connect(f"ws://127.0.0.1:{port}/_stcore/stream", additional_headers=bearer, open_timeout=10):
        pass
    for path in PROBES:
        status, text = ask(port, path, **bearer)
        # Streamlit answers addresses that it does not know with its front page.
        fine = 400 <= status < 500 or (status == 200 and ("<title>Streamlit" in text or '"runs":[]' in text))
        assert fine or status in (204, 304), (path, status, text[:200])
        assert "root:" not in text and str(root) not in text and str(ROOT) not in text and "Traceback" not in text, path
    for path in ("/rsfm/health", "/rsfm/api/runs"):
        for method in ("POST", "PUT", "DELETE", "PATCH", "TRACE"):
            assert ask(port, path, method, **bearer)[0] == 405
    assert ask(port, "/rsfm/health", **bearer) == (200, '{"status":"ok"}'), "it still stands"
