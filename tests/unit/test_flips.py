"""Single test samples at two severities: which were lost, which were won, with which seeds."""

from __future__ import annotations

import numpy as np
import pytest
from comparison_world import evaluated, right
from store_world import indexed

from rsfm.comparison import curve_id, flips
from rsfm.errors import RsfmError
from rsfm.metrics import METRICS
from rsfm.store.view import Store
from rsfm.workspace import Workspace

LABELS = np.array([0, 1, 2, 0, 1, 2])
#: (severity, seed) -> what is found.
FOUND = {
    (1.0, 0): [0, 1, 2, 0, 2, 2], (1.0, 1): [0, 1, 2, 0, 1, 2],
    (4.0, 0): [0, 2, 2, 1, 1, 2], (4.0, 1): [0, 0, 2, 0, 1, 1],
}  # fmt: skip


def classes(workspace: Workspace, model_seeds: tuple[int, ...] = (0,), **row: object) -> Store:
    for model_seed in model_seeds:
        keys = {("knn", severity, seed): np.array(found) for (severity, seed), found in FOUND.items()}
        counts = {key: right(found == LABELS) for key, found in keys.items()}
        evaluated(workspace, "a", counts, labels=LABELS, predicted=keys, model_seed=model_seed, **row)
    return indexed(workspace)


def curve_of(store: Store, **wanted: object) -> dict[str, object]:
    frame = store.compare()
    for name, value in wanted.items():
        frame = frame[frame[name] == value]
    return frame.iloc[0].to_dict()


def test_lost_and_won_are_counted_with_each_seed(workspace: Workspace) -> None:
    store = classes(workspace)
    found = flips(store, curve_of(store), 4.0, 1.0)
    assert found.seeds == ((0, 0), (0, 1)) and found.right_or_wrong and found.metric == "accuracy"
    table = found.table()
    # Seed 0: lost 1 (to 2) and 3 (to 1), won 4. Seed 1: lost 1 (to 0) and 5 (to 1).
    assert table["lost"].tolist() == [0, 2, 0, 1, 0, 1] and table["won"].tolist() == [0, 0, 0, 0, 1, 0]
    assert table["before"].tolist() == [1, 1, 1, 1, 0.5, 1] and table["after"].tolist() == [1, 0, 1, 0.5, 1, 0.5]
    assert found.predicted_after is not None and found.predicted_after[:, 1].tolist() == [2, 0]
    assert found.labels is not None and found.labels.tolist() == LABELS.tolist()
    # What was won less what was lost is what the scores differ by.
    net = (found.gain > 0).sum(axis=1) - (found.gain < 0).sum(axis=1)
    assert net / len(LABELS) == pytest.approx(found.scores[1] - found.scores[0])
    alone = found.only((0, 1))
    assert alone.table()["lost"].tolist() == [0, 1, 0, 0, 0, 1] and alone.runs == found.runs[1:]
    with pytest.raises(RsfmError, match="evaluation seed 7 was not measured"):
        found.only((0, 7))
    back = flips(store, curve_of(store), 1.0, 4.0).table()
    assert back["won"].tolist() == table["lost"].tolist(), "the other way round"


def test_runs_of_other_model_seeds_belong_to_the_same_curve(workspace: Workspace) -> None:
    store = classes(workspace, (0, 3))
    found = flips(store, curve_of(store), 4.0, 1.0)
    assert found.seeds == ((0, 0), (0, 1), (3, 0), (3, 1))
    assert len({run for pair in found.runs for run in pair}) == 2
    assert found.table()["lost"].tolist() == [0, 4, 0, 2, 0, 2]


def test_model_seeds_weigh_the_same_however_often_they_were_evaluated(workspace: Workspace) -> None:
    for model_seed, before, after in ((0, [0, 1, 2, 0, 1, 2], [0, 1, 2, 0, 1, 0]), (1, [0, 1, 2, 1, 2, 0], [1] * 6)):
        found = {("knn", s, e): np.array(p) for s, p in ((1.0, before), (4.0, after))
                 for e in range(1 if model_seed else 3)}  # fmt: skip
        counts = {key: right(part == LABELS) for key, part in found.items()}
        evaluated(workspace, "a", counts, labels=LABELS, predicted=found, model_seed=model_seed)
    store = indexed(workspace)
    found = flips(store, curve_of(store), 4.0, 1.0)
    assert found.weights == pytest.approx([1 / 6, 1 / 6, 1 / 6, 1 / 2])
    drawn = [curve_of(store, severity=s)["mean"] for s in (1.0, 4.0)]
    assert drawn == pytest.approx([(1 + 3 / 6) / 2, (5 / 6 + 2 / 6) / 2])
    table = found.table()
    assert found.scores @ found.weights == pytest.approx(drawn)
    assert [table["before"].mean(), table["after"].mean()] == pytest.approx(drawn)
    assert found.only((1, 0)).weights.tolist() == [1]


def test_a_seed_that_was_measured_at_one_severity_only_is_left_out(workspace: Workspace) -> None:
    store = classes(workspace)
    counts = {("knn", 4.0, 2): right(LABELS == 0)}
    evaluated(workspace, "a", counts, labels=LABELS, predicted={k: LABELS for k in counts})
    store = indexed(workspace)
    found = flips(store, curve_of(store, severity=4.0), 4.0, 1.0)
    assert found.seeds == ((0, 0), (0, 1))
    assert found.left_out == ("Left out, for their predictions are of 4× alone: model seed 0, evaluation seed 2.",)
    with pytest.raises(RsfmError, match="No seed was measured at both"):
        flips(store, curve_of(store), 8.0, 1.0)


def test_maps_lose_score_instead_of_being_right_or_wrong(workspace: Workspace) -> None:
    def counts(*tp: float) -> np.ndarray:
        """100 changed pixels in each pair but the last, which has none."""
        changed = np.array([100.0, 100, 100, 0])
        return np.stack([tp, np.zeros(4), changed - tp, 900 - changed], axis=1)

    found = {("decoder", 1.0, 0): counts(90, 50, 20, 0), ("decoder", 4.0, 0): counts(80, 10, 30, 0)}
    evaluated(workspace, "a", found, metric="f1", task="change", degrade_target="post")
    store = indexed(workspace)
    seen = flips(store, curve_of(store), 4.0, 1.0, metric="f1")
    assert not seen.right_or_wrong and seen.predicted_before is None and seen.labels is None
    table = seen.table()
    f1 = METRICS["f1"].of
    assert table["before"][:3].tolist() == pytest.approx(f1(counts(90, 50, 20, 0))[:3].tolist())
    assert table["lost"].tolist() == [1, 1, 0, 0] and table["won"].tolist() == [0, 0, 1, 0]
    assert np.isnan(table["gain"][3]), "nothing to find, nothing found"
    # A score of all samples at once says nothing of one: the primary one does.
    assert flips(store, curve_of(store), 4.0, 1.0, metric="mean_ap").metric == "f1"


def test_predictions_that_are_gone_are_said(workspace: Workspace) -> None:
    store = classes(workspace)
    for file in workspace.runs.glob("*/artifacts/predictions.parquet"):
        file.write_bytes(b"torn")
    with pytest.raises(RsfmError, match=r"one by one.*evaluation .* of A left"):
        flips(indexed(workspace), curve_of(store), 4.0, 1.0)


def test_a_curve_is_named_by_what_was_measured(workspace: Workspace) -> None:
    curve = curve_of(classes(workspace))
    name = curve_id(curve)
    assert len(name) == 12 and name == curve_id({**curve, "metric": "other", "severity": 8.0, "mean": 0.1})
    for key, value in {"bands": "B1", "operator": "blur", "pack_hash": "other", "train_degrade": "bilinear"}.items():
        assert curve_id({**curve, key: value}) != name
    assert curve_id({**curve, "bands": None}) != curve_id({**curve, "bands": "None"})
