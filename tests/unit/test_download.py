"""Downloads continue where they broke, and wrong bytes never get a good name."""

from __future__ import annotations

import hashlib
import http.server
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from data_catalog.download import download, fetch, unpack
from data_catalog.entry import DatasetEntry, Download, RemoteFile
from rsfm.errors import RsfmError
from rsfm.store.job import Stopped

CONTENT = np.random.default_rng(0).bytes(3_000_000)


class _Handler(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT with ranges; breaks off after `server.cut` bytes of an answer, slowly if `server.slow`."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server = self.server
        server.ranges.append(self.headers.get("Range"))
        body, start = server.content, 0
        if self.path == "/missing":
            self.send_error(404)
            return
        if server.with_ranges and (asked := self.headers.get("Range")):
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(body):
                self.send_error(416)
                return
            self.send_response(206)
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        end = len(body) if server.cut is None else min(len(body), start + server.cut)
        for position in range(start, end, 50_000):
            self.wfile.write(body[position : min(end, position + 50_000)])
            if server.slow:
                self.wfile.flush()
                time.sleep(0.01)
        if end < len(body):
            self.close_connection = True

    def log_message(self, *args) -> None:
        pass


@pytest.fixture
def server():
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    running.content, running.cut, running.slow, running.with_ranges, running.ranges = CONTENT, None, False, True, []
    running.handle_error = lambda *a: None
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    running.url = f"http://127.0.0.1:{running.server_port}"
    yield running
    running.shutdown()
    running.server_close()


def remote(server, **more) -> RemoteFile:
    return RemoteFile(
        **{"url": f"{server.url}/data.bin", "name": "data.bin", "md5": hashlib.md5(server.content).hexdigest(), **more}
    )


def test_fetch_and_fetch_again(server, tmp_path):
    seen = []
    path = fetch(remote(server), tmp_path, progress=lambda *a: seen.append(a))
    assert path.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT), "data.bin")
    fetch(remote(server), tmp_path)
    assert len(server.ranges) == 1  # it is there and right: nothing is asked again


def test_broken_connections_are_taken_up_where_they_broke(server, tmp_path):
    server.cut = 1_000_000
    assert fetch(remote(server), tmp_path).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=1000000-", "bytes=2000000-"]


def test_a_server_that_never_answers_more_is_given_up(server, tmp_path):
    server.cut = 0
    with pytest.raises(RsfmError, match="Call again to continue"):
        fetch(remote(server), tmp_path)
    assert not (tmp_path / "data.bin").exists()


def test_stop_and_continue(server, tmp_path):
    with pytest.raises(Stopped):
        fetch(remote(server), tmp_path, should_stop=lambda: True)
    half = (tmp_path / "data.bin.part").stat().st_size
    assert 0 < half < len(CONTENT)
    assert fetch(remote(server), tmp_path).read_bytes() == CONTENT
    assert server.ranges[-1] == f"bytes={half}-"


def test_server_without_ranges(server, tmp_path):
    (tmp_path / "data.bin.part").write_bytes(CONTENT[:1000])
    server.with_ranges = False
    assert fetch(remote(server), tmp_path).read_bytes() == CONTENT


def test_complete_part_is_only_checked(server, tmp_path):
    (tmp_path / "data.bin.part").write_bytes(CONTENT)
    assert fetch(remote(server), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("checksum", [{"md5": "0" * 32}, {"sha256": "0" * 64}])
def test_wrong_checksum(server, tmp_path, checksum):
    with pytest.raises(RsfmError, match="checksum"):
        fetch(remote(server, **checksum), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_part_of_another_file_is_not_trusted(server, tmp_path):
    (tmp_path / "data.bin.part").write_bytes(b"x" * 1000)
    with pytest.raises(RsfmError, match="checksum"):
        fetch(remote(server), tmp_path)
    assert fetch(remote(server), tmp_path).read_bytes() == CONTENT


def test_damaged_target_is_replaced(server, tmp_path):
    (tmp_path / "data.bin").write_bytes(CONTENT[:-1])
    assert fetch(remote(server), tmp_path).read_bytes() == CONTENT


def test_missing_address(server, tmp_path):
    with pytest.raises(RsfmError, match="404"):
        fetch(remote(server, url=f"{server.url}/missing"), tmp_path)


@pytest.mark.chaos
def test_killed_download_continues(server, tmp_path):
    server.slow = True
    code = (
        "import sys; from pathlib import Path; from data_catalog.download import fetch;"
        "from data_catalog.entry import RemoteFile;"
        "fetch(RemoteFile.model_validate_json(sys.argv[1]), Path(sys.argv[2]))"
    )
    arguments = [sys.executable, "-c", code, remote(server).model_dump_json(), str(tmp_path)]
    process = subprocess.Popen(arguments)
    part = tmp_path / "data.bin.part"
    while not (part.is_file() and part.stat().st_size):
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "data.bin").exists()
    subprocess.run(arguments, check=True)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT
    assert server.ranges[-1] is not None


def _zip(path: Path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as bundle:
        for name, content in members.items():
            bundle.writestr(name, content)


def test_dataset_download_unpacks_once(server, tmp_path, workspace):
    _zip(tmp_path / "x.zip", {"set/a.txt": b"hello"})
    server.content = (tmp_path / "x.zip").read_bytes()
    file = remote(server, name="x.zip", unpack=True)
    entry = DatasetEntry(name="tiny", title="Tiny", download=Download(files=[file]))
    folder = download(entry, workspace)
    assert (folder / "set" / "a.txt").read_text() == "hello"
    (folder / "x.zip").unlink()
    download(entry, workspace)
    assert len(server.ranges) == 1


def test_dataset_without_address(workspace):
    with pytest.raises(RsfmError, match="cannot be downloaded"):
        download(DatasetEntry(name="tiny", title="Tiny"), workspace)


def test_archives_that_point_outside_are_refused(tmp_path):
    _zip(tmp_path / "evil.zip", {"ok.txt": b"1", "../evil.txt": b"2"})
    with pytest.raises(RsfmError, match="outside"):
        unpack(tmp_path / "evil.zip", tmp_path / ".")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["evil.zip"]


def test_damaged_archives_leave_nothing(tmp_path):
    _zip(tmp_path / "a.zip", {"a.bin": CONTENT[:100_000]})
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[5000] ^= 255
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(RsfmError, match="damaged"):
        unpack(tmp_path / "a.zip", tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["a.zip"]
    (tmp_path / "b.zip").write_bytes(b"nothing")
    with pytest.raises(RsfmError, match="neither"):
        unpack(tmp_path / "b.zip", tmp_path)


def test_a_download_needs_a_checksum_and_a_plain_name():
    with pytest.raises(ValueError, match="checksum"):
        RemoteFile(url="http://x/y", name="y")
    with pytest.raises(ValueError, match="plain"):
        RemoteFile(url="http://x/y", name="../y", md5="0")
