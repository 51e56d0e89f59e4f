"""Serving: addresses, a taken port, the options, and the served process itself."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import tomllib
import urllib.request
from pathlib import Path

import pytest
from shown import contrast

from app.server import display_url, is_loopback, require_free, serve
from app.theme import DARK, LIGHT, server_options, theme_options
from rsfm.errors import RsfmError
from rsfm.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("host", "shown", "loopback"),
    [("127.0.0.1", "http://127.0.0.1:8501", True), ("0.0.0.0", "http://127.0.0.1:8501", False),
     ("::1", "http://[::1]:8501", True), ("lab.example", "http://lab.example:8501", False)],
)  # fmt: skip
def test_addresses(host: str, shown: str, loopback: bool) -> None:
    assert display_url(host, 8501) == shown and is_loopback(host) is loopback


def test_a_taken_port_is_one_clear_sentence(workspace: Workspace) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(RsfmError, match=r"Choose another port"):
            serve(workspace, port=taken.getsockname()[1])
    with pytest.raises(RsfmError, match="not a port"):
        require_free("127.0.0.1", 0)


def test_options_are_known_to_streamlit_and_send_nothing_out() -> None:
    from streamlit import config

    options = {**theme_options(), **server_options("127.0.0.1", 8501, allowed_hosts=["localhost"])}
    assert set(options) <= set(config._config_options_template)
    assert options["browser.gatherUsageStats"] is False and options["server.enableAgentApi"] is False
    assert set(LIGHT) == set(DARK)


def test_what_stays_until_the_end_costs_no_run_of_a_page_anything() -> None:
    """The garbage collector stops every thread while it looks."""
    code = (
        "import gc, threading; from app.asgi import warm_up; stop = threading.Event(); stop.set(); warm_up(stop);"
        "print(gc.get_freeze_count(), len(gc.get_objects()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    frozen, looked_at = map(int, done.stdout.split())
    assert frozen > 50_000 and looked_at < 5_000


def test_what_the_dashboard_serves_is_part_of_the_package() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = settings["tool"]["setuptools"]["package-data"]["app"]
    app = ROOT / "app"
    packed = {f for pattern in patterns for f in app.glob(pattern)}
    served = {f for f in app.rglob("*") if f.is_file() and f.suffix not in (".py", ".pyc")}
    assert served - packed == {app / "screenshots" / "degradation.png"}, "for the README only"


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_text_is_readable_in_both_themes(theme: dict[str, str]) -> None:
    assert contrast(theme["textColor"], theme["backgroundColor"]) > 7
    assert contrast(theme["linkColor"], theme["backgroundColor"]) > 4.5
    assert contrast(theme["primaryColor"], theme["backgroundColor"]) > 4.5
    assert contrast(theme["codeTextColor"], theme["codeBackgroundColor"]) > 4.5


def test_the_served_process_answers_without_torch_and_leaves_at_once(tmp_path: Path) -> None:
    """One process, one port; what it has imported is read from its memory map."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-c", "from rsfm.cli import main; main()", "app", "--port", str(port)]
    environment = {k: v for k, v in os.environ.items() if k != "RSFM_WORKSPACE"}
    with subprocess.Popen(
        [*command, "--workspace", str(tmp_path / "w")], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=ROOT,
        env=environment,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            assert f"http://127.0.0.1:{port}".encode() in process.stdout.readline(), "the address comes at once"
            for _ in range(600):
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/rsfm/health", timeout=1) as answer:
                        assert answer.read() == b'{"status":"ok"}'
                    break
                except OSError:
                    assert process.poll() is None
                    time.sleep(0.1)
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20) as page:
                assert page.url.endswith("/now") and b"<html" in page.read()
            maps = Path(f"/proc/{process.pid}/maps")
            if maps.exists():
                loaded = maps.read_text()
                assert "pydantic_core" in loaded and "torch" not in loaded
            assert not (tmp_path / "w").exists(), "looking creates nothing"
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(20) in (0, 130)
