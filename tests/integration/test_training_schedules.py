"""What schedules, clipping and freezing do to a training's steps; and a training that collapses says so."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from training_world import attempt, current_rows, make_world, spec_of, start

from rsfm.train import module as training
from rsfm.workspace import Workspace

torch.set_num_threads(1)

CLIP = 1e-3


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What each step of the optimiser was made with, and what it left."""
    seen: list[dict[str, Any]] = []
    build = training.build_optimizer

    def look(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        parameters = [p for g in optimizer.param_groups for p in g["params"]]
        seen.append(
            {
                "lr": [g["lr"] for g in optimizer.param_groups],
                "decay": [(g["decay"], g["weight_decay"]) for g in optimizer.param_groups],
                "norms": [p.grad.norm().item() for p in parameters if p.grad is not None],
                "left": {id(p): p.detach().clone() for p in parameters},
            }
        )

    def build_and_look(*arguments: Any) -> torch.optim.Optimizer:
        optimizer = build(*arguments)
        optimizer.register_step_post_hook(look)
        return optimizer

    monkeypatch.setattr(training, "build_optimizer", build_and_look)
    return seen


def test_schedules_clipping_and_freezing_reach_the_optimiser(workspace: Workspace, steps: list[dict]) -> None:
    """Ten steps of eight samples: two of warm-up, and three in which the last layer is frozen."""
    make_world(workspace)
    spec = spec_of(
        "dino", "base_lr=0.032", "min_lr=0.0001", "weight_decay=0.04", "weight_decay_end=0.4", f"grad_clip={CLIP}",
        "clip_norm=tensor", "freeze_prototypes_samples=24",
    )  # fmt: skip
    run = start(workspace, spec)
    attempt(workspace, run)
    assert len(steps) == 10
    peak = 0.032 * 8 / 256
    falling = [0.0001 + (peak - 0.0001) * 0.5 * (1 + math.cos(math.pi * k / 8)) for k in range(8)]
    rows = current_rows(run)
    for number, (step, rate) in enumerate(zip(steps, [0.0, peak, *falling], strict=True)):
        decay = 0.4 - 0.36 * 0.5 * (1 + math.cos(math.pi * number / 10))
        assert step["lr"] == pytest.approx([rate] * len(step["lr"]))
        assert [found for with_decay, found in step["decay"] if with_decay] == pytest.approx([decay])
        assert [found for with_decay, found in step["decay"] if not with_decay] == [0.0]
        assert (rows[number + 1]["lr"], rows[number + 1]["weight_decay"]) == pytest.approx((rate, decay))
        # Each tensor by its own norm: many are at the bound; by a common norm, no two could be.
        assert max(step["norms"]) < CLIP * 1.01
        assert sum(norm > 0.99 * CLIP for norm in step["norms"]) > 5
    counts = [len(step["norms"]) for step in steps]
    assert len(set(counts[:3])) == len(set(counts[3:])) == 1 and counts[0] < counts[3]
    frozen = [key for key, value in steps[0]["left"].items() if torch.equal(value, steps[2]["left"][key])]
    assert len(frozen) == counts[3] - counts[0]
    assert all(not torch.equal(steps[2]["left"][key], steps[3]["left"][key]) for key in frozen)


@pytest.mark.parametrize(
    ("settings", "alarm", "title"),
    [
        (["teacher_temperature_start=50", "teacher_temperature=50"], "uniform-collapse", "Uniform collapse"),
        (["patch_temperature_start=50", "patch_temperature=50"], "uniform-patches", "Uniform collapse of the patches"),
    ],
)
def test_a_training_that_collapses_says_how(
    workspace: Workspace, capsys: pytest.CaptureFixture[str], settings: list[str], alarm: str, title: str
) -> None:
    make_world(workspace)
    run = start(workspace, spec_of("ibot", *settings))
    attempt(workspace, run)
    rows = current_rows(run)
    assert [rows[step].get(f"alarm/{alarm}") for step in (0, 4, 8, 10)] == [None, 1.0, 1.0, 1.0]
    assert capsys.readouterr().out.count(f"Alarm at step 4: {title}. ") == 1
