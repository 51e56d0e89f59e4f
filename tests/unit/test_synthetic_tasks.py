"""What a loss of resolution must do: everything to a task of fine texture, nothing to a task of colour.

The operator is Pillow's bilinear down and up again on 8-bit images.
"""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from scipy.stats import binom
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from rsfm.errors import RsfmError
from rsfm.synthetic import diagnostic, render, scenes
from rsfm.synthetic.world import World


def coarser(images, factor):
    """(N, C, H, W) uint8 -> the same shape at `factor` x the pixel size."""
    if factor == 1:
        return images
    result = np.empty_like(images)
    for i in np.ndindex(images.shape[:2]):
        image = Image.fromarray(images[i])
        small = image.resize((image.width // factor, image.height // factor), Image.Resampling.BILINEAR)
        result[i] = np.asarray(small.resize(image.size, Image.Resampling.BILINEAR))
    return result


def texture_features(images):
    """Energy of differences over 1, 2 and 4 pixels relative to the contrast, per channel."""
    x = images.astype(np.float32)
    spread = x.var(axis=(2, 3)) + 1
    parts = []
    for step in (1, 2, 4):
        parts.append(((x[..., step:, :] - x[..., :-step, :]) ** 2).mean(axis=(2, 3)) / spread)
        parts.append(((x[..., step:] - x[..., :-step]) ** 2).mean(axis=(2, 3)) / spread)
    return np.concatenate([np.log(spread), *parts], axis=1)


def mean_features(images):
    return images.mean(axis=(2, 3))


def statistics(images):
    return np.concatenate([images.mean(axis=(2, 3)), images.std(axis=(2, 3))], axis=1)


def classifier(features, images, labels):
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(features(images), labels)


def test_texture_task_falls_to_chance_at_8x():
    images, labels = diagnostic.texture_task(300, seed=0)
    held_out, truth = diagnostic.texture_task(200, seed=1)
    model = classifier(texture_features, images, labels)
    right = {f: int((model.predict(texture_features(coarser(held_out, f))) == truth).sum()) for f in (1, 4, 8)}
    low, high = binom.interval(0.99, 200, 1 / 4)
    assert right[1] > 0.95 * 200
    assert low <= right[8] <= high
    assert right[4] < right[1]


def test_texture_classes_share_their_mean_and_contrast():
    images, labels = diagnostic.texture_task(200, seed=2)
    moments = np.stack([images.mean(axis=(1, 2, 3)), images.std(axis=(2, 3)).mean(axis=1)], axis=1)
    by_class = np.stack([moments[labels == k].mean(axis=0) for k in range(4)])
    assert np.ptp(by_class[:, 0]) < 5 and np.ptp(by_class[:, 1]) < 0.2


def test_colour_task_does_not_move():
    images, labels = diagnostic.colour_task(300, seed=0)
    held_out, truth = diagnostic.colour_task(600, seed=1)
    model = classifier(mean_features, images, labels)
    scores = {f: model.score(mean_features(coarser(held_out, f)), truth) for f in (1, 4, 8)}
    assert scores[1] > 0.9
    assert abs(scores[4] - scores[1]) <= 0.01 and abs(scores[8] - scores[1]) <= 0.01


def test_tasks_are_repeatable_and_balanced():
    for task in (diagnostic.texture_task, diagnostic.colour_task):
        (one, labels), (other, _), (third, _) = task(8, seed=3), task(8, seed=3), task(8, seed=4)
        assert one.dtype == np.uint8 and one.shape == (8, 3, 64, 64)
        assert np.array_equal(one, other) and not np.array_equal(one, third)
        assert np.bincount(labels).tolist() == [2, 2, 2, 2]
    with pytest.raises(RsfmError, match="at least 1 image"):
        diagnostic.colour_task(0)


def test_scenes_need_detail():
    """Band statistics see more than chance but not the classes; texture does, and loses it with resolution."""
    device = render.instrument("landsat-7")
    world = World(0, 64, 30.0, 30.0)
    names = list(scenes.PATTERNS)

    def draw(split, count):
        labels = np.arange(count) % len(names)
        images = [
            render.store(
                render.render(
                    world.scene(split, i, names[k]), device, device.bands(), 64, 100 + 37 * i % 190,
                    world.rng(split, i, 99),
                ),
                device,
            )
            for i, k in enumerate(labels)
        ]  # fmt: skip
        return np.stack(images), labels

    (images, labels), (held_out, truth) = draw("train", 300), draw("test", 150)
    floor = classifier(statistics, images, labels).score(statistics(held_out), truth)
    model = classifier(texture_features, images, labels)
    sharp, blurred = (model.score(texture_features(coarser(held_out, f)), truth) for f in (1, 8))
    assert 0.35 < floor < 0.8
    assert sharp > floor + 0.05
    assert blurred < sharp - 0.3
