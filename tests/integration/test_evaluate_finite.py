"""What is not finite is refused, wherever in an evaluation it comes up: it would be counted as the first class."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from maps_world import FIT, RGB8, blobs, evaluate, multilabel_pack, request, segmentation_pack

from rsfm.errors import RsfmError
from rsfm.evaluation import evaluate as module
from rsfm.evaluation.evaluate import dry_run
from rsfm.evaluation.networks import TaskNetwork
from rsfm.models.export import EncoderModel
from rsfm.pack_arrays import write_arrays
from rsfm.workspace import Workspace

MODEL = "random:vit-nano"
QUICK: dict[str, Any] = {"severities": [1, 4], "fit": {**FIT, "epochs": 2, "flips": "none"}}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def white_breaks_it(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """White images have maps and features of this value, from now on."""
    value = [math.nan]
    maps, features = EncoderModel.maps, EncoderModel.features

    def spoilt(x: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
        white = (x.amin(dim=(1, 2, 3)) > 2).view(-1, *[1] * (found.ndim - 1))
        return torch.where(white, value[0], found)

    monkeypatch.setattr(EncoderModel, "maps", lambda self, x: [spoilt(x, level) for level in maps(self, x)])
    monkeypatch.setattr(EncoderModel, "features", lambda self, x: spoilt(x, features(self, x)))
    return value


def fields(workspace: Workspace, white: int, split: str = "test") -> None:
    """A pack with one white image."""
    parts = {s: blobs(n, i) for i, (s, n) in enumerate((("train", 8), ("val", 3), ("test", 5)))}
    parts[split][0][white] = 255
    write_arrays(
        workspace, "fields", {s: p[0] for s, p in parts.items()}, RGB8, masks={s: p[1] for s, p in parts.items()},
        classes=["land", "roof"],
    )  # fmt: skip


@pytest.mark.parametrize("value", [math.nan, -math.inf], ids=str)
@pytest.mark.parametrize(
    ("adaptation", "maps_gb"), [("linear", 20), ("linear", 0), ("decoder", 20), ("decoder", 0), ("finetune", 0)]
)
def test_maps_that_are_not_finite(
    workspace: Workspace, white_breaks_it: list[float], adaptation: str, maps_gb: float, value: float
) -> None:
    """Even where the head would hide it: a rectifier makes zero of -inf."""
    white_breaks_it[0] = value
    fields(workspace, white=3)
    said = rf"Model {MODEL} gives .* for 1 of 5 images of 'test' in pack 'fields' \(not degraded\), .*'test-000003'"
    with pytest.raises(RsfmError, match=said):
        evaluate(workspace, MODEL, "fields", **QUICK, adaptations=[adaptation], maps_gb=maps_gb)


def test_maps_are_looked_at_before_they_are_kept(workspace: Workspace, white_breaks_it: list[float]) -> None:
    fields(workspace, white=2, split="train")
    with pytest.raises(RsfmError, match=r"for 1 of \d images of 'train' .*'train-000002'"):
        evaluate(workspace, MODEL, "fields", **QUICK, adaptations=["linear"])


def test_features_of_a_tuned_encoder(workspace: Workspace, white_breaks_it: list[float]) -> None:
    pack = multilabel_pack(workspace)
    images = pack.array("test").copy()
    images[7] = 255
    labels = {s: pack.split_samples(s)["labels"].tolist() for s in ("train", "test")}
    write_arrays(workspace, "several", {"train": pack.array("train").copy(), "test": images}, RGB8, labels=labels)
    with pytest.raises(RsfmError, match=r"for 1 of \d+ images of 'test' .*'test-000007'"):
        evaluate(workspace, MODEL, "several", **QUICK, adaptations=["finetune"])


def test_the_dry_run_sees_it(workspace: Workspace, white_breaks_it: list[float]) -> None:
    fields(workspace, white=0)
    said = r"for 1 of 1 images of 'test' in pack 'fields' \(4×\), the first of them 'test-000000'"
    with pytest.raises(RsfmError, match=said):
        dry_run(request(workspace, MODEL, "fields", **QUICK, adaptations=["linear"]), workspace)


@pytest.mark.parametrize("select", ["last", "best"])
def test_a_head_that_diverged_in_its_last_step(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, select: str
) -> None:
    """No loss tells of it any more; a validation does."""
    segmentation_pack(workspace) if select == "last" else fields(workspace, white=0)
    fit_network = module.fit_network

    def diverging(network: TaskNetwork, *rest: Any, **more: Any) -> TaskNetwork:
        reports = more["reports"]
        real = reports.score

        def score(network: TaskNetwork) -> float:
            network.decoder.head.bias.data.fill_(math.nan)
            return real(network)

        reports.score = score
        fitted = fit_network(network, *rest, **more)
        fitted.decoder.head.bias.data.fill_(math.nan)
        return fitted

    monkeypatch.setattr(module, "fit_network", diverging)
    split = "test" if select == "last" else "val"
    with pytest.raises(RsfmError, match=f"The trained head .* images of '{split}' .* lower fit.lr"):
        evaluate(workspace, MODEL, "fields", **{**QUICK, "fit": {**QUICK["fit"], "select": select}},
                 adaptations=["linear"])  # fmt: skip
