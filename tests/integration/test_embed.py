"""Embedding jobs on small packs: the table, its figures, seeds, refusals; and its parts on points that are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from rsfm.bands import Band
from rsfm.embed import job as module
from rsfm.embed.job import dry_run, plan, run_job
from rsfm.embed.layout import normalised, principal, umap_layout
from rsfm.embed.quality import figures, kept, nearest
from rsfm.embedding_info import PATH, Embedding, read_embedding, write_embedding
from rsfm.errors import RsfmError
from rsfm.pack_arrays import write_arrays
from rsfm.packs import Pack
from rsfm.specs import EmbedSpec, embed_spec
from rsfm.store.files import read_json, read_jsonl
from rsfm.store.job import JobContext, Stopped
from rsfm.store.runs import create_run
from rsfm.workspace import Workspace

RGB8 = [Band("red", 650, 1, "uint8"), Band("green", 550, 1, "uint8"), Band("blue", 470, 1, "uint8")]
SIZES = {"train": 50, "test": 34}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def colours(count: int, seed: int) -> tuple[np.ndarray, list[str]]:
    """Class = mean colour, far apart."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    images = rng.normal(60, 10, (count, 3, 16, 16))
    images[np.arange(count), labels] += 120
    return images.clip(0, 255).astype(np.uint8), [f"colour-{i}" for i in labels]


def make(workspace: Workspace, *, labelled: bool = True, **more: object) -> Pack:
    parts = {split: colours(n, i) for i, (split, n) in enumerate(SIZES.items())}
    labels = {"labels": {s: p[1] for s, p in parts.items()}} if labelled else {}
    return write_arrays(workspace, "colours", {s: p[0] for s, p in parts.items()}, RGB8, gsd_m=2.0, **labels, **more)


def embed(workspace: Workspace, *settings_: str, model: str = "band-stats") -> tuple[Embedding, JobContext]:
    spec = embed_spec(model, "colours", list(settings_))
    context = JobContext(workspace, create_run(workspace, spec), attempt=1)
    run_job(spec, context)
    return read_embedding(context.folder.path / PATH), context


def no_news(_: int) -> None:
    pass


def test_classes_that_differ_lie_apart_at_every_severity(workspace: Workspace) -> None:
    pack = make(workspace)
    found, context = embed(workspace, "severities=[1,4]")
    assert found.severities == [1.0, 4.0] and len(found.points) == 2 * 84
    for severity in found.severities:
        points, said = found.at(severity), found.figures(severity)
        assert points[["split", "id"]].equals(pack.samples[["split", "id"]])
        assert said["silhouette_map"] > 0.5 and said["silhouette_features"] > 0.5
        assert said["trustworthiness"] > 0.9 and 0.2 < said["preservation"] <= 1
        labels = pack.samples["label_index"].to_numpy()
        near = np.stack(points["neighbours"])
        assert near.shape == (84, 15) and (labels[near] == labels[:, None]).mean() > 0.99
        assert not (near == np.arange(84)[:, None]).any(), "nothing is its own neighbour"
    assert found.at(1)["kept"].eq(1).all() and found.figures(4)["neighbours_kept"] == pytest.approx(
        found.at(4)["kept"].mean()
    )
    assert (found.figures(1)["gsd_m"], found.figures(4)["gsd_m"]) == (2.0, 8.0)
    assert found.about["count"] == found.about["total"] == 84 and found.about["bands"] == ["red", "green", "blue"]
    (artifact,) = read_jsonl(context.folder.path / "artifacts.jsonl")[0]
    assert (artifact["path"], artifact["kind"]) == (PATH, "embedding")
    told = read_json(context.folder.path / "progress.json")
    assert told["done"] == told["total"] == 4 * 2 * 84


def test_equal_seeds_give_equal_maps_and_others_do_not(workspace: Workspace) -> None:
    make(workspace)
    first, again, other = (embed(workspace, f"seed={seed}")[0].points for seed in (3, 3, 4))
    assert first[["x", "y", "pc1", "pc2"]].equals(again[["x", "y", "pc1", "pc2"]])
    assert not np.allclose(first["x"], other["x"])


def test_a_sample_of_a_large_pack_is_drawn_by_the_seed(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    make(workspace)
    found, _ = embed(workspace, "max_samples=40")
    assert len(found.points) == 40 and found.about["total"] == 84
    assert (embed(workspace, "max_samples=40")[0].points["id"] == found.points["id"]).all()
    assert set(embed(workspace, "max_samples=40", "seed=1")[0].points["id"]) != set(found.points["id"])
    monkeypatch.setattr(module, "MAX_POINTS", 60)
    assert plan(embed_spec("band-stats", "colours", ["severities=[1,2]"]), workspace).count == 30
    assert "30 of 84" in dry_run(embed_spec("band-stats", "colours", ["severities=[1,2]"]), workspace)[0]


def test_packs_without_labels_have_maps_too(workspace: Workspace) -> None:
    make(workspace, labelled=False)
    found, _ = embed(workspace, 'splits=["test"]')
    assert set(found.points["split"]) == {"test"}
    assert found.figures(1)["silhouette_map"] is None and found.figures(1)["preservation"] > 0.5


def test_each_image_of_a_pair_has_features_of_its_own(workspace: Workspace) -> None:
    rng = np.random.default_rng(0)
    images, later = ({"train": rng.integers(0, 255, (30, 3, 16, 16), dtype=np.uint8)} for _ in range(2))
    masks = {"train": np.zeros((30, 1, 16, 16), np.uint8)}
    write_arrays(
        workspace, "colours", images, RGB8, later=later, masks=masks, classes=["no change", "change"], gsd_m=2.0
    )
    maps = {image: embed(workspace, f"image={image}")[0] for image in ("pre", "post", "auto")}
    assert maps["pre"].about["layer"] == "image_pre" and maps["post"].about["layer"] == "image_post"
    assert not np.allclose(maps["pre"].points["pc1"], maps["post"].points["pc1"])
    assert np.array_equal(maps["auto"].points["pc1"], maps["post"].points["pc1"])


def test_a_stop_is_heard_in_every_part(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    make(workspace)
    spec = embed_spec("band-stats", "colours")
    phases: list[str] = []
    tell = JobContext.progress
    monkeypatch.setattr(JobContext, "progress", lambda self, *a, **k: (phases.append(k["phase"]), tell(self, *a, **k)))
    JobContext(workspace, create_run(workspace, spec), attempt=1)
    embed(workspace)
    for phase in dict.fromkeys(p for p in phases if p != "done"):
        context = JobContext(workspace, create_run(workspace, spec), attempt=1)
        monkeypatch.setattr(
            JobContext, "progress",
            lambda self, *a, at=phase, **k: self.folder.request("stop") if k["phase"] == at else None,
        )  # fmt: skip
        with pytest.raises(Stopped):
            run_job(spec, context)
        assert not (context.folder.path / PATH).exists()
    assert {"features 1×", "layout"} < set(phases)


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        (['splits=["val"]'], "val"),
        (["image=pre"], "single images"),
        (["operator=misregistration"], "pair"),
        (["operator=blur"], "operator=blur needs severities, e.g. 0, 0.5, 1, 2, 4"),
        (["model_seed=3"], "model_seed=3 is for random: models; band-stats was initialised before"),
        (["severities=[64]"], "64"),
        (["neighbors=90"], "neighbours need more"),
        (["max_samples=10"], "15 UMAP neighbours need more"),
    ],
)
def test_what_cannot_be_is_refused(workspace: Workspace, settings_: list[str], message: str) -> None:
    make(workspace)
    with pytest.raises(RsfmError, match=message):
        dry_run(embed_spec("band-stats", "colours", settings_), workspace)


def test_features_that_are_all_alike_have_no_map(workspace: Workspace) -> None:
    images = np.full((30, 3, 16, 16), 90, np.uint8)
    images[:, :, ::2] = 120
    write_arrays(workspace, "colours", {"train": images}, RGB8)
    with pytest.raises(RsfmError, match="same features"):
        embed(workspace)


def test_a_spec_refuses_what_it_does_not_know() -> None:
    with pytest.raises(RsfmError, match="twice"):
        embed_spec("m", "p", ["severities=[2,2]"])
    with pytest.raises(RsfmError, match="Unknown setting"):
        embed_spec("m", "p", ["perplexity=30"])
    assert EmbedSpec(model="m", dataset="p").severities == []


def test_damaged_tables_are_refused(workspace: Workspace, tmp_path: Path) -> None:
    make(workspace)
    found, context = embed(workspace)
    path = context.folder.path / PATH
    other = tmp_path / "other.parquet"
    found.points.to_parquet(other)
    with pytest.raises(RsfmError, match="not an embedding"):
        read_embedding(other)
    path.write_bytes(path.read_bytes()[:-100])
    for missing in (path, tmp_path / "nowhere.parquet"):
        with pytest.raises(RsfmError, match="cannot be read"):
            read_embedding(missing)
    with pytest.raises(RsfmError, match="no severity 7"):
        found.at(7)
    write_embedding(path, found)
    assert read_embedding(path).about == found.about


# -- parts ---------------------------------------------------------------------------------------------------------
@settings(max_examples=30, deadline=None)
@given(st.integers(3, 60), st.integers(1, 6), st.integers(1, 70), st.integers(0, 99), st.integers(1, 25))
def test_nearest_is_exact(count: int, width: int, k: int, seed: int, piece: int) -> None:
    # Far from the origin, as features are: squares of the coordinates would swallow their differences.
    x = (np.random.default_rng(seed).normal(size=(count, width)) + 1000).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rsfm.embed.quality._ROWS", piece)
        rows, far = nearest(x, k=k, after_rows=no_news)
    true = cdist(x.astype(float), x.astype(float))
    np.fill_diagonal(true, np.inf)
    assert rows.shape == far.shape == (count, min(k, count - 1))
    np.testing.assert_allclose(far, np.sort(true, axis=1)[:, : rows.shape[1]], atol=2e-3)
    np.testing.assert_allclose(np.take_along_axis(true, rows.astype(int), 1), far, atol=2e-3)


def test_kept_counts_shared_neighbours() -> None:
    before = np.array([[1, 2, 3, 4], [0, 2, 3, 4]], np.int32)
    after = np.array([[4, 3, 2, 1], [9, 8, 7, 0]], np.int32)
    assert kept(after, before).tolist() == [1.0, 0.25]


def test_figures_know_a_faithful_map_from_a_shuffled_one() -> None:
    rng = np.random.default_rng(0)
    flat = rng.normal(size=(300, 2)).astype(np.float32)
    labels = (flat[:, 0] > 0).astype(int)
    near, _ = nearest(flat, after_rows=no_news)
    same = figures(flat, flat, near, labels, 0)
    assert same["preservation"] == pytest.approx(1) and same["trustworthiness"] == pytest.approx(1)
    assert same["silhouette_map"] == pytest.approx(same["silhouette_features"])
    shuffled = figures(flat, rng.permutation(flat), near, labels, 0)
    assert shuffled["preservation"] < 0.12 and shuffled["trustworthiness"] < 0.6
    assert abs(shuffled["silhouette_map"]) < 0.05
    assert figures(flat, flat, near, np.full(300, -1), 0)["silhouette_map"] is None


def test_cosine_orders_like_euclidean_after_normalisation() -> None:
    x = np.random.default_rng(1).normal(size=(40, 5)).astype(np.float32)
    x[0] = 0  # stays where it is instead of becoming not a number
    unit = normalised(x, "cosine")
    assert np.isfinite(unit).all() and normalised(x, "euclidean") is x
    order = np.argsort(cdist(x[1:], x[1:], "cosine"), axis=1)
    assert (np.argsort(cdist(unit[1:], unit[1:]), axis=1) == order).mean() > 0.99


def test_the_layout_keeps_clusters_and_reports_its_epochs() -> None:
    rng = np.random.default_rng(2)
    centres = np.eye(4, 10) * 20
    x = (centres[np.arange(120) % 4] + rng.normal(size=(120, 10))).astype(np.float32)
    start, explained = principal(x, 0)
    assert 0.4 < sum(explained) < 1 and explained[0] >= explained[1]
    told: list[tuple[int, int]] = []
    near = nearest(x, k=10, after_rows=no_news)
    placed = umap_layout(start, *near, min_dist=0.1, seed=0, progress=lambda *p: told.append(p))
    again, _ = nearest(placed, k=10, after_rows=no_news)
    assert (again % 4 == np.arange(120)[:, None] % 4).mean() > 0.98
    assert told and told[-1][0] == told[-1][1] > 50
