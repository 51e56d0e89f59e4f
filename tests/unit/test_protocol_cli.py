"""`rsfm protocol run`: which packs, what is refused before anything is queued, and what happens when a run fails."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from test_protocols import evaluated, make_pack
from typer.testing import CliRunner, Result

from jobs import client
from rsfm.cli import app
from rsfm.commands import common
from rsfm.errors import JobFailed, RsfmError
from rsfm.protocols import packs_of, plan, protocol
from rsfm.specs import Spec
from rsfm.store.runs import list_runs, open_run
from rsfm.workspace import Workspace


@pytest.fixture(autouse=True)
def nobody_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "ensure_supervisor", lambda *_: None)


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Models whose requests were dry-run; those called random:* are refused."""
    found: list[str] = []

    def dry_run(spec: Spec, workspace: Workspace) -> client.DryRun:
        found.append(spec.model)
        assert not list_runs(workspace) or "late" in spec.model, "nothing is queued before all are checked"
        bad = spec.model.startswith("random:")
        return client.DryRun(not bad, ["About an hour."], "It cannot be." if bad else None)

    monkeypatch.setattr(client, "dry_run", dry_run)
    return found


def ending(monkeypatch: pytest.MonkeyPatch, state_of: Callable[[Spec], str]) -> None:
    """Runs end at once, in the state that belongs to their request."""

    def follow(workspace: Workspace, run_id: str, **_: object) -> str:
        state = state_of(open_run(workspace, run_id).spec())
        open_run(workspace, run_id).add_event(state=state, attempt=1)
        return state

    monkeypatch.setattr(client, "follow", follow)


def run(workspace: Workspace, *args: str) -> Result:
    return CliRunner().invoke(app, ["protocol", *args, "--workspace", str(workspace.root)])


def test_all_refusals_are_told_before_anything_is_queued(workspace: Workspace, checked: list[str]) -> None:
    make_pack(workspace, "tiles", "levir-cd")
    result = run(workspace, "run", "dstnsp", "--models", "band-stats,random:a,timm:b", "--queue")
    assert isinstance(result.exception, RsfmError) and not isinstance(result.exception, JobFailed)
    assert str(result.exception) == (
        "2 of 6 requests were refused, so none was queued. levir-cd, random:a: It cannot be. "
        "levir-cd-degraded, random:a: It cannot be."
    )
    assert sorted(checked) == ["band-stats"] * 2 + ["random:a"] * 2 + ["timm:b"] * 2
    assert list_runs(workspace) == [] and "About an hour." in result.stderr


def test_only_what_is_not_finished_is_checked(workspace: Workspace, checked: list[str]) -> None:
    make_pack(workspace, "tiles", "levir-cd")
    ids = run(workspace, "run", "dstnsp", "--models", "timm:a,timm:late", "--queue").stdout.split()
    assert len(ids) == 4 == len(checked)
    for run_id, state in zip(ids, ("succeeded", "failed", "running", "succeeded"), strict=True):
        open_run(workspace, run_id).add_event(state=state, attempt=1)
    checked.clear()
    again = run(workspace, "run", "dstnsp", "--models", "timm:a,timm:late", "--queue")
    assert again.stdout.split() == ids and checked == ["timm:late"]


def test_one_failure_does_not_stop_the_others(
    workspace: Workspace, checked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_pack(workspace, "tiles", "levir-cd")
    ending(monkeypatch, lambda spec: "failed" if spec.model == "timm:bad" else "succeeded")
    result = run(workspace, "run", "dstnsp", "--models", "timm:bad,timm:good", "--json")
    assert isinstance(result.exception, JobFailed), "exit code 1"
    message = str(result.exception)
    assert message.startswith("2 of 4 runs did not succeed: run ") and message.count("is failed") == 2
    states = {r.spec().model + str(r.spec().fit.train_degrade): r.state() for r in list_runs(workspace)}
    assert sorted(states.values()) == ["failed"] * 2 + ["succeeded"] * 2
    assert {row["who"] for row in json.loads(result.stdout)["rows"]} == {"authors"}, (
        "the report is printed all the same"
    )
    assert "levir-cd: pack tiles" in result.stderr


def test_an_interruption_ends_the_watching(
    workspace: Workspace, checked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_pack(workspace, "tiles", "levir-cd")
    watched: list[str] = []

    def follow(workspace: Workspace, run_id: str, **_: object) -> str:
        watched.append(run_id)
        if len(watched) == 1:
            raise KeyboardInterrupt
        return "cancelled"

    monkeypatch.setattr(client, "follow", follow)
    result = run(workspace, "run", "dstnsp", "--models", "timm:a")
    assert isinstance(result.exception, common.Interrupted) and len(set(watched)) == 1
    assert open_run(workspace, watched[0]).requested("stop")


def test_two_packs_of_one_dataset(workspace: Workspace, checked: list[str]) -> None:
    what = protocol("dstnsp")
    make_pack(workspace, "tiles", "levir-cd")
    make_pack(workspace, "small", "levir-cd")
    with pytest.raises(RsfmError, match=r"Packs small, tiles are all of 'levir-cd': name all .* with --packs"):
        packs_of(what, workspace)
    assert isinstance(run(workspace, "run", "dstnsp", "--queue").exception, RsfmError)
    assert packs_of(what, workspace, ["small"]) == {"levir-cd": "small"}
    make_pack(workspace, "scenes", "uc-merced")
    told = run(workspace, "run", "dstnsp", "--models", "timm:b", "--packs", "small", "--queue").stderr
    assert "Prepared, but no pack of it is named, so left out: uc-merced." in told and "pack scenes" not in told
    told = run(workspace, "run", "dstnsp", "--models", "timm:b", "--packs", "small,scenes", "--queue").stderr
    assert "left out" not in told and "uc-merced: pack scenes" in told
    (workspace.packs / "scenes").rename(workspace.root / "scenes")
    make_pack(workspace, "levir-cd", "levir-cd")
    assert packs_of(what, workspace) == {"levir-cd": "levir-cd"}, "the usual name is the usual pack"


def test_a_pack_that_was_prepared_again_is_measured_again(workspace: Workspace, checked: list[str]) -> None:
    pack = make_pack(workspace, "tiles", "levir-cd")
    (spec,) = [
        p.spec for p in plan(protocol("dstnsp"), {"levir-cd": "tiles"}, ["band-stats"]) if "degraded" not in p.name
    ]
    models = ("--models", "timm:late", "--queue")
    ids = run(workspace, "run", "dstnsp", *models).stdout.split()
    for run_id, content in zip(ids, (pack.info.content_hash, "of before"), strict=True):
        evaluated(workspace, spec, pack, 0.5, run=open_run(workspace, run_id), pack_hash=content)
        open_run(workspace, run_id).add_event(state="succeeded", attempt=1)
    again = run(workspace, "run", "dstnsp", *models).stdout.split()
    assert again[0] == ids[0] and again[1] != ids[1]


def test_models_with_one_title_are_rows_of_their_own(workspace: Workspace) -> None:
    pack = make_pack(workspace, "tiles", "levir-cd")
    for model, value in (("timm:a", 0.25), ("timm:b", 0.75)):
        spec = plan(protocol("dstnsp"), {"levir-cd": "tiles"}, [model])[0].spec
        evaluated(workspace, spec, pack, value, model_title="MAE")
    shown = run(workspace, "report", "dstnsp").stdout
    assert "MAE (timm:a)" in shown and "MAE (timm:b)" in shown and "25.0" in shown and "75.0" in shown
    rows = json.loads(run(workspace, "report", "dstnsp", "--json").stdout)["rows"]
    assert {r["model_group"] for r in rows if r["who"] == "ours"} == {"timm:a", "timm:b"}
    flat, theirs = (next(r for r in rows if r[k] == v) for k, v in (("model_group", "timm:a"), ("model", "GFM")))
    assert (flat["curve_auc_norm"], flat["curve_mean"], flat["curve_retention"]) == pytest.approx((0.25, 0.25, 1))
    assert theirs["curve_auc"] == pytest.approx(70.84, abs=0.005) and theirs["curve_ladder"] == "1×, 2×, 4×, 8×"
    heads, line = (next(x for x in shown.splitlines() if x.startswith(name)) for name in ("model", "MAE (timm:a)"))
    assert line[heads.index("AUC") :].split() == ["23.4", "25.0", "%", "25.0", "100.0", "%", "ours"]


def test_a_protocol_with_other_severities_is_reported_by_its_own_operator(workspace: Workspace) -> None:
    pack = make_pack(workspace, "tiles", "levir-cd")
    settings = ["operator=blur", "severities=[0, 4]"]
    spec = plan(protocol("dstnsp"), {"levir-cd": "tiles"}, ["timm:a"], settings)[0].spec
    evaluated(workspace, spec, pack, 0.5, model_title="Mine")
    shown = run(workspace, "report", "dstnsp", *(word for s in settings for word in ("--set", s))).stdout
    table = shown.split("tiles · f1 (%)")[1]
    assert table.startswith(" · blur") and "4 px" in table and "AUC" not in table and "Mine" in table, (
        "no area without factors"
    )


def test_a_protocol_is_shown_with_the_authors_numbers(workspace: Workspace) -> None:
    assert "authors" in CliRunner().invoke(app, ["protocol", "show", "dstnsp"]).stdout
