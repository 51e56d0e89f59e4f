"""Random reads of a pack against torchgeo's per-file reading of the same images.

    python tests/benchmarks/bench_pack_reads.py [--images N] [--reads N]

A tree in torchgeo's EuroSAT layout is built from the real samples where they are (RSFM_REALDATA, or shared/data beside
the repository), else from generated files of the same form. Both ways give the same float32 values; the file cache is
warm for both, so this is the cost of opening and decoding.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

from rsfm.packs import Pack
from rsfm.workspace import Workspace

BASE = Path("ds/images/remote_sensing/otherDatasets/sentinel_2/tif")
CLASSES = ("AnnualCrop", "Forest", "HerbaceousVegetation", "Highway", "Industrial", "Pasture", "PermanentCrop",
           "Residential", "River", "SeaLake")  # fmt: skip


def build_tree(root: Path, images: int) -> str:
    """Files and lists as torchgeo expects them; returns what they are made of."""
    real = (
        Path(os.environ.get("RSFM_REALDATA") or Path(__file__).resolve().parents[3] / "shared" / "data") / "eurosat_ms"
    )
    names = []
    for label in CLASSES:
        (root / BASE / label).mkdir(parents=True)
        sources = sorted(real.rglob(f"{label}_*.tif"))
        for number in range(1, images // len(CLASSES) + 1):
            target = root / BASE / label / f"{label}_{number}.tif"
            if sources:
                shutil.copy(sources[number % len(sources)], target)
            else:
                _generate(target, number)
            names.append(f"{label}_{number}.jpg")
    (root / "eurosat-train.txt").write_text("\n".join(names) + "\n")
    return "real EuroSAT files" if real.is_dir() else "generated files"


def _generate(target: Path, seed: int) -> None:
    import rasterio

    profile = {"driver": "GTiff", "count": 13, "height": 64, "width": 64, "dtype": "uint16"}
    with rasterio.open(target, "w", **profile) as file:
        file.write(np.random.default_rng(seed).integers(500, 4000, (13, 64, 64)).astype(np.uint16))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--reads", type=int, default=2000)
    args = parser.parse_args()
    warnings.simplefilter("ignore")

    import torch
    from torchgeo.datasets import EuroSAT

    from data_catalog.prepare import prepare
    from rsfm.specs import PrepareSpec

    torch.set_num_threads(1)  # both ways get one core
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        made_of = build_tree(root / "eurosat", args.images)
        workspace = Workspace(root / "workspace")
        start = time.perf_counter()
        prepare(PrepareSpec(dataset="eurosat-ms", source=str(root / "eurosat")), workspace)
        prepared = time.perf_counter() - start
        pack = Pack.named(workspace, "eurosat-ms")
        files = EuroSAT(root=str(root / "eurosat"), split="train", download=False)
        array = pack.array("train")
        order = np.random.default_rng(0).integers(0, len(array), args.reads)
        for i in order[:20]:
            np.testing.assert_array_equal(array[i].astype(np.float32), files[int(i)]["image"].numpy())

        def seconds(read) -> float:
            for i in order[:200]:
                read(int(i))
            begin = time.perf_counter()
            for i in order:
                read(int(i))
            return time.perf_counter() - begin

        by_file = seconds(lambda i: files[i]["image"])
        by_pack = seconds(lambda i: array[i].astype(np.float32))
        batches = order[: args.reads // 128 * 128].reshape(-1, 128)
        begin = time.perf_counter()
        for batch in batches:
            array[np.sort(batch)].astype(np.float32)
        by_batch = (time.perf_counter() - begin) / batches.size * args.reads

    print(f"{len(array)} images of {made_of}, 13 x 64 x 64 uint16, {args.reads} random reads, warm cache, one process")
    print(f"{'way':<34}{'images/s':>12}{'ms/image':>12}{'times faster':>15}")
    for way, used in (("torchgeo EuroSAT, file by file", by_file), ("pack, one at a time", by_pack),
                      ("pack, batches of 128", by_batch)):  # fmt: skip
        print(f"{way:<34}{args.reads / used:>12,.0f}{used / args.reads * 1e3:>12.3f}{by_file / used:>15.1f}")
    print(f"preparing the pack once: {prepared:.1f} s")


if __name__ == "__main__":
    main()
