"""Decoders on a frozen encoder: each view of an image is encoded once, and the scores are as if it was not kept.

To the last digit for linear probes and after stops and kills; up to rounding for decoders.
"""

from __future__ import annotations

import resource
from typing import Any

import pandas as pd
import pytest
import torch
from maps_world import FIT, RGB8, blobs, evaluate, request, segmentation_pack

from rsfm.errors import RsfmError
from rsfm.evaluation import maps as module
from rsfm.evaluation.evaluate import dry_run, run_job
from rsfm.evaluation.maps import _Kept
from rsfm.evaluation.plan import plan
from rsfm.models.export import EncoderModel
from rsfm.pack_arrays import write_arrays
from rsfm.store.files import read_jsonl
from rsfm.store.job import JobContext, Stopped
from rsfm.store.runs import create_run
from rsfm.workspace import Workspace

MODEL = "random:vit-nano"
QUICK_FIT: dict[str, Any] = {**FIT, "epochs": 3, "decoder_width": 8, "pool_width": 8}
#: Nine passes over the training images, more than there are flips; each of three seeds draws 8 of 9.
ASKED: dict[str, Any] = {
    "adaptations": ["linear"], "eval_seeds": [0, 1, 2], "severities": [1, 2, 4, 8], "fit": QUICK_FIT,
}  # fmt: skip
TRAIN, TEST, DRAWN = 9, 6, 8
COLUMNS = ["adaptation", "eval_seed", "severity", "metric", "value", "ci_low", "ci_high"]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Every image that the encoder makes maps of; not the empty ones that its pyramid is tried on."""
    seen: list[bytes] = []
    maps = EncoderModel.maps

    def noted(self: EncoderModel, x: torch.Tensor) -> list[torch.Tensor]:
        seen.extend(image.numpy().tobytes() for image in x if image.any())
        return maps(self, x)

    monkeypatch.setattr(EncoderModel, "maps", noted)
    return seen


def fields(workspace: Workspace) -> None:
    segmentation_pack(workspace, counts=(TRAIN, TEST))


def pairs(workspace: Workspace) -> None:
    parts = {split: blobs(n, i) for i, (split, n) in enumerate((("train", TRAIN), ("val", 4), ("test", TEST)))}
    write_arrays(
        workspace, "pairs", {s: images // 2 for s, (images, _) in parts.items()}, RGB8,
        later={s: images for s, (images, _) in parts.items()}, masks={s: masks for s, (_, masks) in parts.items()},
        classes=["no change", "change"],
    )  # fmt: skip


def drawn(workspace: Workspace, pack: str, settings: dict[str, Any]) -> int:
    """Training images that any seed draws."""
    return len(set().union(*plan(request(workspace, MODEL, pack, **settings), workspace).draws.values()))


@pytest.mark.parametrize(("flips", "views", "heads"), [("none", 1, ["linear", "decoder"]), ("dihedral", 8, ["linear"])])
def test_each_view_is_encoded_once(
    workspace: Workspace, encoded: list[bytes], flips: str, views: int, heads: list[str]
) -> None:
    fields(workspace)
    settings = {**ASKED, "adaptations": heads, "fit": {**QUICK_FIT, "flips": flips}}
    kept, run = evaluate(workspace, MODEL, "fields", **settings)
    once = drawn(workspace, "fields", settings) * views + 4 * TEST
    assert len(encoded) == len(set(encoded)) == once, "one pass for each image and severity"
    assert not (run.path / "checkpoints" / "maps").exists(), "the disk is given back"
    encoded.clear()
    again, _ = evaluate(workspace, MODEL, "fields", **settings, maps_gb=0)
    assert len(encoded) == len(heads) * 3 * (3 * DRAWN + 4 * TEST) and len(set(encoded)) <= once
    # An image's maps hang on what else is in the batch by the last bit, which a decoder's many steps make a pixel of.
    pd.testing.assert_frame_equal(kept[COLUMNS], again[COLUMNS], atol=0.005)
    exact = kept["adaptation"].str.startswith("linear")
    pd.testing.assert_frame_equal(kept.loc[exact, COLUMNS], again.loc[exact, COLUMNS], check_exact=True)


@pytest.mark.parametrize(
    ("settings", "passes"),
    [
        # The earlier image is never degraded: encoded once, for all severities.
        ({}, lambda train: 2 * 8 * train + (1 + 4) * TEST),
        ({"fit": {**QUICK_FIT, "flips": "none", "select": "best"}}, lambda train: 2 * (train + 4) + (1 + 4) * TEST),
        ({"fit": {**QUICK_FIT, "flips": "horizontal", "train_degrade": True}},
         lambda train: (1 + 4) * 2 * train + (1 + 4) * TEST),
        # Noise is another in every epoch: those images are encoded each time.
        ({"operator": "noise", "severities": [0, 1], "fit": {**QUICK_FIT, "flips": "none", "train_degrade": True}},
         lambda train: train + 3 * 3 * DRAWN + (1 + 2) * TEST),
    ],
    ids=["tests", "validation", "degraded in training", "noise"],
)  # fmt: skip
def test_of_pairs_each_date_is(workspace: Workspace, encoded: list[bytes], settings: dict, passes: Any) -> None:
    pairs(workspace)
    settings = {**ASKED, **settings}
    kept, _ = evaluate(workspace, MODEL, "pairs", **settings)
    assert len(encoded) == passes(drawn(workspace, "pairs", settings))
    assert settings.get("operator") or len(set(encoded)) == len(encoded)
    again, _ = evaluate(workspace, MODEL, "pairs", **settings, maps_gb=0)
    pd.testing.assert_frame_equal(kept[COLUMNS], again[COLUMNS], check_exact=True)


def test_what_does_not_fit_is_said_and_encoded_again(
    workspace: Workspace, encoded: list[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    fields(workspace)
    whole, _ = evaluate(workspace, MODEL, "fields", **ASKED)
    assert "go through the frozen encoder once; their maps stay in the run's folder" in capsys.readouterr().out
    train = drawn(workspace, "fields", ASKED)
    each = 4 * 16 * 4 * 64  # four levels of 4 × 4 places
    spec = request(workspace, MODEL, "fields", **ASKED, maps_gb=each * (4 * TEST + 8 * train - 1) / 1e9)
    assert any("Maps of train-image-1" in remark and "do not fit" in remark for remark in dry_run(spec, workspace))
    encoded.clear()
    run = create_run(workspace, spec)
    run_job(spec, JobContext(workspace, run, 1))
    assert "note: Maps of train-image-1" in capsys.readouterr().out
    assert len(encoded) == 4 * TEST + 3 * 3 * DRAWN
    found = pd.DataFrame(read_jsonl(run.path / "scores.jsonl")[0])
    pd.testing.assert_frame_equal(found[COLUMNS], whole[COLUMNS], check_exact=True)


@pytest.mark.parametrize(
    "change",
    [{"jitter": 0.2}, {"crop_min_scale": 0.5}, {"epochs": 2}],
    ids=["jitter", "crops", "fewer passes than flips"],
)
def test_views_without_number_are_not_kept(workspace: Workspace, encoded: list[bytes], change: dict) -> None:
    fields(workspace)
    settings = {**ASKED, "severities": [1], "fit": {**QUICK_FIT, **change}}
    evaluate(workspace, MODEL, "fields", **settings)
    assert len(encoded) == TEST + 3 * settings["fit"]["epochs"] * DRAWN


def test_a_tuned_encoder_sees_images(workspace: Workspace) -> None:
    fields(workspace)
    settings = {**ASKED, "severities": [1], "eval_seeds": [0], "fit": {**QUICK_FIT, "epochs": 2, "flips": "none"}}
    alone, _ = evaluate(workspace, MODEL, "fields", **{**settings, "adaptations": ["finetune"]})
    beside, _ = evaluate(workspace, MODEL, "fields", **{**settings, "adaptations": ["linear", "finetune"]})
    tuned = beside[beside["adaptation"].str.startswith("finetune")].reset_index(drop=True)
    pd.testing.assert_frame_equal(tuned[COLUMNS], alone[COLUMNS])


def test_bfloat16_is_kept_as_it_is(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    fields(workspace)
    settings = {**ASKED, "severities": [1], "fit": {**QUICK_FIT, "flips": "none", "precision": "bf16"}}
    types: set[torch.dtype] = set()
    read = _Kept.read

    def noted(self: _Kept, *rest: Any) -> list[torch.Tensor]:
        levels = read(self, *rest)
        types.update(level.dtype for level in levels)
        return levels

    monkeypatch.setattr(_Kept, "read", noted)
    kept, _ = evaluate(workspace, "efficientnet-lite0", "fields", **settings)
    assert types == {torch.bfloat16}
    again, _ = evaluate(workspace, "efficientnet-lite0", "fields", **settings, maps_gb=0)
    pd.testing.assert_frame_equal(kept[COLUMNS], again[COLUMNS], check_exact=True)


@pytest.mark.parametrize(
    ("end", "heads"), [("stop", ["linear"]), ("kill", ["linear"]), ("stop", ["decoder"]), ("kill", ["decoder"])]
)
def test_an_attempt_goes_on_where_encoding_ended(
    workspace: Workspace, encoded: list[bytes], monkeypatch: pytest.MonkeyPatch, end: str, heads: list[str]
) -> None:
    """Nothing is encoded twice but what a kill cut off; what is half written is thrown away."""
    fields(workspace)
    monkeypatch.setattr(module, "_PIECE", 4)
    settings = {**ASKED, "adaptations": heads, "fit": {**QUICK_FIT, "flips": "horizontal"}}
    whole, _ = evaluate(workspace, MODEL, "fields", **settings)
    once = len(encoded)
    encoded.clear()
    spec = request(workspace, MODEL, "fields", **settings)
    run = create_run(workspace, spec)
    folder = run.path / "checkpoints" / "maps"
    for attempt, limit in enumerate((10, 26), start=1):
        context = JobContext(workspace, run, attempt)
        if end == "stop":
            monkeypatch.setattr(context, "stop_requested", lambda limit=limit: len(encoded) >= limit)
            with pytest.raises(Stopped):
                run_job(spec, context)
            continue
        to_bytes = _Kept.to_bytes

        def cut(self: _Kept, levels: list[torch.Tensor], limit: int = limit, real: Any = to_bytes) -> bytes:
            if len(encoded) >= limit:
                raise KeyboardInterrupt
            return real(self, levels)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(_Kept, "to_bytes", cut)
            run_job(spec, context)
        part = next(folder.glob("*.part"))
        with part.open("ab") as file:
            file.write(b"half of a line")
    assert list(folder.glob("*.part")) or list(folder.glob("*.maps"))
    run_job(spec, JobContext(workspace, run, 3))
    assert len(encoded) == once + (8 if end == "kill" else 0)
    found = pd.DataFrame(read_jsonl(run.path / "scores.jsonl")[0])
    pd.testing.assert_frame_equal(found[COLUMNS], whole[COLUMNS], check_exact=True)
    assert not folder.exists()


def test_any_error_gives_the_disk_back_and_what_a_kill_leaves_the_next_evaluation_does(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fields(workspace)
    spec = request(workspace, MODEL, "fields", **ASKED)
    read, left = _Kept.read, []
    for error in (torch.OutOfMemoryError, KeyboardInterrupt):

        def fails(self: _Kept, *rest: Any, error: type[BaseException] = error) -> list[torch.Tensor]:
            raise error

        monkeypatch.setattr(_Kept, "read", fails)
        run = create_run(workspace, spec)
        with pytest.raises(error):
            run_job(spec, JobContext(workspace, run, 1))
        left.append(run.path / "checkpoints" / "maps")
    assert [folder.exists() for folder in left] == [False, True]
    run.add_event(state="failed", attempt=1)
    monkeypatch.setattr(_Kept, "read", read)
    evaluate(workspace, MODEL, "fields", **ASKED)
    assert "note: Maps of runs that have ended are deleted" in capsys.readouterr().out and not left[1].exists()


@pytest.mark.parametrize("failure", ["The loss of linear-0", "cannot be written: .* Lower maps_gb"])
def test_a_failure_gives_the_disk_back(workspace: Workspace, failure: str) -> None:
    fields(workspace)
    settings = {**ASKED, "fit": {**QUICK_FIT, "flips": "none", "lr": 1e30}}
    spec = request(workspace, MODEL, "fields", **settings)
    run = create_run(workspace, spec)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    with pytest.raises(RsfmError, match=failure):
        if "written" in failure:  # as if the disk was full
            resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 10, limit[1]))
        try:
            run_job(spec, JobContext(workspace, run, 1))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert not (run.path / "checkpoints" / "maps").exists()
