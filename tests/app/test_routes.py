"""The HTTP routes, asked rightly and wrongly."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import pytest
from lab import HOSTILE, history
from lab_packs import make_pairs
from PIL import Image
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.testclient import TestClient

from app.access import Access
from app.routes import build_routes
from app.routes.artifacts import artifact_url
from app.routes.maps import map_url
from app.routes.thumbnails import thumbnail_url
from app.routes.vendor import vendor_files, vendor_url
from app.security import Guard
from app.state import store_of
from rsfm.packs import Pack
from rsfm.specs import pretrain_spec
from rsfm.store.files import append_jsonl, write_json
from rsfm.store.runs import create_run, list_runs
from rsfm.thumbs import mask_colours
from rsfm.workspace import Workspace


def client_of(workspace: Workspace, access: Access = Access(hosts=frozenset({"testserver"}))) -> TestClient:
    app = Starlette(routes=build_routes(workspace), middleware=[Middleware(Guard, access=access)])
    return TestClient(app, raise_server_exceptions=True, follow_redirects=False)


@pytest.fixture
def client(lab: Workspace) -> Iterator[TestClient]:
    with client_of(lab) as made:
        yield made


def test_a_map_of_chosen_samples(client: TestClient, lab: Workspace) -> None:
    pack = Pack.named(lab, "landsat7-sample")
    url = map_url(pack.name, version=pack.info.content_hash, theme="dark", only={"train": [0, 3], "test": [1]})
    page = client.get(url).text
    assert page.count('"split":"train"') == 2 and page.count('"split":"test"') == 1
    assert "mosaic.png" not in page and "samples drawn" not in page
    for wrong in ("train", "train:", "train:1,x", "train:-1", "train:1;", ":", "train:" + ",".join(["1"] * 501)):
        assert (
            client.get("/rsfm/maps/packs/landsat7-sample", params={"theme": "light", "only": wrong}).status_code == 400
        )
    for nothing in ("nosplit:1", "train:999999"):
        answer = client.get("/rsfm/maps/packs/landsat7-sample", params={"theme": "light", "only": nothing})
        assert answer.status_code == 404


def test_health_and_front_page(client: TestClient) -> None:
    answer = client.get("/rsfm/health")
    assert answer.json() == {"status": "ok"} and answer.headers["x-content-type-options"] == "nosniff"
    front = client.get("/?a=b")
    assert front.status_code == 307 and front.headers["location"] == "now?a=b"


def test_runs_as_json(client: TestClient, lab: Workspace) -> None:
    answer = client.get("/rsfm/api/runs", params={"kind": "pretrain", "state": ["running", "failed"]}).json()
    assert {r["state"] for r in answer["runs"]} == {"running", "failed"} and answer["notice"] is None
    run_id = answer["runs"][0]["run_id"]
    assert client.get(f"/rsfm/api/runs/{run_id}").json()["run_id"] == run_id
    assert str(lab.root) not in client.get("/rsfm/api/runs/20261121-093045-mae-eurosat-7f3a").text


def test_a_diverged_training_is_still_json(tmp_path) -> None:
    workspace = Workspace(tmp_path / "w")
    workspace.runs.mkdir(parents=True)
    run = create_run(workspace, pretrain_spec("mae", "p", "smoke"))
    history(run, "running", 1, 0)
    write_json(run.path / "progress.json", {"attempt": 1, "done": 1, "total": 2, "loss": float("nan"), "rate": 1e999})
    with client_of(workspace) as client:
        progress = client.get(f"/rsfm/api/runs/{run.id}").json()["progress"]
    assert progress["done"] == 1 and progress["loss"] is None and progress["rate"] is None


def test_pictures_of_pairs_and_masks(tmp_path) -> None:
    workspace = Workspace(tmp_path / "w")
    workspace.packs.mkdir(parents=True)
    pack = make_pairs(workspace)
    version = pack.content_hash
    with client_of(workspace) as client:
        pictures = {}
        for layer in ("image_pre", "image_post", "mask"):
            answer = client.get(thumbnail_url(pack.name, "train", 0, version=version, size=16, layer=layer))
            pictures[layer] = np.asarray(Image.open(io.BytesIO(answer.content)))
        assert not np.array_equal(pictures["image_pre"], pictures["image_post"])
        mask = Pack.named(workspace, "pairs").array("train", "mask")[0, 0]
        assert np.array_equal(pictures["mask"], mask_colours(mask))
        # A map of such a pack shows its first image, and so do its pictures of samples.
        page = client.get(map_url(pack.name, version=version, theme="light"))
        assert page.status_code == 200 and "layer=image_pre" in page.text
        assert client.get("/rsfm/maps/packs/pairs/mosaic.png").status_code == 200


def test_thumbnail_shows_the_samples_pixels(client: TestClient, lab: Workspace) -> None:
    pack = Pack.named(lab, "landsat7-sample")
    answer = client.get(thumbnail_url(pack.name, "train", 3, version=pack.info.content_hash, view="band:B4", size=64))
    picture = np.asarray(Image.open(io.BytesIO(answer.content)))
    assert picture.shape == (64, 64, 3) and "immutable" in answer.headers["cache-control"]
    # Twice enlarged without smoothing: every other pixel is the band itself, stretched.
    stored = pack.array("train")[3, 3].astype(float)
    s = pack.layer().bands[3].statistics
    expected = np.clip((stored - s.p2) / (s.p98 - s.p2), 0, 1) * 255
    assert np.abs(picture[::2, ::2, 0] - expected).max() <= 1
    assert client.get(f"/rsfm/thumbs/{pack.name}/train/3.png?v=older").headers["cache-control"] == "no-cache"


def test_artifact_by_id(client: TestClient, lab: Workspace) -> None:
    run = next(r for r in list_runs(lab) if r.state() == "running")
    row = store_of(lab).artifacts(run.id, kind="preview").iloc[0]
    answer = client.get(artifact_url(run.id, row["artifact_id"]))
    assert answer.headers["content-type"] == "image/png" and answer.content[:4] == b"\x89PNG"


def test_only_pictures_are_shown_in_place(hostile_lab: Workspace) -> None:
    run = next(r for r in list_runs(hostile_lab) if r.state() == "running")
    page = run.path / "artifacts" / "report.html"
    page.write_text("<script>alert(1)</script>")
    append_jsonl(
        run.path / "artifacts.jsonl",
        {"attempt": 1, "path": "artifacts/report.html", "kind": "figure", "title": HOSTILE},
    )
    store = store_of(hostile_lab)
    store.refresh_if_stale(0)
    rows = store.artifacts(run.id)
    artifact_id = rows.loc[rows["path"] == "artifacts/report.html", "artifact_id"].iloc[0]
    with client_of(hostile_lab) as client:
        answer = client.get(artifact_url(run.id, artifact_id))
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"].startswith("attachment")


def test_artifacts_outside_the_runs_folder_are_not_served(hostile_lab: Workspace) -> None:
    run = next(r for r in list_runs(hostile_lab) if r.state() == "running")
    secret = hostile_lab.root / "secret.png"
    secret.write_bytes(b"\x89PNG secret")
    (run.path / "artifacts" / "link.png").symlink_to(secret)
    for path in ("../../secret.png", "artifacts/link.png", str(secret), "spec.json"):
        append_jsonl(run.path / "artifacts.jsonl", {"attempt": 1, "path": path, "kind": "figure", "title": "x"})
    store = store_of(hostile_lab)
    store.refresh_if_stale(0)
    with client_of(hostile_lab) as client:
        rows = store.artifacts(run.id)
        for row in rows[~rows["path"].str.contains("previews|report")].itertuples():
            answer = client.get(artifact_url(run.id, str(row.artifact_id)))
            assert answer.status_code == 404 and b"secret" not in answer.content


@pytest.mark.parametrize(
    "path",
    [
        "/rsfm/", "/rsfm/nothing", "/rsfm/vendor/../app.py", "/rsfm/vendor/%2e%2e%2fasgi.py", "/rsfm/vendor/map.html",
        "/rsfm/artifacts/20261121-093045-mae-eurosat-7f3a/0", "/rsfm/artifacts/..%2f..%2fetc/passwd",
        "/rsfm/artifacts/%2e%2e/0", "/rsfm/thumbs/nothing/train/0.png", "/rsfm/thumbs/landsat7-sample/nosuch/0.png",
        "/rsfm/thumbs/landsat7-sample/train/99999999999999999999.png", "/rsfm/thumbs/landsat7-sample/train/-1.png",
        "/rsfm/thumbs/..%2f..%2fetc/train/0.png", "/rsfm/thumbs/%2e%2e/train/0.png",
        "/rsfm/thumbs/landsat7-sample/train/0.png?view=nosuch", "/rsfm/thumbs/landsat7-sample/train/0.png?layer=nosuch",
        "/rsfm/maps/packs/nothing", "/rsfm/maps/packs/..%2f..%2f", "/rsfm/maps/packs/landsat7-sample?view=<script>",
        "/rsfm/api/runs/../../etc/passwd", "/rsfm/api/runs/x", "/rsfm/thumbs/a%00b/train/0.png",
    ],
)  # fmt: skip
def test_wrong_addresses_are_not_found(client: TestClient, lab: Workspace, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code in (400, 404), answer.text[:200]
    assert str(lab.root) not in answer.text and "Traceback" not in answer.text
    assert answer.headers["content-type"].partition(";")[0] in ("application/json", "text/plain")


@pytest.mark.parametrize(
    "path",
    ["/rsfm/thumbs/landsat7-sample/train/0.png?size=100000", "/rsfm/thumbs/landsat7-sample/train/0.png?size=x",
     "/rsfm/api/runs?limit=-1", "/rsfm/api/runs?state=flying", "/rsfm/maps/packs/landsat7-sample?theme=pink"],
)  # fmt: skip
def test_wrong_parameters_are_refused(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 400


@pytest.mark.parametrize("method", ["post", "put", "delete", "patch"])
@pytest.mark.parametrize("path", ["/rsfm/health", "/rsfm/api/runs", "/rsfm/vendor/maplibre-gl.js"])
def test_routes_only_read(client: TestClient, method: str, path: str) -> None:
    assert getattr(client, method)(path).status_code == 405


def test_foreign_host_names_are_refused(lab: Workspace) -> None:
    with client_of(lab, Access()) as client:
        assert client.get("/rsfm/health", headers={"host": "evil.example:8501"}).status_code == 421
        assert client.get("/rsfm/health", headers={"host": ""}).status_code == 421
        for host in ("127.0.0.1:8501", "localhost", "[::1]:8501"):
            assert client.get("/rsfm/health", headers={"host": host}).status_code == 200


# -- maps ---------------------------------------------------------------------------------------------------------
def test_vendor_files_are_local_and_kept(client: TestClient) -> None:
    assert set(vendor_files()) == {"maplibre-gl.js", "maplibre-gl.css", "map.js", "map.css", "world.geojson"}
    for name in vendor_files():
        answer = client.get(vendor_url(name))
        assert answer.status_code == 200 and "immutable" in answer.headers["cache-control"]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_map_page_needs_nothing_from_outside(client: TestClient, theme: str) -> None:
    answer = client.get(map_url("synthetic-landsat7", version="x", theme=theme))
    assert answer.status_code == 200
    page = answer.text
    assert "http://" not in page and "https://" not in page and "{{" not in page
    assert "/rsfm/vendor/world.geojson" in page
    assert "Synthetic data." in page and "/rsfm/maps/packs/synthetic-landsat7/mosaic.png?" in page
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script-src 'self';" in policy and "frame-ancestors 'self'" in policy
    assert "http" not in policy and answer.headers["referrer-policy"] == "same-origin"
    online = client.get(map_url("synthetic-landsat7", version="x", theme=theme, ground="osm"))
    assert "https://tile.openstreetmap.org/" in online.text and "origin" in online.headers["referrer-policy"]
    assert client.get(map_url("synthetic-landsat7", version="x", theme=theme, ground="elsewhere")).status_code == 400


def test_hostile_labels_cannot_leave_the_maps_data(hostile_lab: Workspace) -> None:
    with client_of(hostile_lab) as client:
        page = client.get(map_url("synthetic-landsat7", version="x", theme="light")).text
    assert "onerror" in page, "the label is there"
    assert page.count("<script") == page.count("</script>") == 3
    assert "<img" not in page and "\\u003c/script\\u003e" in page


def test_mosaic_has_each_sample_at_its_place(client: TestClient, lab: Workspace) -> None:
    answer = client.get("/rsfm/maps/packs/landsat7-sample/mosaic.png?view=natural")
    picture = np.asarray(Image.open(io.BytesIO(answer.content)))
    assert picture.shape[2] == 4 and max(picture.shape) == 1600
    # A margin of nothing, then the tiles without gaps.
    assert picture[0, 0, 3] == 0 and picture[picture.shape[0] // 2, picture.shape[1] // 2, 3] == 255
    assert (picture[..., 3] > 0).mean() > 0.8


def test_a_pack_without_places_has_no_map(tmp_path, lab: Workspace) -> None:
    from lab_packs import make_pack

    workspace = Workspace(tmp_path / "w")
    workspace.packs.mkdir(parents=True)
    make_pack(workspace, "nowhere", located=False)
    with client_of(workspace) as client:
        assert client.get("/rsfm/maps/packs/nowhere?theme=light").status_code == 404
        assert client.get("/rsfm/maps/packs/nowhere/mosaic.png").status_code == 404
