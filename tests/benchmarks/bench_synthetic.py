"""How fast the synthetic world is made, and how hard its scenes are.

python tests/benchmarks/bench_synthetic.py [tiles]
"""

from __future__ import annotations

import sys
import time

import numpy as np
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from rsfm.synthetic import render, scenes
from rsfm.synthetic.world import World

FACTORS = (1, 2, 4, 8)


def draw(sensor: str, size: int, gsd_m: float, split: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(N, C, H, W) stored images and (N,) labels."""
    device = render.instrument(sensor)
    world, bands = World(0, size, gsd_m, gsd_m * device.detail_pixels), device.bands(None, gsd_m)
    names = list(scenes.PATTERNS)
    labels = np.arange(count) % len(names)
    images = []
    for i in range(count):
        stream = world.rng(split, i, 99)
        day = int(stream.integers(100, 291))
        land = world.scene(split, i, names[labels[i]])
        images.append(render.store(render.render(land, device, bands, size, day, stream), device))
    return np.stack(images), labels


def coarser(images: np.ndarray, factor: int) -> np.ndarray:
    """Pillow's bilinear down and up again, per band, on 8-bit images."""
    if factor == 1:
        return images
    result = np.empty_like(images)
    for i in np.ndindex(images.shape[:2]):
        image = Image.fromarray(images[i])
        small = image.resize((image.width // factor, image.height // factor), Image.Resampling.BILINEAR)
        result[i] = np.asarray(small.resize(image.size, Image.Resampling.BILINEAR))
    return result


def statistics(images: np.ndarray) -> np.ndarray:
    return np.concatenate([images.mean(axis=(2, 3)), images.std(axis=(2, 3))], axis=1)


def texture(images: np.ndarray) -> np.ndarray:
    x = images.astype(np.float32)
    parts = [statistics(images)]
    for step in (1, 2, 4, 8):
        parts.append(np.log1p(((x[..., step:, :] - x[..., :-step, :]) ** 2).mean(axis=(2, 3))))
        parts.append(np.log1p(((x[..., step:] - x[..., :-step]) ** 2).mean(axis=(2, 3))))
    return np.concatenate(parts, axis=1)


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with threadpool_limits(1):
        print(f"{'sensor':<12} {'tile':>9}  ms CPU per tile")
        for sensor, size, gsd_m in (
            ("landsat-7", 64, 30.0), ("landsat-8", 64, 30.0), ("sentinel-2", 64, 10.0), ("sentinel-1", 64, 10.0),
            ("rgb", 128, 2.0),
        ):  # fmt: skip
            start = time.process_time()
            draw(sensor, size, gsd_m, "val", 100)
            print(f"{sensor:<12} {size:>4}x{size:<4}  {(time.process_time() - start) * 10:.1f}")
        images, labels = draw("landsat-7", 64, 30.0, "train", 2 * count)
        held_out, truth = draw("landsat-7", 64, 30.0, "test", count)
        print(f"\naccuracy on {count} Landsat 7 tiles, linear classifier trained at 1x on {2 * count}")
        print("features    " + "".join(f"{f}x".rjust(8) for f in FACTORS))
        for features in (statistics, texture):
            model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=3000)).fit(features(images), labels)
            scores = [model.score(features(coarser(held_out, f)), truth) for f in FACTORS]
            print(f"{features.__name__:<12}" + "".join(f"{s:8.3f}" for s in scores))


if __name__ == "__main__":
    main()
