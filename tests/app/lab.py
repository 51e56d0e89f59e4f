"""A small lab on disk for the dashboard's tests: packs, runs in several states, metrics, previews, scores, models.

    python tests/app/lab.py FOLDER

Everything is written through the same formats that jobs use; the numbers are made up and seeded.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from lab_packs import CLASSES, make_pack, make_pairs
from PIL import Image
from safetensors.numpy import save_file

from rsfm.degrade import OPERATORS
from rsfm.embedding_info import PATH as EMBEDDING
from rsfm.embedding_info import Embedding, write_embedding
from rsfm.metrics import METRICS
from rsfm.model_info import ModelBand, ModelInfo
from rsfm.packs import Pack, PackInfo
from rsfm.specs import EmbedSpec, EvaluateSpec, PrepareSpec, pretrain_spec
from rsfm.store.files import append_jsonl, write_json
from rsfm.store.runs import RunFolder, create_run
from rsfm.tasks import TASKS
from rsfm.workspace import Workspace

SCRIPT = Path(__file__).resolve().parents[2] / "app" / "streamlit_app.py"
PAGES = (
    "now", "launch", "runs", "run", "degradation", "leaderboard", "embeddings", "segmentation", "change", "models",
    "datasets",
)  # fmt: skip
#: Ends a script element, breaks out of attributes, is Markdown, and turns the reading direction round.
HOSTILE = "</script><img src=x onerror=alert(1)> \"quoted\" 'single' ![i](http://example.com/x.png) \u202eabc\u2066"


def stamp(minutes_ago: float) -> str:
    return (datetime.now(UTC) - timedelta(minutes=minutes_ago)).isoformat(timespec="microseconds")


def _events(run: RunFolder, *rows: dict[str, Any]) -> None:
    append_jsonl(run.path / "events.jsonl", *rows)


def history(run: RunFolder, state: str, began: float, lasted: float, message: str = "") -> None:
    """Events from start to `state`."""
    rows: list[dict[str, Any]] = [
        {"time": stamp(began), "state": "starting", "attempt": 1, "slot": "cpu0", "device": "cpu", "host": "lab",
         "message": "Attempt 1 starts on cpu0."},
        {"time": stamp(began), "state": "running", "attempt": 1, "message": "Running as process 4242."},
    ]  # fmt: skip
    if state == "stopping":
        rows.append(
            {"time": stamp(0.2), "state": "stopping", "attempt": 1, "rung": "request",
             "message": "Asked to finish its step, save and exit."}
        )  # fmt: skip
    elif state != "running":
        rows.append({"time": stamp(began - lasted), "state": state, "attempt": 1, "message": message, "code": 0})
    _events(run, *rows)


def train(
    run: RunFolder, *, steps: int, total: int, batch: int, began: float, seed: int = 0, alarm: bool = False
) -> None:
    """Metrics, progress, log and previews of a run that has come to `steps`. `alarm`: its features have collapsed."""
    rng = np.random.default_rng(seed)
    rows = []
    for step in range(1, steps + 1, max(1, steps // 150)):
        t = step / total
        values = {
            "loss": 0.62 + 1.15 * float(np.exp(-6 * t)) + float(rng.normal(0, 0.012)),
            "lr": 1.5e-3 * min(1.0, t / 0.1) * 0.5 * (1 + float(np.cos(np.pi * t))),
            "throughput": 440 + float(rng.normal(0, 12)), "grad_norm": 1.2 + float(rng.normal(0, 0.1)),
            "data_wait_share": 0.012,
        }  # fmt: skip
        rows.append(
            {"attempt": 1, "step": step, "samples": step * batch, "time": stamp(began * (1 - t)), "values": values}
        )
    for step in range(0, steps + 1, max(1, steps // 8)):
        t = step / total
        values = {
            "knn": 0.31 + 0.42 * (1 - float(np.exp(-4 * t))), "rankme": 4 + 28 * (1 - float(np.exp(-5 * t))),
            "std_l2": 0.03 + 0.03 * t,
        }  # fmt: skip
        if t > 0.1:  # the first of them rings early in every run
            values |= {
                "alarm/constant-collapse": float(alarm or t < 0.3), "alarm/dimensional-collapse": float(alarm),
                "alarm/non-finite-steps": 0.0,
            }  # fmt: skip
        rows.append(
            {"attempt": 1, "step": step, "samples": step * batch, "time": stamp(began * (1 - t)), "values": values}
        )
    append_jsonl(run.path / "metrics.jsonl", *rows)
    done = steps * batch
    write_json(
        run.path / "progress.json",
        {"attempt": 1, "time": stamp(0), "done": done, "total": total * batch, "unit": "samples", "phase": "train",
         "rate": 441.0, "eta_s": (total * batch - done) / 441, "step": steps,
         "loss": 0.62 + 1.15 * float(np.exp(-6 * steps / total))},
    )  # fmt: skip
    (run.path / "log.txt").write_text(
        "".join(f"step {s}: loss {0.62 + 1.15 * np.exp(-6 * s / total):.4f}\n" for s in range(1, steps + 1, 10))
    )
    folder = run.path / "artifacts" / "previews"
    folder.mkdir(parents=True)
    for what, step in (("views", 0), ("reconstruction", 0), ("reconstruction", steps // 2), ("reconstruction", steps)):
        picture = np.kron(rng.integers(40, 200, (6, 18, 3), dtype=np.uint8), np.ones((24, 24, 1), np.uint8))
        name = f"{what}-{step:08d}.png"
        Image.fromarray(picture).save(folder / name)
        append_jsonl(
            run.path / "artifacts.jsonl",
            {"attempt": 1, "time": stamp(0), "path": f"artifacts/previews/{name}", "kind": "preview",
             "title": "Augmented views" if what == "views" else "Masked, reconstructed, original", "step": step},
        )  # fmt: skip


def beat(run: RunFolder) -> None:
    write_json(
        run.path / "heartbeat.json",
        {"attempt": 1, "pid": 4242, "time": stamp(0), "next": stamp(-5), "rss_bytes": 812_000_000},
    )


def export_model(workspace: Workspace, run: RunFolder, title: str, pack: PackInfo) -> None:
    folder = workspace.models / run.id
    folder.mkdir(parents=True)
    bands = [
        ModelBand(name=b.name, wavelength_nm=b.wavelength_nm, gsd_m=b.gsd_m, unit=b.unit, mean=100, std=30)
        for b in pack.layers[0].bands
    ]
    info = ModelInfo(
        name=run.id, title=title, architecture="vit", encoder={"patch_size": 8, "width": 64, "depth": 2, "heads": 2},
        image_size=32, feature_dim=64, bands=bands, method="mae", run_id=run.id, group=run.envelope()["group"],
        trained_on=pack.name, weights_hash="0" * 16, created=stamp(30), sensor="landsat-7", gsd_m=30.0,
    )  # fmt: skip
    (folder / "model.json").write_text(info.model_dump_json())
    save_file({"weight": np.zeros((16, 8), np.float32)}, folder / "model.safetensors")


def score(
    run: RunFolder, pack: PackInfo, title: str, group: str, curve: dict[str, list[float]], seed: int = 0, *,
    bands: str = "B1,B2,B3", spread: float = 0.008,
) -> None:  # fmt: skip
    """Scores of one evaluation: for each adaptation the accuracy at 1x, 2x, 4x, 8x, three seeds around it."""
    rng = np.random.default_rng(seed)
    spec = run.envelope()["spec"]
    rows = []
    for adaptation, values in curve.items():
        for factor, value in zip((1, 2, 4, 8), values, strict=True):
            for eval_seed in (0, 1, 2):
                v = float(np.clip(value + rng.normal(0, spread), 0, 1))
                rows.append(
                    {"attempt": 1, "time": stamp(0), "model": spec["model"], "model_title": title, "model_group": group,
                     "model_seed": 0, "eval_seed": eval_seed, "dataset": pack.name, "pack_hash": pack.content_hash,
                     "synthetic": pack.synthetic, "split": "test", "task": "classification", "adaptation": adaptation,
                     "bands": bands, "operator": "bilinear", "severity": factor, "gsd_m": 30.0 * factor,
                     "degrade_target": "single", "train_degrade": "none", "metric": "accuracy", "value": v,
                     "ci_low": v - 0.03, "ci_high": v + 0.03, "n": 240, "operator_hash": "abc"}
                )  # fmt: skip
    append_jsonl(run.path / "scores.jsonl", *rows)


def score_change(
    workspace: Workspace, pack: PackInfo, model: str, title: str, found: dict[float, float], *,
    adaptation: str = "finetune (dstnsp-change)", operator: str = "bilinear", train_degrade: str = "none",
    target: str = "post", seeds: int = 3, n: int = 40, predictions: bool = True,
) -> RunFolder:  # fmt: skip
    """One evaluation of change detection, finished: scores of all four metrics, training curves, predictions.

    Args:
        found: severity -> share of the changed pixels that is found.
    """
    rng = np.random.default_rng(len(title) + 7 * len(train_degrade) + seeds)
    spec = EvaluateSpec(model=model, dataset=pack.name, operator=operator, eval_seeds=list(range(seeds)))
    run = create_run(workspace, spec)
    history(run, "succeeded", 20, 2, "Done.")
    change = np.random.default_rng(1).integers(200, 900, n)  # of the samples: the same for all models
    scores, tables, logged = [], [], []
    for seed in range(seeds):
        for epoch in range(1, 6):
            values = {"loss": 0.7 * 0.8**epoch + 0.02 * seed, "lr": 1e-4 * (1 - epoch / 6), "val_score": 0.15 * epoch}
            logged.append(
                {"attempt": 1, "step": 5 * seed + epoch, "samples": 40 * (5 * seed + epoch), "time": stamp(10),
                 "values": {f"{adaptation.partition(' ')[0]}-{seed}/{k}": v for k, v in values.items()}}
            )  # fmt: skip
        for severity, share in found.items():
            tp, fp = rng.binomial(change, share), rng.poisson(60, n)
            counts = np.stack([tp, fp, change - tp, 65_536 - change - fp], axis=1).astype(float)
            setting = {
                "adaptation": adaptation, "operator": operator, "severity": float(severity), "degrade_target": target,
                "train_degrade": train_degrade, "eval_seed": seed,
            }  # fmt: skip
            for metric in TASKS["change"].metrics:
                value = float(METRICS[metric].of(counts.sum(axis=0)))
                gsd = OPERATORS[operator].effective_gsd_m(2.0, severity) if operator in OPERATORS else 2.0
                scores.append(
                    {"attempt": 1, "time": stamp(0), "model": model, "model_title": title, "model_group": model,
                     "model_seed": 0, "dataset": pack.name, "pack_hash": pack.content_hash, "gsd_m": gsd,
                     "synthetic": pack.synthetic, "split": "test", "task": "change", "bands": "red,green,blue",
                     "metric": metric, "value": value, "ci_low": value - 0.02, "ci_high": value + 0.02, "n": n,
                     "operator_hash": "abc", **setting}
                )  # fmt: skip
            tables.append(
                pd.DataFrame({"sample_id": [f"pair-{i}" for i in range(n)], "metric": "f1", **setting}).assign(
                    counts=list(counts)
                )
            )
    append_jsonl(run.path / "scores.jsonl", *scores)
    append_jsonl(run.path / "metrics.jsonl", *logged)
    if predictions:
        (run.path / "artifacts").mkdir(exist_ok=True)
        pd.concat(tables).to_parquet(run.path / "artifacts" / "predictions.parquet", index=False)
        append_jsonl(
            run.path / "artifacts.jsonl",
            {"attempt": 1, "time": stamp(0), "path": "artifacts/predictions.parquet", "kind": "predictions",
             "title": "Predictions"},
        )  # fmt: skip
    return run


def make_benchmark(root: Path) -> Workspace:
    """Change detection on a pack for which there are published numbers: two models, one of them also trained on
    degraded images, tested on coarser and on blurred images."""
    workspace = Workspace(root)
    for folder in (workspace.runs, workspace.packs, workspace.models):
        folder.mkdir(parents=True, exist_ok=True)
    pack = make_pairs(workspace, "levir", dataset="levir-cd")
    encoder = ("efficientnet-lite0", TITLES["efficientnet-lite0"])
    score_change(workspace, pack, *encoder, {1: 0.93, 2: 0.86, 4: 0.55, 8: 0.2})
    score_change(workspace, pack, *encoder, {1: 0.9, 2: 0.89, 4: 0.86, 8: 0.8}, train_degrade="bilinear")
    score_change(workspace, pack, *encoder, {0: 0.93, 0.5: 0.9, 1: 0.7, 2: 0.4}, operator="blur")
    score_change(workspace, pack, "random:vit-nano", TITLES["random:vit-nano"], {1: 0.6, 2: 0.55, 4: 0.35, 8: 0.1})
    return workspace


def embed(
    workspace: Workspace,
    pack: PackInfo,
    *,
    model: str,
    title: str,
    severities: tuple[float, ...] = (1.0, 4.0),
    seed: int = 0,
) -> RunFolder:
    """A finished embedding of every sample, in the order of samples.parquet: four clusters, blurred at worse ones."""
    run = create_run(workspace, EmbedSpec(model=model, dataset=pack.name, severities=list(severities), seed=seed))
    history(run, "succeeded", 20, 1, "Done.")
    samples = Pack.named(workspace, pack.name).samples
    rng = np.random.default_rng(seed)
    group = (
        samples["label_index"].fillna(0).to_numpy(int)
        if samples["label_index"].notna().any()
        else np.arange(len(samples)) % 4
    )
    parts, maps = [], []
    for number, severity in enumerate(severities):
        xy = np.stack([np.cos(group * 1.57), np.sin(group * 1.57)], axis=1) * 5 + rng.normal(
            0, 0.4 + number, (len(group), 2)
        )
        near = np.argsort(((xy[:, None] - xy[None]) ** 2).sum(axis=2), axis=1)[:, 1:16].astype(np.int32)
        kept = np.full(len(group), 1.0 if number == 0 else 0.5, np.float32)
        parts.append(
            pd.DataFrame(
                {
                    "severity": severity, "split": samples["split"], "row": samples["row"], "id": samples["id"],
                    "x": xy[:, 0].astype(np.float32), "y": xy[:, 1].astype(np.float32),
                    "pc1": xy[:, 1].astype(np.float32), "pc2": xy[:, 0].astype(np.float32),
                    "neighbours": list(near), "kept": kept,
                }
            )
        )  # fmt: skip
        maps.append(
            {
                "severity": severity, "gsd_m": 30.0 * severity, "neighbours_kept": float(kept.mean()), "k": 15,
                "judged": len(group), "preservation": 0.62, "trustworthiness": 0.97, "silhouette_features": 0.31,
                "silhouette_map": 0.42,
            }
        )  # fmt: skip
    about = {
        "model": model, "model_title": title, "model_group": "g", "model_seed": 0, "dataset": pack.name,
        "pack_hash": pack.content_hash, "layer": "image", "synthetic": pack.synthetic, "bands": ["B1", "B2", "B3"],
        "operator": "bilinear", "metric": "cosine", "splits": list(pack.splits), "count": len(group),
        "total": len(group), "seed": seed, "feature_dim": 192, "explained": [0.4, 0.2], "neighbors": 15,
        "min_dist": 0.1, "maps": maps,
    }  # fmt: skip
    write_embedding(run.path / EMBEDDING, Embedding(about=about, points=pd.concat(parts, ignore_index=True)))
    append_jsonl(
        run.path / "artifacts.jsonl",
        {"attempt": 1, "time": stamp(19), "path": EMBEDDING, "kind": "embedding", "title": title},
    )
    return run


CURVES = {
    "mae": {"knn": [0.86, 0.81, 0.68, 0.49], "linear": [0.91, 0.87, 0.74, 0.52]},
    "random:vit-nano": {"knn": [0.61, 0.58, 0.47, 0.36], "linear": [0.72, 0.67, 0.53, 0.38]},
    "band-stats": {"knn": [0.55, 0.54, 0.52, 0.45], "linear": [0.58, 0.57, 0.55, 0.47]},
    "efficientnet-lite0": {"knn": [0.79, 0.74, 0.61, 0.42], "linear": [0.85, 0.79, 0.66, 0.45]},
}
#: Scores at 1x, 2x, 4x and 8x.
ROWS = {"a": [0.9, 0.8, 0.6, 0.3], "b": [0.5, 0.5, 0.5, 0.5]}


def compare_rows(groups: dict[str, list[float]], dataset: str = "eurosat", **fixed: Any) -> pd.DataFrame:
    """Rows as `Store.compare` gives them: group -> scores at 1x, 2x, 4x, 8x, or at `severities`."""
    rows = []
    severities = fixed.pop("severities", (1.0, 2.0, 4.0, 8.0))
    for group, values in groups.items():
        for severity, mean in zip(severities, values, strict=True):
            rows.append(
                {"model": group, "model_title": f"Model {group}", "model_group": group, "dataset": dataset,
                 "synthetic": False, "task": "classification", "adaptation": "knn", "operator": "bilinear",
                 "severity": severity, "gsd_m": 10 * severity, "metric": "accuracy", "mean": mean, "std": 0.01,
                 "ci_low": mean - 0.02, "ci_high": mean + 0.03, "n": 500, "seeds": 3, "seed_kind": "evaluation seeds",
                 "pack_hash": "h", "split": "test", "bands": "B4,B3,B2", "degrade_target": "single",
                 "train_degrade": "none", **fixed}
            )  # fmt: skip
    return pd.DataFrame(rows)


TITLES = {
    "random:vit-nano": "Random ViT-nano", "band-stats": "Band statistics",
    "efficientnet-lite0": "EfficientNet-Lite0 (ImageNet)",
}  # fmt: skip


def make_lab(root: Path, *, hostile: bool = False) -> Workspace:
    """A populated workspace. `hostile`: titles, labels and messages that try to be code."""
    workspace = Workspace(root)
    for folder in (workspace.runs, workspace.packs, workspace.models):
        folder.mkdir(parents=True, exist_ok=True)
    name = HOSTILE if hostile else ""
    real = make_pack(workspace, "landsat7-sample", labels=False, title=name or "Landsat 7 ETM+ sample scene")
    classes = [f"{c} {HOSTILE}" for c in CLASSES] if hostile else CLASSES
    labelled = make_pack(
        workspace, "synthetic-landsat7", synthetic=True, title=name or "Synthetic landscapes", classes=classes
    )  # fmt: skip

    prepared = create_run(workspace, PrepareSpec(dataset="landsat7-sample"), tags=[name or "demo"])
    history(prepared, "succeeded", 95, 2, "Done.")
    (prepared.path / "log.txt").write_text(f"60 of 60 samples\n{name}\n")

    done = create_run(workspace, pretrain_spec("mae", real.name, "cpu"), tags=["demo"])
    history(done, "succeeded", 88, 3, "Done.")
    train(done, steps=312, total=312, batch=128, began=88)
    title = f"MAE vit-nano · landsat7-sample {name}".strip()
    export_model(workspace, done, title, real)

    for seed, (model, curve) in enumerate(CURVES.items()):
        spec = EvaluateSpec(model=done.id if model == "mae" else model, dataset=labelled.name)
        run = create_run(workspace, spec)
        history(run, "succeeded", 60 - 5 * seed, 2, "Done.")
        group = done.envelope()["group"] if model == "mae" else model
        score(run, labelled, title if model == "mae" else TITLES[model], group, curve, seed)

    running = create_run(workspace, pretrain_spec("mae", real.name, "cpu", ["encoder.depth=6"], seed=1))
    history(running, "running", 2, 0)
    train(running, steps=130, total=312, batch=128, began=2, seed=1, alarm=True)
    beat(running)
    failed = create_run(workspace, pretrain_spec("mae", real.name, "smoke"))
    history(failed, "failed", 30, 1, name or "The job was ended by SIGKILL (out of memory). Resume goes on from there.")
    stopping = create_run(workspace, pretrain_spec("mae", labelled.name, "smoke", seed=3))
    history(stopping, "stopping", 3, 0)
    train(stopping, steps=10, total=16, batch=32, began=3, seed=3)
    beat(stopping)
    create_run(workspace, EvaluateSpec(model=f"random:{done.id}", dataset=labelled.name))
    return workspace


if __name__ == "__main__":
    made = make_lab(Path(sys.argv[1]), hostile="--hostile" in sys.argv)
    print(json.dumps({"runs": len(list(made.runs.iterdir())), "root": str(made.root)}))
