"""What every method must stand besides training: being compiled, and previews of a network that has broken."""

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


@pytest.mark.parametrize("method", METHODS)
def test_compiled_is_the_same_training(method, workspace, monkeypatch):
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
    torch._dynamo.reset()
    other = start(workspace, spec_of(method, "runtime.compile=true", *settings))
    attempt(workspace, other)
    assert len(compiled) == 1 and torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    torch._dynamo.reset()
    assert len(current_rows(plain)) == 4
    assert repr(current_rows(other)) == repr(current_rows(plain))
    assert weights(workspace, other) == weights(workspace, plain)


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
