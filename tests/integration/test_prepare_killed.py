"""A prepare that is killed leaves nothing half-made, and the next one ends in the very same pack."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_catalog.add import understand
from data_catalog.entry import write_registered
from rsfm.packs import Pack, list_packs
from rsfm.workspace import Workspace

PREPARE = """
import sys
import rsfm.pack_writer
rsfm.pack_writer._FLUSH_BYTES = 100_000  # so that a short run has many points of no return
from data_catalog.prepare import prepare
from rsfm.specs import PrepareSpec
from rsfm.workspace import Workspace
seen = []
def progress(done, total, phase):
    if not seen:
        print("reading", flush=True)
    seen.append(done)
info = prepare(PrepareSpec(dataset="pics"), Workspace.resolve(sys.argv[1]), progress=progress)
print(info.content_hash)
"""


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    root = tmp_path / "pics"
    for label in ("a", "b"):
        (root / label).mkdir(parents=True)
        for i in range(300):
            noise = np.random.default_rng([i, ord(label)]).integers(0, 255, (32, 32, 3), np.uint8)
            Image.fromarray(noise).save(root / label / f"{i:04d}.png")
    (root / "a" / "0100.png").write_bytes(b"")
    return root


def _start(workspace: Workspace) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", PREPARE, str(workspace.root)], stdout=subprocess.PIPE, text=True)


@pytest.mark.chaos
def test_killed_prepares(pictures, workspace, tmp_path):
    undisturbed = Workspace(tmp_path / "undisturbed")
    entry = understand(pictures, "pics").entry
    for place in (workspace, undisturbed):
        write_registered(entry, place)
    expected = _start(undisturbed).communicate(timeout=120)[0].split()[-1]

    rng = random.Random(0)
    killed = 0
    for _ in range(4):
        process = _start(workspace)
        process.stdout.readline()  # it has begun
        time.sleep(rng.uniform(0.0, 0.15))
        process.send_signal(signal.SIGKILL)
        process.wait()
        killed += process.returncode == -signal.SIGKILL
        good, bad = list_packs(workspace)
        assert bad == {}
        assert all(info.content_hash == expected for info in good)
    assert killed >= 2
    assert _start(workspace).communicate(timeout=120)[0].split()[-1] == expected
    pack = Pack.named(workspace, "pics")
    assert sum(pack.info.splits.values()) == 599
    assert [s.path for s in pack.info.skipped] == ["a/0100.png"]
    assert not (workspace.packs / ".preparing-pics").exists()
    # A prepare that finds everything done leaves nothing behind either.
    assert _start(workspace).communicate(timeout=120)[0].split()[-1] == expected
    assert not (workspace.packs / ".preparing-pics").exists()
