"""What an evaluation costs: extraction against heads, per model (python tests/benchmarks/bench_evaluate.py)."""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rsfm.bands import SENSORS
from rsfm.degrade import operator
from rsfm.evaluation.evaluate import run_job
from rsfm.evaluation.features import FeatureCache, extract
from rsfm.evaluation.heads import centroid_predict, fit_linear, knn_predict
from rsfm.evaluation.images import PackImages
from rsfm.evaluation.networks import encode
from rsfm.evaluation.plan import plan
from rsfm.metrics import classification_counts
from rsfm.models.baselines import resolve
from rsfm.pack_arrays import write_arrays
from rsfm.packs import Pack
from rsfm.specs import EvaluateSpec
from rsfm.stats import score_interval
from rsfm.store.job import JobContext
from rsfm.store.runs import create_run
from rsfm.tasks import TASKS
from rsfm.workspace import Workspace


def make_pack(workspace: Workspace, train: int, test: int, size: int, classes: int) -> Pack:
    """Landsat-7-like uint8 images of 7 bands with a faint class signal."""
    rng = np.random.default_rng(0)
    images, labels = {}, {}
    for split, count in (("train", train), ("test", test)):
        y = np.arange(count) % classes
        x = rng.normal(110, 30, (count, 7, size, size)) + 4 * rng.normal(size=(classes, 7))[y][:, :, None, None]
        images[split], labels[split] = x.clip(0, 255).astype(np.uint8), [f"class-{i}" for i in y]
    return write_arrays(workspace, "bench", images, SENSORS["landsat-7"].bands, labels=labels, gsd_m=30)


def bench(workspace: Workspace, model_name: str) -> dict[str, float]:
    """Seconds of each part of one evaluation with 4 factors, 3 heads and 5 seeds, nothing cached.

    `cpu` is the process's own time: on a busy machine the honest figure.
    """
    spec = EvaluateSpec(
        model=model_name, dataset="bench", adaptations=["knn", "centroid", "linear"], eval_seeds=[0, 1, 2, 3, 4]
    )
    what = plan(spec, workspace)
    seconds: dict[str, float] = {}
    clock, cpu = time.perf_counter(), time.process_time()

    def lap(name: str) -> None:
        nonlocal clock
        now = time.perf_counter()
        seconds[name] = seconds.get(name, 0.0) + now - clock
        clock = now

    model = resolve(spec, what.pack, workspace)
    lap("load")
    images, cache = PackImages(what.pack, model, what.operator), FeatureCache(workspace)
    features = {}
    for split, factor in (("train", 1), *(("test", f) for f in what.severities)):
        array = extract(
            model, images, split, factor, cache=cache, device="cpu", batch_size=spec.images_per_pass,
            after_batch=lambda count: None,
        )  # fmt: skip
        features[split, factor] = torch.from_numpy(array)
    lap("extract")
    labels, predictions = torch.tensor(what.train_labels), []
    for seed in spec.eval_seeds:
        rows = torch.from_numpy(what.draws[seed])
        x, y = features["train", 1][rows], labels[rows]
        for factor in what.severities:
            options = {"classes": len(what.pack.info.classes), "k": spec.knn_k, "temperature": spec.knn_temperature}
            predictions.append(knn_predict(x, y, features["test", factor], **options)[0].numpy())
        lap("knn")
        for factor in what.severities:
            options = {"classes": len(what.pack.info.classes), "temperature": spec.knn_temperature}
            predictions.append(centroid_predict(x, y, features["test", factor], **options)[0].numpy())
        lap("centroid")
        probe = fit_linear(x, y, seed)
        predictions += [probe.predict(features["test", f])[0].numpy() for f in what.severities]
        lap("linear")
    counts = np.stack([classification_counts(what.test_labels, p) for p in predictions], axis=1)
    score_interval("accuracy", counts)
    lap("intervals")
    total, cpu = sum(seconds.values()), time.process_time() - cpu
    seconds["images/s"] = (len(what.train_labels) + len(what.severities) * len(what.test_labels)) / seconds["extract"]
    return {**seconds, "total": total, "cpu": cpu, "÷ extract": total / seconds["extract"]}


def make_maps(workspace: Workspace, train: int, test: int, size: int) -> Pack:
    """Images of 7 bands, and maps of where the first is bright."""
    rng = np.random.default_rng(0)
    counts = {"train": train, "test": test}
    images = {s: rng.normal(110, 30, (n, 7, size, size)).clip(0, 255).astype(np.uint8) for s, n in counts.items()}
    masks = {split: (x[:, :1] > 110).astype(np.uint8) for split, x in images.items()}
    return write_arrays(
        workspace, "bench-maps", images, SENSORS["landsat-7"].bands, masks=masks, classes=["dark", "bright"], gsd_m=30
    )


def bench_maps(workspace: Workspace, model_name: str, head: str, fit: dict[str, Any]) -> dict[str, float]:
    """Seconds of one extraction of all images, and of an evaluation with 5 seeds whose maps are kept, and are not.

    What is above the extraction with kept maps is the training and testing of the decoders.
    """
    spec = EvaluateSpec(
        model=model_name, dataset="bench-maps", adaptations=[head], eval_seeds=[0, 1, 2, 3, 4], bootstrap=100, fit=fit
    ).only_used(TASKS["segmentation"])
    what = plan(spec, workspace)
    model = resolve(spec, what.pack, workspace)
    images = PackImages(what.pack, model, what.operator)
    splits = [(what.train_split, 1.0), *((what.test_split, severity) for severity in what.severities)]
    encode(model, images.read("test", slice(0, 1), 1))  # the first pass also sets things up
    clock = time.perf_counter()
    with torch.no_grad():
        for split, severity in splits:
            for start in range(0, what.pack.info.splits[split], 32):
                encode(model, images.read(split, slice(start, start + 32), severity))
    seconds = {"extract": time.perf_counter() - clock}
    for name, maps_gb in (("kept", 20), ("not kept", 0)):
        asked = spec.model_copy(update={"maps_gb": maps_gb})
        context = JobContext(workspace, create_run(workspace, asked), 1, threads=torch.get_num_threads())
        clock = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            run_job(asked, context)
        seconds[name] = time.perf_counter() - clock
    return {**seconds, "÷ extract": seconds["kept"] / seconds["extract"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", type=int, default=1500)
    parser.add_argument("--test", type=int, default=1000)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--classes", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--models", default="band-stats,random:vit-nano,efficientnet-lite0")
    parser.add_argument("--maps", type=int, default=24, help="images of each split with maps")
    parser.add_argument("--encoders", default="random:vit-ti,efficientnet-lite0", help="frozen, under decoders")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder))
        pack = make_pack(workspace, args.train, args.test, args.size, args.classes)
        print(f"{args.train} train + 4 × {args.test} test images, {pack.layer().shape}, {args.threads} thread(s)\n")
        stored = np.ascontiguousarray(pack.array("test")[:256])
        for factor in (2, 4, 8):
            start = time.perf_counter()
            operator("bilinear").apply(stored, factor, pack.layer().bands, [str(i) for i in range(len(stored))])
            print(f"degrade {factor}×: {len(stored) / (time.perf_counter() - start):7.0f} images/s")
        names = ["load", "extract", "images/s", "knn", "centroid", "linear", "intervals", "total", "cpu", "÷ extract"]
        print(f"\n{'model':22}" + "".join(f"{n:>11}" for n in names))
        for model in args.models.split(","):
            seconds = bench(workspace, model)
            print(f"{model:22}" + "".join(f"{seconds[n]:11.2f}" for n in names), flush=True)

        make_maps(workspace, args.maps, args.maps, args.size)
        fit = {"epochs": 5, "decoder_width": 32, "pool_width": 32, "flips": "none"}
        print(
            f"\nmaps: {args.maps} train + 4 × {args.maps} test images, 5 seeds of {fit['epochs']} epochs without flips"
        )
        names = ["extract", "kept", "not kept", "÷ extract"]
        print(f"{'model':22}{'head':>11}" + "".join(f"{n:>11}" for n in names))
        for model in args.encoders.split(","):
            for head in ("linear", "decoder"):
                seconds = bench_maps(workspace, model, head, fit)
                print(f"{model:22}{head:>11}" + "".join(f"{seconds[n]:11.2f}" for n in names), flush=True)


if __name__ == "__main__":
    main()
