"""Tags and notes of runs: one list for readers, edits that lose nothing, filters and groups in the index."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from store_world import begin, evaluate, finish, indexed, log, pretrain, score

from rsfm.cli import main
from rsfm.errors import RsfmError
from rsfm.store.about import MAX_NOTE, MAX_TAGS, edit_about, read_about
from rsfm.store.queries import SORTS
from rsfm.store.view import Store
from rsfm.workspace import Workspace


def rows(store: Store, **wanted: object) -> list[str]:
    store.refresh_if_stale(0)
    return store.runs(**wanted)["run_id"].tolist()  # type: ignore[arg-type]


def test_first_and_later_tags_are_one_list_and_all_can_be_removed(workspace: Workspace) -> None:
    run = pretrain(workspace, tags=["paper", "a,  b "])
    before = (run.path / "spec.json").read_bytes()
    assert read_about(run).tags == ("paper", "a", "b")
    edit_about(workspace, [run.id], add=["late", "a"], remove=["paper", "never there"], note="  Look\nagain.\u202e ")
    assert read_about(run).tags == ("a", "b", "late") and read_about(run).note == "Look\nagain."
    edit_about(workspace, [run.id], remove=["a", "b", "late"])
    assert read_about(run).tags == () and read_about(run).note == "Look\nagain.", "a note that is not named stays"
    edit_about(workspace, [run.id], note="")
    assert read_about(run).note == "" and (run.path / "spec.json").read_bytes() == before


def test_a_request_that_is_wrong_changes_no_run(workspace: Workspace) -> None:
    run, other = pretrain(workspace), pretrain(workspace)
    for wrong, words in (
        ({"add": ["x" * 61]}, "at most 60"),
        ({"add": ["x"], "remove": ["x"]}, "at once"),
        ({"note": "n" * (MAX_NOTE + 1)}, "10,000"),
        ({"add": [f"t{i}" for i in range(MAX_TAGS + 1)]}, "at most 40"),
    ):
        with pytest.raises(RsfmError, match=words):
            edit_about(workspace, [run.id, other.id], **wrong)
    with pytest.raises(RsfmError, match="no run"):
        edit_about(workspace, [run.id, "../packs"], add=["x"])
    (other.path / "about.json").write_text('{"tags": ["mine"')
    with pytest.raises(RsfmError, match="mend it"):
        edit_about(workspace, [run.id, other.id], add=["x"])
    assert not (run.path / "about.json").exists()


def test_editing_at_the_same_time_loses_nothing(workspace: Workspace) -> None:
    run = pretrain(workspace)
    code = (
        "import sys; from pathlib import Path; from rsfm.store.about import edit_about; "
        "from rsfm.workspace import Workspace\n"
        "for i in range(8): edit_about(Workspace(Path(sys.argv[1])), [sys.argv[2]], add=[f'process-{i}'])"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(workspace.root), run.id], env=dict(os.environ)) as other:
        threads = [
            threading.Thread(target=lambda n=n: [edit_about(workspace, [run.id], add=[f"{n}-{i}"]) for i in range(8)])
            for n in ("one", "two")
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert other.returncode == 0
    assert set(read_about(run).tags) == {f"{n}-{i}" for n in ("one", "two", "process") for i in range(8)}


def test_a_note_that_has_changed_is_replaced_by_those_who_have_read_it(workspace: Workspace) -> None:
    run, other = pretrain(workspace), pretrain(workspace)
    edit_about(workspace, [run.id], note="theirs")
    with pytest.raises(RsfmError, match=f"{other.id}|{run.id}.*changed meanwhile"):
        edit_about(workspace, [other.id, run.id], note="mine", add=["x"], instead_of={run.id: "", other.id: ""})
    assert read_about(run).note == "theirs" and read_about(other).tags == (), "all of it or nothing"
    edit_about(workspace, [run.id], note=" theirs ", instead_of={run.id: ""})
    edit_about(workspace, [run.id, other.id], below="for both\n")
    assert [read_about(r).note for r in (run, other)] == ["theirs\nfor both", "for both"]
    with pytest.raises(RsfmError, match="10,001"):
        edit_about(workspace, [other.id, run.id], below="n" * (MAX_NOTE - 8))
    edit_about(workspace, [run.id], note="mine", instead_of={run.id: "theirs\nfor both"})
    assert read_about(run).note == "mine" and read_about(other).note == "for both"


def test_tags_and_notes_reach_the_index_also_of_settled_runs(workspace: Workspace) -> None:
    run, other = pretrain(workspace, tags=["paper"]), pretrain(workspace, tags=["paper", "draft"])
    begin(run)
    finish(run)
    for file in run.path.iterdir():  # ended long ago: looked at in full only now and then
        os.utime(file, (1e9, 1e9))
    store = indexed(workspace)
    assert set(rows(store, tags=["paper"])) == {run.id, other.id} and rows(store, tags=["paper", "draft"]) == [other.id]
    edit_about(workspace, [run.id], add=["draft"], remove=["paper"], note="The teacher's momentum was wrong.")
    assert set(rows(store, tags=["draft"])) == {run.id, other.id} and rows(store, tags=["paper"]) == [other.id]
    assert rows(store, search="MOMENTUM was") == [run.id]
    assert rows(store, tags=["raft"]) == [], "a tag is a whole one"
    names = store.run_names()
    assert names[names["what"] == "tag"][["name", "n"]].values.tolist() == [["draft", 2], ["paper", 1]]
    (run.path / "about.json").write_text("[")
    assert set(rows(store, tags=["paper"])) == {run.id, other.id}, "what it was queued with counts"
    assert store.problems()["path"].tolist() == [f"runs/{run.id}/about.json"]


def test_groups_count_the_newest_success_of_each_seed(workspace: Workspace) -> None:
    values = {0: ["succeeded", "succeeded"], 1: ["failed", "succeeded"], 2: ["failed"]}
    newest = {}
    for seed, states in values.items():
        for state in states:
            run = pretrain(workspace, seed=seed)
            job = begin(run)
            log(job, range(10 * (seed + 1)))
            finish(run, state)
            file = run.path / "spec.json"
            data = json.loads(file.read_text()) | {"created": f"2026-01-0{len(newest) + 1}T00:00:00+00:00"}
            file.write_text(json.dumps(data))
            newest[run.id] = seed
    alone = evaluate(workspace)
    job = begin(alone)
    job.scores(
        [score(severity=s, eval_seed=e, adaptation=a, value=v + e / 10) for s, v in ((1, 0.8), (4, 0.9))
         for e in (0, 1) for a in ("knn", "linear")]
    )  # fmt: skip
    finish(alone)
    store = indexed(workspace)
    groups = store.run_groups().set_index("kind")
    trained = groups.loc["pretrain"]
    assert (trained["n"], trained["succeeded"], trained["failed"], trained["seeds"]) == (5, 3, 2, 2)
    assert trained["loss"] == pytest.approx((1.009 + 1.019) / 2)  # of steps 9 and 19
    assert trained["loss_std"] == pytest.approx(0.01 / 2**0.5)
    assert groups.loc["evaluate", ["seeds", "seed_kind", "counted"]].tolist() == [2, "evaluation seeds", 1]
    assert groups.loc["evaluate", "score"] == pytest.approx(0.85), "images at their best, whatever a lower grid gave"
    assert store.runs(kind="evaluate")["score"].tolist() == pytest.approx([0.85])
    assert set(rows(store, groups=[trained["group_id"]])) == set(newest)
    assert len(store.run_groups(states=["failed"])) == 1


def test_every_order_is_one(workspace: Workspace) -> None:
    for seed in range(3):
        log(begin(pretrain(workspace, seed=seed)), range(seed + 1))
    store = indexed(workspace)
    for sort in SORTS:
        assert len(store.runs(sort=sort)) == 3 and len(store.run_groups(sort=sort)) == 1
    assert store.runs(sort="loss")["seed"].tolist() == [0, 1, 2]
    assert store.runs(sort="newest")["run_id"].tolist() == store.runs(sort="oldest")["run_id"].tolist()[::-1]
    with pytest.raises(KeyError):
        store.runs(sort="created; DROP TABLE runs")
    for list_runs in (store.runs, store.run_groups):
        with pytest.raises(TypeError, match="unknown filters: state"):
            list_runs(state=["failed"])


def test_tags_from_a_terminal(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    def rsfm(*words: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as end:
            main([*words, "--workspace", str(workspace.root)])
        done = capsys.readouterr()
        return int(end.value.code or 0), done.out + done.err

    run, other = pretrain(workspace, tags=["paper"]), pretrain(workspace)
    assert rsfm("tag", run.id, other.id, "--add", "best, a b", "--remove", "paper", "--note", "[red] ok?")[0] == 0
    code, shown = rsfm("tag", run.id)
    assert code == 0 and "best, a b" in shown and "[red] ok?" in shown and "paper" not in shown
    untagged = pretrain(workspace, tags=["best"])
    for words in (("--tag", "best", "--tag", "a b"), ("--tag", " a  b,best ")):
        found = {r["run_id"] for r in json.loads(rsfm("runs", *words, "--json")[1])}
        assert found == {run.id, other.id}, "all tags, and those of --tag are split as those of --add"
    assert untagged.id in rsfm("runs", "--tag", "best")[1]
    assert rsfm("runs", "--tag", " , ")[0] == 2
    assert "No run has these tags." in rsfm("runs", "--tag", "paper")[1]
    code, shown = rsfm("tag", run.id, "20260101-000000-not-there-0000", "--add", "x")
    assert code == 2 and "no run" in shown and "x" not in read_about(run).tags


def test_a_folder_that_cannot_be_written_says_so(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    run = pretrain(workspace)

    def full(path: Path, data: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("rsfm.store.about.write_json", full)
    with pytest.raises(RsfmError, match="No space left"):
        edit_about(workspace, [run.id], add=["x"])
