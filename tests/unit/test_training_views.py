"""Views of labelled images for training: square or not, image and map stay together."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from rsfm.data.views import apply_view, random_boxes, view_matrices
from rsfm.evaluation.batches import Batch, TrainingViews, view_remarks
from rsfm.model_info import ModelBand
from rsfm.specs import FitParams

BANDS = [ModelBand(name="a", wavelength_nm=None, gsd_m=1, unit="dn", mean=1.0, std=1.0)]
CPU = torch.device("cpu")


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def checks(count: int, height: int, width: int) -> Batch:
    """Quarters of 0, 1, 2 and 3, as an image and as its map."""
    target = torch.zeros(count, height, width, dtype=torch.int64)
    target[:, height // 2 :] += 1
    target[:, :, width // 2 :] += 2
    return Batch([target[:, None].float()], target)


@pytest.mark.parametrize("shape", [(24, 24), (16, 40), (40, 16)])
@pytest.mark.parametrize("flips", ["none", "horizontal", "dihedral"])
@pytest.mark.parametrize("crop", [1.0, 0.3])
def test_image_and_map_stay_together(shape: tuple[int, int], flips: str, crop: float) -> None:
    fit = FitParams(flips=flips, crop_min_scale=crop)
    seen = TrainingViews(fit, BANDS, CPU)(checks(64, *shape), generator())
    (image,) = seen.images
    assert image.shape == (64, 1, *shape) and seen.target.shape == (64, *shape)
    agree = image[:, 0].round().long() == seen.target
    assert agree.float().mean() > (0.99 if crop == 1 else 0.85)  # but at the borders of the quarters


@pytest.mark.parametrize(("shape", "symmetries"), [((16, 16), 8), ((16, 40), 4)])
def test_images_that_are_not_square_are_mirrored_and_not_turned(shape: tuple[int, int], symmetries: int) -> None:
    image = torch.arange(float(math.prod(shape))).view(1, 1, *shape).expand(200, 1, *shape)
    seen = TrainingViews(FitParams(flips="dihedral"), BANDS, CPU)(Batch([image], torch.zeros(200)), generator())
    corners = {tuple(view[0, [0, 0, -1], [0, -1, 0]].tolist()) for view in seen.images[0]}
    assert len(corners) == symmetries


def test_a_crop_has_the_proportions_of_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else training would see a world stretched by another factor than the test."""
    drawn: list[Tensor] = []

    def boxes(*args: object, **options: object) -> Tensor:
        drawn.append(random_boxes(*args, **options))
        return drawn[-1]

    monkeypatch.setattr("rsfm.evaluation.batches.random_boxes", boxes)
    for height, width in ((40, 40), (30, 120)):
        TrainingViews(FitParams(crop_min_scale=0.2), BANDS, CPU)(checks(500, height, width), generator())
        stretch = torch.log(drawn[-1][:, 3] / drawn[-1][:, 2]) - math.log(width / height)
        assert abs(stretch.mean()) < 0.05 and stretch.abs().max() < math.log(4 / 3) + 0.1


def test_what_does_not_suit_the_bands_is_said() -> None:
    """Saturation is of three colours; nothing is said where it works, or is not asked for."""
    fit = FitParams(jitter=0.2, flips="dihedral")
    colours = [
        ModelBand(name=n, wavelength_nm=w, gsd_m=1, unit="uint8", mean=90, std=20)
        for n, w in (("red", 650), ("green", 550), ("blue", 470))
    ]
    (said,) = view_remarks(fit, BANDS, 32, 32)
    assert "without saturation" in said and "left of the jitter: brightness, contrast." in said
    assert view_remarks(fit, colours, 32, 32) == []
    assert view_remarks(FitParams(jitter=0), BANDS, 32, 32) == []
    (said,) = view_remarks(fit, colours, 32, 48)
    assert "mirrored but not turned: images of 32×48" in said


def test_a_view_that_is_not_square_is_not_transposed() -> None:
    image, flips = torch.rand(2, 1, 4, 6), torch.tensor([[False, True, False], [True, False, True]])
    rows, columns = view_matrices(torch.tensor([[0.0, 0, 4, 6]]).expand(2, 4), flips, 4, 6, (4, 6))
    with pytest.raises(ValueError, match="4 x 6 pixels are not square"):
        apply_view(image, rows, columns, flips)
    flips[:, 2] = False
    assert apply_view(image, rows, columns, flips).shape == image.shape
