"""The page Runs, and what people say of runs there and on the page Run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from lab import HOSTILE, history, make_lab
from shown import run_of, texts
from streamlit.testing.v1 import AppTest

from app.components.spec_diff import differences
from rsfm.specs import pretrain_spec
from rsfm.store.about import edit_about, read_about
from rsfm.store.files import write_json
from rsfm.store.runs import create_run, list_runs
from rsfm.workspace import Workspace

Open = Callable[..., AppTest]


def test_runs_restores_filters_and_overlay_from_the_url(open_page: Open, lab: Workspace) -> None:
    chosen = [
        r.id for r in list_runs(lab) if r.envelope()["kind"] == "pretrain" and r.state() in ("succeeded", "running")
    ]
    test = open_page(lab, "runs", kind="pretrain", state=["succeeded", "running"], overlay=chosen, x="step")
    assert set(test.dataframe[0].value["run"]) == set(chosen)
    assert len(test.get("plotly_chart")) == 1
    assert test.query_params["metric"] == "loss"


def test_runs_search_without_a_hit(open_page: Open, lab: Workspace) -> None:
    assert "No run fits" in texts(open_page(lab, "runs", q="zzz-no-such-run"))


def test_runs_beyond_the_last_page_show_the_first(open_page: Open, lab: Workspace) -> None:
    test = open_page(lab, "runs", page="2", kind="prepare")
    assert not test.exception and len(test.dataframe[0].value) == 1
    for bad in ("0", "-1", "x", "99999999999"):
        assert len(open_page(lab, "runs", page=bad).dataframe[0].value) == len(list_runs(lab))


def test_a_filtered_list_has_its_own_pages(open_page: Open, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "w")
    workspace.runs.mkdir(parents=True)
    for i in range(201):
        create_run(workspace, pretrain_spec("mae", "p", "smoke", seed=i), tags=["odd" if i == 7 else "even"])
    assert len(open_page(workspace, "runs").dataframe[0].value) == 200
    test = open_page(workspace, "runs", page="2")
    assert len(test.dataframe[0].value) == 1 and "201 to 201 shown" in texts(test)
    test = open_page(workspace, "runs", page="2", q="odd")
    assert len(test.dataframe[0].value) == 1 and "page" not in test.query_params


def test_columns_with_nothing_to_say_are_left_out(open_page: Open, lab: Workspace) -> None:
    prepared = open_page(lab, "runs", kind="prepare").dataframe[0].proto
    trained = open_page(lab, "runs", kind="pretrain").dataframe[0].proto
    assert "loss" not in prepared.column_order and "tags" in prepared.column_order
    assert {"loss", "knn", "alarms"} <= set(trained.column_order)


# -- groups, columns, order ---------------------------------------------------------------------------------------
@pytest.fixture
def seeds(tmp_path: Path) -> Workspace:
    """Three seeds of one request, one of them failed and queued again, and another request."""
    workspace = Workspace(tmp_path / "w")
    workspace.runs.mkdir(parents=True)
    for seed, state in ((0, "succeeded"), (1, "succeeded"), (2, "failed"), (2, "running")):
        history(create_run(workspace, pretrain_spec("mae", "p", "smoke", seed=seed), tags=[f"s{seed}"]), state, 9, 1)
    history(create_run(workspace, pretrain_spec("mae", "p", "smoke", ["mask_ratio=0.5"])), "succeeded", 5, 1)
    return workspace


def test_groups_fold_seeds_and_open_to_their_runs(open_page: Open, seeds: Workspace) -> None:
    test = open_page(seeds, "runs", view="groups")
    assert not test.exception
    table = test.dataframe[0].value.set_index("runs")
    assert table.loc[4, "seeds"] == "2 model seeds" and table.loc[4, "unfinished"] == "1 failed, 1 going"
    assert "mask_ratio=0.75" in table.loc[4, "what"] and "mask_ratio=0.5" in table.loc[1, "what"]
    assert len(test.dataframe) == 1
    test = open_page(seeds, "runs", view="groups", group=[table.loc[4, "group"]], state=["failed", "running"])
    inside = test.dataframe[1].value
    assert set(inside["tags"].map(lambda t: t[0])) == {"s2"} and len(inside) == 2


def test_columns_of_groups_are_those_of_the_url(open_page: Open, seeds: Workspace) -> None:
    test = open_page(seeds, "runs", view="groups", group_columns=["created", "runs", "state"], columns=["seed"])
    assert list(test.dataframe[0].proto.column_order) == ["what", "created", "runs"]
    assert "Columns of their runs" not in [m.label for m in test.multiselect]
    group = test.dataframe[0].value["group"][0]
    test = open_page(seeds, "runs", view="groups", group=[group, group], columns=["seed"])
    assert "score" not in test.dataframe[0].proto.column_order, "nothing to say"
    assert list(test.dataframe[1].proto.column_order) == ["open", "what", "seed"]
    assert {"Columns", "Columns of their runs"} <= {m.label for m in test.multiselect}


def test_runs_of_a_large_group_are_cut_with_a_word(
    open_page: Open, seeds: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = run_of(seeds, seed=1).envelope()["group"]
    for size, words in ((4, False), (3, True)):
        monkeypatch.setattr("app.panels.run_list.PAGE_SIZE", size)
        test = open_page(seeds, "runs", view="groups", group=group)
        assert len(test.dataframe[1].value) == size and ("Only the first 3" in texts(test)) is words


def test_columns_and_order_are_those_of_the_url(open_page: Open, seeds: Workspace) -> None:
    test = open_page(seeds, "runs", columns=["seed", "group"], sort="oldest")
    assert list(test.dataframe[0].proto.column_order) == ["open", "what", "seed", "group"]
    ids = [r.id for r in list_runs(seeds)]
    assert sorted(test.dataframe[0].value["run"]) == ids
    created = test.dataframe[0].value["created"].tolist()
    assert created == sorted(created)
    test = open_page(seeds, "runs", columns=["no such column"], sort="no such order")
    assert "state" in test.dataframe[0].proto.column_order and not test.exception


def test_a_filter_that_nothing_fits_is_not_dropped(open_page: Open, seeds: Workspace) -> None:
    for name in ("tag", "pack", "method"):
        assert "No run fits" in texts(open_page(seeds, "runs", **{name: "gone"})), name
    assert len(open_page(seeds, "runs", tag="s2").dataframe[0].value) == 2
    assert "No run fits" in texts(open_page(seeds, "runs", tag=["s1", "s2"])), "of several tags all must fit"


# -- differences --------------------------------------------------------------------------------------------------
def test_the_difference_of_two_runs_is_what_differs(open_page: Open, seeds: Workspace) -> None:
    runs = [r for r in list_runs(seeds) if r.envelope()["spec"]["seed"] == 0]
    data = runs[0].envelope()
    write_json(runs[0].path / "spec.json", data | {"versions": data["versions"] | {"torch": "1.0"}, "host": "old"})
    test = open_page(seeds, "runs", overlay=[r.id for r in runs], show="Difference")
    table = next(d.value for d in test.dataframe if "name" in d.value).set_index("name")
    assert next(iter(table.index)) == "method_params.mask_ratio"
    assert {"versions.torch"} <= set(table.index) and "optim.samples" not in table.index
    assert dict(table.loc["method_params.mask_ratio"]) == {
        r.id: str(r.envelope()["spec"]["method_params"]["mask_ratio"]) for r in runs
    }
    assert "Tick a second run" in texts(open_page(seeds, "runs", overlay=runs[0].id, show="Difference"))
    same = [r.id for r in list_runs(seeds) if r.envelope()["spec"]["seed"] == 2]
    assert "The same request" in texts(open_page(seeds, "runs", overlay=same, show="Difference"))


def test_values_are_compared_as_they_are() -> None:
    specs = [
        {"a": 1, "b": {"c": [1, 2]}, "d": "", "e": True, "f": {}},
        {"a": 1.0, "b": {"c": [2, 1]}, "d": None, "e": 1},
    ]
    rows = differences([{"spec": json.dumps(spec), "versions": "{}"} for spec in specs])
    assert rows == [
        ("b.c", ["[1, 2]", "[2, 1]"]), ("d", ['""', "null"]), ("e", ["true", "1"]), ("f", ["{}", "–"])
    ]  # fmt: skip


def test_a_run_that_is_named_twice_is_one(open_page: Open, seeds: Workspace) -> None:
    first, second = run_of(seeds, seed=0), run_of(seeds, seed=1)
    test = open_page(seeds, "runs", overlay=[first.id, first.id, second.id], show="Difference")
    assert not test.exception and "Chosen: 2" in [s.value for s in test.subheader]


def test_runs_that_are_not_here_are_named(open_page: Open, seeds: Workspace) -> None:
    gone = "20200101-000000-mae-gone-0000"
    alone = open_page(seeds, "runs", overlay=gone, show="Tags and note")
    assert not alone.exception and "gone" in alone.warning[0].value
    assert not [b for b in alone.button if b.label == "Save"]
    both = open_page(seeds, "runs", overlay=[gone, run_of(seeds, seed=1).id], show="Tags and note")
    assert "gone" in both.warning[0].value and [b for b in both.button if b.label == "Save"]
    assert both.query_params["overlay"][0] == gone


def test_a_metric_that_no_chosen_run_has_stays_asked_for(open_page: Open, lab: Workspace) -> None:
    run = run_of(lab, kind="pretrain", state="succeeded")
    test = open_page(lab, "runs", overlay=run.id, metric="![x](y) later")
    assert not test.exception and test.query_params["metric"] == "![x](y) later"
    assert not test.get("plotly_chart") and "None of these runs has logged" in test.info[0].value
    assert "![" not in test.info[0].value


# -- tags and notes -----------------------------------------------------------------------------------------------
def widget(test: AppTest, kind: str, end: str) -> object:
    return next(w for w in getattr(test, kind) if str(w.key).startswith("notes.") and str(w.key).endswith(end))


def test_a_run_is_tagged_and_noted_on_its_page(open_page: Open, seeds: Workspace) -> None:
    run = run_of(seeds, seed=1)
    test = open_page(seeds, "run", run=run.id)
    widget(test, "multiselect", ".tags").set_value(["best"])
    widget(test, "text_area", ".note").set_value("![i](http://example.com/x.png)\nsecond line")
    edit_about(seeds, [run.id], add=["meanwhile"])  # someone else, after the form was drawn
    next(b for b in test.button if b.label == "Save").click().run()
    assert not test.exception and not test.error
    assert read_about(run).tags == ("meanwhile", "best"), "what others add meanwhile stays; s1 was taken off"
    shown = next(c.value for c in test.caption if "second line" in c.value)
    assert "![i]" not in shown and "  \n" in shown
    assert open_page(seeds, "runs", q="second LINE").dataframe[0].value["run"].tolist() == [run.id]


def test_several_runs_are_tagged_at_once_and_keep_their_notes(open_page: Open, seeds: Workspace) -> None:
    first, second = run_of(seeds, seed=2, state="failed"), run_of(seeds, seed=1)
    edit_about(seeds, [first.id], note="mine")
    test = open_page(seeds, "runs", overlay=[first.id, second.id], show="Tags and note")
    widget(test, "multiselect", ".tags").set_value(["both"])
    widget(test, "multiselect", ".remove").set_value(["s1"])
    next(b for b in test.button if b.label == "Save").click().run()
    assert not test.exception and not test.error
    assert read_about(first).tags == ("s2", "both") and read_about(second).tags == ("both",)
    assert read_about(first).note == "mine"
    widget(test, "text_area", ".note").set_value("of both")
    next(b for b in test.button if b.label == "Save").click().run()
    assert [read_about(r).note for r in (first, second)] == ["mine\nof both", "of both"]
    assert widget(test, "text_area", ".note").value == "", "what was added once is not added again"


def test_a_note_of_someone_else_is_replaced_only_knowingly(open_page: Open, seeds: Workspace) -> None:
    run = run_of(seeds, seed=1)

    def save(test: AppTest, note: str) -> None:
        widget(test, "text_area", ".note").set_value(note)
        next(b for b in test.button if b.label == "Save").click().run()

    test = open_page(seeds, "run", run=run.id)
    edit_about(seeds, [run.id], note="theirs")
    save(test, "mine")
    assert read_about(run).note == "theirs" and "nothing was saved" in texts(test)
    assert widget(test, "text_area", ".note").value == "mine", "what was typed is kept"
    assert "theirs" in texts(test) and test.warning and not test.toast
    edit_about(seeds, [run.id], note="theirs again")
    save(test, "mine")
    assert read_about(run).note == "theirs again"
    save(test, "mine, having read theirs")
    assert read_about(run).note == "mine, having read theirs" and not test.error and not test.warning
    edit_about(seeds, [run.id], note="later")
    test.run()
    assert widget(test, "text_area", ".note").value == "mine, having read theirs" and test.warning
    next(b for b in test.button if b.label == "Begin again with these").click().run()
    assert widget(test, "text_area", ".note").value == "later" and not test.warning


def test_a_refused_edit_says_why(open_page: Open, seeds: Workspace) -> None:
    run = list_runs(seeds)[0]
    test = open_page(seeds, "run", run=run.id)
    (run.path / "about.json").write_text("{")
    widget(test, "multiselect", ".tags").set_value(["x"])
    next(b for b in test.button if b.label == "Save").click().run()
    assert "mend it" in texts(test) and (run.path / "about.json").read_text() == "{"


def test_what_people_say_is_shown_as_text(open_page: Open, tmp_path: Path) -> None:
    workspace = make_lab(tmp_path / "w", hostile=True)
    run = run_of(workspace, kind="prepare")
    edit_about(workspace, [run.id], note=HOSTILE, add=["<b>bold</b>"])
    test = open_page(workspace, "run", run=run.id)
    shown = [e.value for kind in ("caption", "badge") for e in test.get(kind)]
    assert any("onerror" in s for s in shown)
    assert not any("<img" in s.replace("\\<", "") or "\u202e" in s for s in shown)
