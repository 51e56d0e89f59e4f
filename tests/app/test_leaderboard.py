"""The page Leaderboard without a browser."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from comparison_world import curve, evaluated
from flipped import make_flipped
from lab import HOSTILE, compare_rows, make_benchmark
from lab_packs import make_pack
from shown import MARKUP, columns, in_url, labels, texts
from streamlit.testing.v1 import AppTest

from app.components.board import board_csv, board_figure, board_table, column_titles, tier_letter
from rsfm.comparison.board import board, columns_of
from rsfm.comparison.floors import why_not_rescaled
from rsfm.packs import Pack
from rsfm.workspace import Workspace

Open = Callable[..., AppTest]
SHARES = {1.0: 0.9, 2.0: 0.85, 4.0: 0.7, 8.0: 0.5}


def add_pack(workspace: Workspace, name: str, models: dict[str, float], title: str = "") -> None:
    """Results of some models on one more pack: model -> how much better it is than `SHARES`."""
    info = make_pack(workspace, name)
    samples, rng = Pack.named(workspace, name).split_samples("test"), np.random.default_rng(0)
    truth = samples["label_index"].to_numpy(int)
    for group, better in models.items():
        counts = curve(rng, len(truth), {s: share + better for s, share in SHARES.items()}, seeds=2)
        evaluated(
            workspace, group, counts, ids=samples["id"].to_numpy(), labels=truth, dataset=name,
            pack_hash=info.content_hash, title=title or group.title(), bands="B1",
        )  # fmt: skip


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Scenes, fields and roofs; not every model was measured on each. Pairs of villages and of levir."""
    workspace = make_flipped(tmp_path_factory.mktemp("several") / "w")
    make_benchmark(workspace.root)
    add_pack(workspace, "fields", {"mae": 0.0, "random:vit-nano": -0.2, "band-stats": -0.5})
    add_pack(workspace, "roofs", {"mae": 0.0, "random:vit-nano": -0.3})
    return workspace


def board_of(test: AppTest) -> pd.DataFrame:
    return test.dataframe[0].value.set_index("model")


def test_models_are_ranked_on_the_packs_that_they_share(open_page: Open, several: Workspace) -> None:
    test = open_page(several, "leaderboard", task="classification")
    assert not test.exception
    assert sorted(in_url(test, "packs")) == ["fields", "roofs", "scenes"], "a default that depends on data is written"
    frame = board_of(test)
    assert frame.index.tolist()[-1] == "Band-Stats" and frame["coverage"].tolist() == ["3 of 3", "3 of 3", "1 of 3"]
    assert frame["mean"].isna().tolist() == [False, False, True]
    assert frame.loc["Band-Stats", "lacks"] == "roofs, scenes" or frame.loc["Band-Stats", "lacks"] == "scenes, roofs"
    assert "means over different packs are not compared" in texts(test) and "Synthetic data: scenes" in texts(test)
    one = open_page(several, "leaderboard", task="classification", packs="fields")
    assert not one.exception and board_of(one)["mean"].notna().all() and len(board_of(one)) == 3
    assert "Not counted, with the number of their models" in texts(one) and "lacks" not in columns(one)
    # Normalised by the best constant prediction, or as it is.
    raw = open_page(several, "leaderboard", task="classification", packs="fields", scale="scores")
    score, normalised = board_of(raw)["mean"], board_of(one)["mean"]
    assert score.tolist() == pytest.approx(board_of(raw)["0"].tolist())
    floor = max(Pack.named(several, "fields").split_samples("test")["label"].value_counts()) / 20
    assert normalised.tolist() == pytest.approx(((score - floor) / (1 - floor)).tolist())


def test_severities_are_a_choice(open_page: Open, several: Workspace) -> None:
    found = {
        band: board_of(
            open_page(several, "leaderboard", task="classification", packs="fields", band=band, scale="scores")
        )
        for band in ("native", "mean", "strongest")
    }
    means = [frame.loc["Mae", "mean"] for frame in found.values()]
    assert means[0] > means[1] > means[2]


def test_tasks_are_mixed_with_one_adaptation_each(open_page: Open, several: Workspace) -> None:
    test = open_page(several, "leaderboard")
    assert not test.exception and "Metric" not in labels(test)
    assert "Adaptation: Change detection" in labels(test)
    assert in_url(test, "adaptation_change") == ["finetune (dstnsp-change)"]
    pairs = open_page(several, "leaderboard", task="change", adaptation_change="decoder")
    assert not pairs.exception and in_url(pairs, "packs") == ["villages"] and "Metric" in labels(pairs)
    both = open_page(several, "leaderboard", adaptation_change="decoder", packs=["scenes", "villages"])
    frame = board_of(both)
    assert not both.exception and frame["mean"].notna().sum() == 1
    # The two models of the pack of scenes are named alike: by their groups.
    assert frame["coverage"].tolist()[0] == "2 of 2"


def test_published_numbers_stand_apart(open_page: Open, several: Workspace) -> None:
    query = {"task": "change", "packs": "levir", "adaptation_change": "finetune (dstnsp-change)"}
    test = open_page(several, "leaderboard", **query)
    assert "Authors' numbers" in labels(test) and "source" not in columns(test)
    ours = len(board_of(test))
    test = open_page(several, "leaderboard", **query, authors="True", tiers="True")
    frame = board_of(test)
    published = [bool(len(s)) for s in frame["source"]]
    assert not test.exception and published == [False] * ours + [True] * (len(frame) - ours) and any(published)
    assert frame["mean"].notna().all() and frame["mean"].max() == frame["mean"].iloc[ours:].max()
    assert set(frame["tier"].iloc[ours:]) == {""} and frame["tier"].iloc[0] == "A"
    assert "They take no part in order, tiers or tests" in texts(test)


def test_tiers_are_found_when_asked(open_page: Open, several: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    from app.panels import board_view

    asked: list[int] = []
    real = board_view.with_tiers
    monkeypatch.setattr(board_view, "with_tiers", lambda *a, **k: asked.append(1) or real(*a, **k))
    test = open_page(several, "leaderboard", task="classification", packs=["fields", "roofs"])
    assert not asked and "tier" not in columns(test) and "Without an interval" not in texts(test)
    test.toggle(key="url.tiers").set_value(True).run()
    assert not test.exception and asked == [1] and "tier" in columns(test)
    assert board_of(test)["tier"].tolist()[0] == "A" and board_of(test).loc["Band-Stats", "tier"] == ""
    assert "corrected for the number of models" in texts(test)
    test.run()
    assert asked == [1], "kept until there are new results"
    # Several models of one recipe on scenes, one of them on the other packs.
    uneven = open_page(several, "leaderboard", task="classification", packs=["fields", "scenes"], tiers="True")
    assert not uneven.exception and board_of(uneven).loc["Mae", ["tier", "interval"]].tolist() == ["", ""]
    assert "Without an interval: Mae" in texts(uneven) and "Mae: fewer than two of its model seeds" in texts(uneven)


def test_two_models_are_tested_on_what_the_board_shows(open_page: Open, several: Workspace) -> None:
    test = open_page(
        several, "leaderboard", task="classification", packs="fields", band="native", pair=["mae", "random:vit-nano"]
    )
    assert not test.exception
    assert test.dataframe[1].value["level"].tolist() == ["1×"] and set(test.dataframe[1].value["pack"]) == {"fields"}


def test_findings_stand_beside_their_models(open_page: Open, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "w")
    for folder in (workspace.runs, workspace.packs, workspace.models):
        folder.mkdir(parents=True)
    add_pack(workspace, "fields", {"band-stats": 0.0, "mae": -0.4})
    test = open_page(workspace, "leaderboard")
    assert board_of(test)["findings"].fillna(0).to_dict()["Mae"] > 0
    assert "below the band statistics" in texts(test)


def test_empty_states(open_page: Open, workspace: Workspace, several: Workspace) -> None:
    workspace.root.mkdir()
    test = open_page(workspace, "leaderboard")
    assert not test.exception and "No results yet" in texts(test)
    odd = open_page(several, "leaderboard", task="nosuch", packs="nosuch", band="x", scale="y", operator="z")
    assert not odd.exception and len(board_of(odd))
    blurred = open_page(several, "leaderboard", task="change", operator="blur", band="strongest")
    assert not blurred.exception and len(board_of(blurred)) == 1
    mixed = open_page(several, "leaderboard", packs=["levir", "scenes"], adaptation_change="finetune (dstnsp-change)")
    assert not mixed.exception and "Mean over 2 packs" in texts(mixed) and board_of(mixed)["mean"].notna().any()


def test_a_board_without_tests_says_so(open_page: Open, tmp_path: Path) -> None:
    """Nothing is known of this degradation, so nobody knows at which severity images are as they are."""
    workspace = Workspace(tmp_path / "w")
    workspace.runs.mkdir(parents=True)
    evaluated(workspace, "a", curve(np.random.default_rng(0), 30, {1.0: 0.8}), operator="of-old")
    test = open_page(workspace, "leaderboard", band="native")
    assert not test.exception and "Nothing to compare" in texts(test) and not test.dataframe


def test_an_address_names_the_adaptation_though_there_is_only_one(open_page: Open, several: Workspace) -> None:
    test = open_page(several, "leaderboard", task="classification", packs=["fields", "gone"])
    assert not test.exception and "asks for gone, which cannot be chosen here" in texts(test)
    assert in_url(test, "adaptation_classification") == ["knn"], "others may come"


def test_an_unknown_floor_is_said(open_page: Open, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "w")
    workspace.runs.mkdir(parents=True)
    rng = np.random.default_rng(0)
    evaluated(workspace, "a", curve(rng, 30, {1.0: 0.8}))
    test = open_page(workspace, "leaderboard")
    assert not test.exception and "is not known" in texts(test) and board_of(test)["mean"].isna().all()
    assert board_of(open_page(workspace, "leaderboard", scale="scores"))["mean"].notna().all()


def test_hostile_names_stay_text(open_page: Open, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "w")
    for folder in (workspace.runs, workspace.packs, workspace.models):
        folder.mkdir(parents=True)
    add_pack(workspace, "fields", {"a<b>": 0.0, "[b](http://x)": -0.3}, title=f"Model {HOSTILE}")
    test = open_page(workspace, "leaderboard", tiers="True", pair=["a<b>", "[b](http://x)"])
    assert not test.exception and not test.error
    for kind in ("markdown", "caption", "subheader", "info", "warning"):
        for element in test.get(kind):
            body = str(element.value)
            assert not MARKUP.search(body) and "\u202e" not in body, body
    spec = test.get("plotly_chart")[0].proto.spec
    assert "<img" not in spec and "</script" not in spec and "&lt;img" in spec


@pytest.mark.parametrize(
    ("metric", "words"),
    [("recall", "a constant prediction has a perfect score"), ("mean_ap", "no constant prediction has a score")],
)
def test_why_there_is_no_normalised_mean(open_page: Open, tmp_path: Path, metric: str, words: str) -> None:
    workspace = Workspace(tmp_path / "w")
    workspace.runs.mkdir(parents=True)
    counts = np.tile([[30.0, 10, 20, 40]], (10, 1))
    evaluated(workspace, "a", {("decoder", 1.0, 0): counts}, metric="recall", task="change", degrade_target="post")
    rows = compare_rows({"a": [0.5]}, task="change", metric=metric, severities=(1.0,))
    (column,) = columns_of(rows, "native")
    assert words in str(why_not_rescaled(replace(column, floor=1.0 if metric == "recall" else math.nan)))
    if metric == "recall":
        test = open_page(workspace, "leaderboard")
        assert words in texts(test) and "is not known" not in texts(test)


# -- parts --------------------------------------------------------------------------------------------------------
def test_columns_of_one_pack_are_told_apart() -> None:
    rows = pd.concat(
        [compare_rows({"a": [0.9]}, split=split, metric=metric, severities=(1.0,), task="change", dataset=dataset)
         for dataset, split, metric in (("p", "test", "f1"), ("p", "val", "f1"), ("q", "test", "f1"))]
    )  # fmt: skip
    found = columns_of(rows, "native")
    assert sorted(column_titles(found)) == ["p · test", "p · val", "q"]


def test_a_columns_title_is_no_markdown(open_page: Open, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "w")
    for folder in (workspace.runs, workspace.packs, workspace.models):
        folder.mkdir(parents=True)
    add_pack(workspace, "green-fields", {"mae": 0.0})
    test = open_page(workspace, "leaderboard")
    assert json.loads(test.dataframe[0].proto.columns)["0"]["label"] == "green-fields"


def test_the_file_has_a_line_per_model_and_pack() -> None:
    rows = pd.concat([compare_rows({"a": [0.9], "b": [0.5]}, dataset=d, severities=(1.0,)) for d in ("p", "q")])
    rows = rows[~((rows["model_group"] == "b") & (rows["dataset"] == "q"))]
    found = columns_of(rows, "native")
    made = board(rows, found, normalised=False)
    frame = pd.read_csv(io.StringIO(board_csv(made, found, normalised=False)))
    assert len(frame) == 4 and frame["value"].isna().sum() == 1
    assert frame.groupby("model_group")["score"].first().isna().to_dict() == {"a": False, "b": True}
    assert frame.groupby("model_group")["measured"].first().to_dict() == {"a": 2, "b": 1}
    figure = board_figure(made, {}, "x")
    assert list(figure.layout.yaxis.ticktext) == ["Model a"], "what has no number is not drawn"
    assert (tier_letter(1), tier_letter(27), tier_letter(None)) == ("A", "27", "")


def test_thousands_of_scores_are_one_board() -> None:
    groups = {f"m{i}": [0.9, 0.8, 0.6, 0.3] for i in range(60)}
    rows = pd.concat([compare_rows(groups, dataset=f"p{k}") for k in range(20)], ignore_index=True)
    found = columns_of(rows, "mean")
    made = board(rows, found, normalised=False)
    table = board_table(made, found, [0] * len(made))
    assert len(table) == 60 and table["mean"].notna().all()
