"""Links that ask for what is not there: every page shows something else, says so, and says what."""

from __future__ import annotations

import re

import pytest
from flipped import make_flipped
from lab import embed, make_lab
from shown import MARKUP, Open, in_url
from streamlit.testing.v1 import AppTest

from rsfm.packs import Pack
from rsfm.registry import METHODS
from rsfm.store.view import Store
from rsfm.workspace import Workspace

PACK = "synthetic-landsat7"
#: Page -> name in the URL -> label, and what is shown instead, if anything is.
CHOICES: dict[str, dict[str, tuple[str, str]]] = {
    "degradation": {
        "metric": ("Metric", "Accuracy"), "operator": ("Degradation", "Coarser by bilinear resampling"),
        "axis": ("Horizontal axis", "Effective GSD"), "value": ("Show", "Score"), "intervals": ("Intervals", "Bands"),
        "picture": ("Save charts as", "SVG"), "tiers": ("Tiers at", ""), "curve": ("Curve", ""),
    },
    "leaderboard": {
        "metric": ("Metric", "Accuracy"), "operator": ("Degradation", "Coarser by bilinear resampling"),
        "adaptation_classification": ("Adaptation", "kNN"), "band": ("Severities", "All severities"),
        "scale": ("Mean of", "Normalised"),
    },
    "runs": {"view": ("View", ":material/list: Runs"), "kind": ("Kind", ""), "sort": ("Order", "Newest first")},
    "run": {"tab": ("View", "Curves"), "x": ("Against", "Samples seen"), "smooth": ("Smoothing", "1")},
    "launch": {
        "job": ("Job", ":material/model_training: Pretrain"), "method": ("Method", "Masked autoencoder (MAE)"),
        "preset": ("Preset", "CPU (minutes on two cores)"), "pack": ("Pack", "landsat7-sample · 60 samples · 30 m"),
    },
    "datasets": {
        "view": ("View", "Packs"), "pack": ("Pack", "landsat7-sample · 60 samples"), "split": ("Split", "All splits"),
        "look": ("Bands shown", "Natural colour"), "tab": ("Show", "Samples"),
    },
    "models": {"tab": ("View", "Lineage")},
    "embeddings": {
        "map": ("Map", f"{PACK} · Band statistics · as they are"), "beside": ("Beside it", "Nothing"),
        "color": ("Colour", "Label"), "layout": ("Layout", "UMAP"),
    },
}  # fmt: skip


def said(label: str, instead: str = "", asked: str = "gone") -> str:
    shown = f"; showing {instead} instead" if instead else ""
    return f"{label}: the address asks for {asked}, which cannot be chosen here{shown}."


def notices(test: AppTest) -> list[str]:
    assert not test.exception and not test.error
    return [w.value.replace("\\", "") for w in test.warning]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = make_lab(tmp_path_factory.mktemp("links") / "workspace")
    embed(workspace, Pack.named(workspace, PACK).info, model="band-stats", title="Band statistics", severities=(1.0,))
    return workspace


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return make_flipped(tmp_path_factory.mktemp("pairs") / "w")


@pytest.mark.parametrize("page", CHOICES)
def test_every_single_choice_says_what_is_not_there(open_page: Open, world: Workspace, page: str) -> None:
    run_id = str(Store(world).runs(kind="pretrain", states=("succeeded",))["run_id"].iloc[0])
    test = open_page(world, page, **dict.fromkeys(CHOICES[page], "gone"), **({"run": run_id} if page == "run" else {}))
    # The end of a run's id is another one in every lab.
    found = sorted(re.sub(r" · …\w{4}", "", text) for text in notices(test))
    assert found == sorted(said(*choice) for choice in CHOICES[page].values())


def test_choices_that_are_not_always_there(open_page: Open, pairs: Workspace, world: Workspace) -> None:
    test = open_page(pairs, "degradation", packs="villages", target="gone", value="difference", baseline="gone")
    target, baseline = notices(test)
    assert target == said("Degraded image", "Later image")
    assert baseline.startswith("Baseline: the address asks for gone") and "showing" in baseline
    chosen = in_url(open_page(pairs, "degradation", packs="villages", value="difference"), "baseline")
    assert in_url(test, "baseline") == chosen and in_url(test, "target") == ["post"]
    board = open_page(pairs, "leaderboard", adaptation_change="gone")  # by one adaptation only
    assert notices(board) == [said("Adaptation: Change detection", "Frozen encoder + decoder")]
    assert in_url(board, "adaptation_change") == ["decoder"] and notices(board.run())
    sample = open_page(world, "datasets", pack=PACK, sample="train:999999")
    assert notices(sample) == ["Sample: the address asks for train:999999, which is not in this pack."]
    overlay = [str(r) for r in Store(world).runs(kind="pretrain")["run_id"][:2]]
    assert notices(open_page(world, "runs", overlay=overlay, show="gone")) == [said("Show", "Curves")]


@pytest.mark.parametrize(("name", "label"), [("metric", "Metric"), ("axis", "Horizontal axis")])
def test_a_notice_stays_until_the_next_choice(open_page: Open, world: Workspace, name: str, label: str) -> None:
    """One of them is taken out of the address at once, the other is not."""
    test = open_page(world, "degradation", **{name: "gone"})
    first = notices(test)
    assert len(first) == 1 and first[0].startswith(said(label)[:-1]) and notices(test.run()) == first
    test.segmented_control(key="url.intervals").set_value("bars").run()
    assert not notices(test) and in_url(test, "intervals") == ["bars"] and not notices(test.run())
    test.query_params[name] = "lost"
    assert len(notices(test.run())) == 1, "another link"
    test.query_params[name] = "gone"
    assert notices(test.run()) == first, "the first one once more"
    test.switch_page("app_pages/leaderboard.py").run()
    assert not notices(test), "of another page"


def test_a_choice_that_goes_with_another_is_said_too(open_page: Open, world: Workspace) -> None:
    test = open_page(world, "launch", method="ibot", preset="millionaid")
    assert not notices(test)
    test.selectbox(key="url.method").set_value("mae").run()
    assert notices(test) == [said("Preset", METHODS["mae"].presets["cpu"].title, asked="millionaid")]
    assert in_url(test, "preset") == ["cpu"]


def test_what_an_address_asks_for_is_only_text(open_page: Open, world: Workspace) -> None:
    asked = "![i](http://evil.example/i.png) **b** :material/home: <img src=x>"
    for name in ("metric", "intervals"):
        (warning,) = open_page(world, "degradation", **{name: asked}).warning
        assert not MARKUP.search(warning.value) and "**b**" not in warning.value and "\u2060" in warning.value
    (warning,) = open_page(world, "degradation", metric="x" * 5000).warning
    assert len(warning.value) < 300
