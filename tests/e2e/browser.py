"""Find a Chromium for the browser tests, or install one.

    python tests/e2e/browser.py

Chromium or Chrome on PATH; else Debian's package, as root; else Playwright's own download; else a failure that
says what to do.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
#: WebGL for the maps, in software; all else is put together without it, which costs a machine without a graphics card
#: far less.
FLAGS = [
    "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
    "--disable-gpu-compositing", "--disable-gpu-rasterization", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-quic",
]  # fmt: skip


def find() -> str | None:
    """Path of a browser: on PATH, or the one that Playwright downloaded."""
    for name in NAMES:
        path = shutil.which(name)
        if path:
            return path
    from playwright.sync_api import sync_playwright

    with sync_playwright() as p:
        path = p.chromium.executable_path
    return path if Path(path).exists() else None


def _run(*command: str) -> bool:
    print("+ " + " ".join(command), flush=True)
    try:
        return (
            subprocess.run(command, check=False, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}).returncode
            == 0
        )
    except OSError:
        return False


def main() -> int:
    if find() is None and shutil.which("apt-get") and os.geteuid() == 0:
        _run("apt-get", "update", "-qq") and _run("apt-get", "install", "-y", "-qq", "chromium")
    if find() is None:
        _run(sys.executable, "-m", "playwright", "install", "chromium")
    path = find()
    if path is None:
        print(
            "No browser for the browser tests: install Chromium or Chrome so that it is on PATH "
            "(Debian: apt-get install chromium), then run make test again.",
            file=sys.stderr,
        )
        return 1
    print(f"Browser: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
