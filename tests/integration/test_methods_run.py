"""What every method must stand besides training: being compiled, steps and networks that are not finite, few images."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from training_world import attempt, current_rows, make_world, spec_of, start, weights, what_it_builds_on

from rsfm.data.seeding import step_generator
from rsfm.methods.base import Progress
from rsfm.registry import METHODS
from rsfm.train.module import PretrainModule
from rsfm.train.previews import draw_panel
from rsfm.train.setup import set_up

torch.set_num_threads(1)


@pytest.fixture
def graphs():
    """How many graphs were traced since it was asked last; then all are forgotten."""

    def traced() -> int:
        count = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        torch._dynamo.reset()  # which leaves the counters
        torch._dynamo.utils.counters.clear()
        return count

    traced()
    yield traced
    traced()


@pytest.mark.parametrize("method", METHODS)
def test_compiled_is_the_same_training(method, workspace, monkeypatch, graphs):
    """Traced graphs without the generation of code, which takes minutes: the same values to the last bit."""
    make_world(workspace)
    settings = ["samples=24", *what_it_builds_on(method, workspace)]
    plain = start(workspace, spec_of(method, *settings))
    attempt(workspace, plain)
    compiled = []

    def traced(loss, **options):
        compiled.append(loss)
        return real(loss, **options)

    real = partial(torch.compile, backend="eager")
    monkeypatch.setattr(torch, "compile", traced)
    other = start(workspace, spec_of(method, "runtime.compile=true", *settings))
    attempt(workspace, other)
    assert len(compiled) == 1 and graphs() > 0
    assert len(current_rows(plain)) == 4
    assert repr(current_rows(other)) == repr(current_rows(plain))
    assert weights(workspace, other) == weights(workspace, plain)


def test_the_passes_of_a_step_share_what_is_compiled(workspace, monkeypatch, graphs):
    make_world(workspace)
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    traced = []
    for accumulate in (1, 4):
        settings = ["runtime.compile=true", "samples=64", "batch_size=32", f"accumulate={accumulate}"]
        attempt(workspace, start(workspace, spec_of("dino", *settings)))
        traced.append(graphs())
    assert traced[0] == traced[1] > 0


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("method", METHODS)
def test_a_step_that_is_not_finite_leaves_everything_as_it_was(method, accumulate, workspace, monkeypatch):
    """Running statistics of BatchNorm, which a forward pass moves, queues, averages and centres too."""
    make_world(workspace)
    settings = ["samples=24", "checkpoint_every_steps=1", f"accumulate={accumulate}"]
    settings += what_it_builds_on(method, workspace)
    passes, loss = 0, PretrainModule._scalars

    def bad_at_last(module, views):
        nonlocal passes
        passes += 1
        if passes == 3 * accumulate:
            views = {k: torch.full_like(v, torch.inf) if v.ndim > 3 and v.is_floating_point() else v
                     for k, v in views.items()}  # fmt: skip
        return loss(module, views)

    monkeypatch.setattr(PretrainModule, "_scalars", bad_at_last)
    run = start(workspace, spec_of(method, *settings))
    attempt(workspace, run)
    assert current_rows(run)[3]["skipped_steps"] == 1
    before, after = (
        torch.load(run.path / f"checkpoints/step-{step:08d}.ckpt", weights_only=True)["state_dict"] for step in (2, 3)
    )
    assert before.keys() == after.keys()
    moved = [
        name for name, was in before.items()
        if not (torch.equal(was, after[name]) if isinstance(was, torch.Tensor) else repr(was) == repr(after[name]))
    ]  # fmt: skip
    assert moved == []
    assert weights(workspace, run)  # exported


@pytest.mark.parametrize(("method", "settings", "said"), [
    ("moco_v2", ["queue_size=40"], True), ("moco_v2", ["queue_size=32"], False),
    ("simclr", ["batch_size=40"], True), ("simclr", ["batch_size=40", "accumulate=2"], False),
    ("moco_v3", ["batch_size=40"], True), ("mae_contrastive", ["batch_size=40"], True),
    ("mae_contrastive", ["batch_size=40", "contrastive_weight=0"], False), ("mae", ["batch_size=40"], False),
])  # fmt: skip
def test_more_strangers_than_images_are_remarked_on(method, settings, said, workspace):
    """The small world has 37 images."""
    make_world(workspace)
    remarks = set_up(spec_of(method, *settings), workspace).method.remarks
    assert any("there are 37 images" in remark for remark in remarks) == said


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("method", METHODS)
def test_previews_of_a_broken_network_can_be_drawn(method, workspace):
    """A run whose weights have gone must live to say so."""
    make_world(workspace)
    spec = spec_of(method, *what_it_builds_on(method, workspace))
    setup = set_up(spec, workspace)
    module = PretrainModule(spec, setup.method, setup.sources)
    index = np.arange(4)
    stored = {name: source[index] for name, source in setup.sources.items()}
    batch = module.standardise({**stored, "index": torch.from_numpy(index)})
    with torch.no_grad():
        views = setup.method.views(batch, step_generator(torch.device("cpu"), 0, 0), Progress(0, 10, 0))
        for broken in (float("nan"), float("inf"), 1e30):
            for parameter in setup.method.parameters():
                parameter.fill_(broken)
            bands = next(iter(setup.sources.values())).input.bands
            for panel in [setup.method.views_panel(batch, views), *setup.method.previews(views)]:
                if panel is not None:
                    assert draw_panel(panel, bands).size[0] > 0
