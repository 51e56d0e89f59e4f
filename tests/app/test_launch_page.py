"""The page Launch: choices in the address, checks, what is queued."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lab import make_lab
from pydantic import Field, field_validator
from shown import Open, run_of, texts

from rsfm import registry
from rsfm.bands import Band
from rsfm.errors import RsfmError
from rsfm.pack_arrays import write_arrays
from rsfm.registry import MethodEntry, Preset
from rsfm.specs import EvaluateSpec, Params, PretrainSpec, ResNetParams
from rsfm.workspace import Workspace

TOKENIZER = "launch.pretrain.beit_vq.smoke.landsat7-sample.method_params.tokenizer"


def test_launch_writes_its_choices_into_the_url(open_page: Open, lab: Workspace) -> None:
    test = open_page(lab, "launch")
    assert test.query_params["pack"] == "landsat7-sample"
    assert test.query_params["method"] == "mae" and test.query_params["preset"] == "cpu"
    assert test.code[0].value == "rsfm pretrain --method mae --dataset landsat7-sample --preset cpu --queue"


def test_launch_checks_then_queues(open_page: Open, lab: Workspace, no_jobs: list) -> None:
    test = open_page(lab, "launch", preset="smoke")
    test.number_input(key="launch.pretrain.mae.smoke.landsat7-sample.optim.samples").set_value(640).run()
    assert "--set optim.samples=640" in test.code[0].value
    test.button(key="launch.pretrain.queue").click().run()
    assert [verb for verb, _ in no_jobs] == ["dry_run", "submit"]
    spec = no_jobs[-1][1]
    assert isinstance(spec, PretrainSpec)
    assert (spec.optim.samples, spec.optim.batch_size, spec.preset, spec.dataset) == (
        640,
        32,
        "smoke",
        "landsat7-sample",
    )
    assert "Queued" in texts(test)


def test_launch_refuses_with_the_reason_and_keeps_the_form(
    open_page: Open, lab: Workspace, no_jobs: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    import jobs.client

    reason = "No space left: 3 GB are needed."
    monkeypatch.setattr(jobs.client, "dry_run", lambda spec, w, **_: jobs.client.DryRun(False, [], reason))
    test = open_page(lab, "launch", preset="smoke")
    field = "launch.pretrain.mae.smoke.landsat7-sample.optim.batch_size"
    test.number_input(key=field).set_value(64).run()
    test.button(key="launch.pretrain.queue").click().run()
    assert reason in texts(test)
    assert not [verb for verb, _ in no_jobs if verb == "submit"]
    assert test.number_input(key=field).value == 64


def test_launch_shows_errors_in_place(open_page: Open, lab: Workspace) -> None:
    test = open_page(lab, "launch", preset="smoke")
    test.number_input(key="launch.pretrain.mae.smoke.landsat7-sample.encoder.width").set_value(63).run()
    shown = texts(test)
    assert "width 63 is not divisible by heads 2" in shown
    assert test.button(key="launch.pretrain.queue").disabled
    prefix = "launch.pretrain.mae.smoke.landsat7-sample"
    test.number_input(key=f"{prefix}.encoder.width").set_value(64)
    test.number_input(key=f"{prefix}.method_params.decoder_width").set_value(33).run()
    assert "decoder_width 33 is not divisible by decoder_heads 2" in texts(test)
    assert test.button(key="launch.pretrain.queue").disabled


class Views(Params):
    """How views are changed."""

    blur: float = Field(0.5, ge=0, le=1, title="Blur")

    @field_validator("blur")
    @classmethod
    def _not_too_much(cls, blur: float) -> float:
        if blur > 0.9:
            raise ValueError("nothing is left to see")
        return blur


class TeacherParams(Params):
    """A made-up method."""

    ema_momentum: float = Field(0.996, gt=0, lt=1, title="EMA momentum", description="Of the teacher.")
    local_crops: int = Field(8, ge=0, le=32, title="Local crops")
    augment: Views = Field(Views(blur=0.25), title="Augmentation")


@pytest.fixture
def teacher(monkeypatch: pytest.MonkeyPatch) -> str:
    """A method that no page knows: a convolutional encoder, settings with a group inside."""
    entry = MethodEntry(
        name="teach", title="Teacher and student", label="Teach", family="self-distillation", paper="A paper",
        inputs="images", summary="A summary.", target="nowhere:Nothing", params=TeacherParams, encoder=ResNetParams,
        healthy="It stays calm.",
        presets={"tiny": Preset("Tiny", {"encoder": {"layers": "resnet18"}, "method_params": {"local_crops": 3}})},
    )  # fmt: skip
    monkeypatch.setitem(registry.METHODS, "teach", entry)
    return "launch.pretrain.teach.tiny.landsat7-sample"


def test_a_new_method_needs_no_page_code(open_page: Open, lab: Workspace, teacher: str, no_jobs: list) -> None:
    test = open_page(lab, "launch", method="teach")
    assert not test.exception and not test.error
    assert test.number_input(key=f"{teacher}.method_params.local_crops").value == 3
    assert "It stays calm." in texts(test) and "A summary." in texts(test)
    # The encoder is the method's own kind, and nothing asks for a transformer's sizes.
    assert test.selectbox(key=f"{teacher}.encoder.layers").value == "resnet18"
    assert "Tokens per image" not in str(test.table[0].value)
    assert not [w for w in test.number_input if w.key == f"{teacher}.encoder.width"]
    # A group inside the settings starts from the method's own defaults, and its values reach the request.
    assert test.number_input(key=f"{teacher}.method_params.augment.blur").value == 0.25
    test.number_input(key=f"{teacher}.method_params.augment.blur").set_value(0.75)
    test.selectbox(key=f"{teacher}.encoder.layers").set_value("resnet34").run()
    assert "--set encoder.layers=resnet34" in test.code[0].value
    assert "--set method_params.augment.blur=0.75" in test.code[0].value
    test.button(key="launch.pretrain.queue").click().run()
    assert not test.exception
    spec = no_jobs[-1][1]
    assert isinstance(spec, PretrainSpec) and spec.encoder == ResNetParams(layers="resnet34")
    assert spec.params == TeacherParams(local_crops=3, augment=Views(blur=0.75))
    assert "Watch Teach on landsat7-sample" in texts(test)


def test_errors_inside_a_group_of_settings_are_named(open_page: Open, lab: Workspace, teacher: str) -> None:
    test = open_page(lab, "launch", method="teach")
    test.number_input(key=f"{teacher}.method_params.augment.blur").set_value(0.95).run()
    assert not test.exception
    assert "method_params.augment.blur: nothing is left to see" in texts(test)
    assert test.button(key="launch.pretrain.queue").disabled


@pytest.mark.parametrize("method", sorted(registry.METHODS))
def test_every_preset_of_every_method_is_a_request_as_it_stands(open_page: Open, lab: Workspace, method: str) -> None:
    for preset in registry.METHODS[method].presets:
        test = open_page(lab, "launch", method=method, preset=preset)
        assert not test.exception and not test.error, preset
        assert not test.button(key="launch.pretrain.queue").disabled
        words = test.code[0].value.split()
        assert words[:7] == ["rsfm", "pretrain", "--method", method, "--dataset", "landsat7-sample", "--preset"]
        assert words[7:] == [preset, "--queue"], "the form changes nothing by itself"


def test_launch_starts_from_the_weights_of_another_run(open_page: Open, lab: Workspace) -> None:
    trained = run_of(lab, kind="pretrain", state="succeeded").id
    test = open_page(lab, "launch", preset="smoke")
    box = test.selectbox(key="launch.pretrain.mae.smoke.landsat7-sample.init.weights")
    assert box.value is None
    box.set_value(trained).run()
    assert f"--set init.weights={trained}" in test.code[0].value


def test_launch_offers_the_tokenizers_that_there_are(open_page: Open, lab: Workspace, tmp_path: Path) -> None:
    test = open_page(lab, "launch", method="beit_vq", preset="smoke")
    box = test.selectbox(key=TOKENIZER)
    assert box.options == [] and box.placeholder == "None yet: train a VQ tokenizer"
    opened = [e.label for e in test.expander if e.proto.expanded]
    assert opened == ["BEiT with a self-trained VQ tokenizer"], "what must be chosen is in view"
    workspace = make_lab(tmp_path / "w")
    trained = run_of(workspace, kind="pretrain", state="succeeded").id
    file = workspace.models / trained / "model.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"method": "vq_tokenizer"}))
    test = open_page(workspace, "launch", method="beit_vq", preset="smoke")
    test.selectbox(key=TOKENIZER).select_index(0).run()
    assert f"--set method_params.tokenizer={trained}" in test.code[0].value


def test_optional_numbers_can_be_emptied(open_page: Open, lab: Workspace) -> None:
    test = open_page(lab, "launch", preset="vit-s")
    box = test.number_input(key="launch.pretrain.mae.vit-s.landsat7-sample.image_size")
    assert box.value == 224
    box.set_value(None).run()
    assert "--set image_size=null" in test.code[0].value and not test.error


def test_tokens_are_those_of_square_views(open_page: Open, lab: Workspace) -> None:
    """Views of images that are not square have their shorter side."""
    for height, width in ((48, 16), (16, 48)):
        images = np.arange(2 * height * width, dtype=np.uint8).reshape(2, 1, height, width)
        write_arrays(lab, f"of-{height}", {"train": images}, [Band("grey", 600, 1, "uint8")])
        test = open_page(lab, "launch", pack=f"of-{height}", preset="smoke")
        assert not test.exception
        assert test.table[0].value.loc["Tokens per image"].item() == "4"


def test_launch_evaluates_several_models_as_one_run_each(open_page: Open, lab: Workspace, no_jobs: list) -> None:
    test = open_page(lab, "launch", job="evaluate")
    trained = run_of(lab, kind="pretrain", state="succeeded").id
    assert test.multiselect(key="url.model").value == [trained]
    test.multiselect(key="url.model").set_value([trained, "band-stats"]).run()
    test.text_input(key="launch.evaluate.synthetic-landsat7.severities").set_value("1, 4").run()
    test.button(key="launch.evaluate.queue").click().run()
    specs = [spec for verb, spec in no_jobs if verb == "submit"]
    assert [s.model for s in specs] == [trained, "band-stats"]
    assert all(
        isinstance(s, EvaluateSpec) and s.severities == [1, 4] and s.dataset == "synthetic-landsat7" for s in specs
    )


def test_launch_names_a_bad_factor(open_page: Open, lab: Workspace) -> None:
    test = open_page(lab, "launch", job="evaluate")
    test.text_input(key="launch.evaluate.synthetic-landsat7.severities").set_value("1, two").run()
    assert "severities" in texts(test) and test.button(key="launch.evaluate.queue").disabled


def test_launch_shows_what_was_queued_before_a_request_failed(
    open_page: Open, lab: Workspace, no_jobs: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    import jobs.client

    submit = jobs.client.submit

    def submit_one(workspace: Workspace, spec: Any) -> str:
        if len([verb for verb, _ in no_jobs if verb == "submit"]) == 1:
            raise RsfmError("The disk is full.")
        return submit(workspace, spec)

    monkeypatch.setattr(jobs.client, "submit", submit_one)
    test = open_page(lab, "launch", job="evaluate", model=["band-stats", "random:vit-nano"])
    test.button(key="launch.evaluate.queue").click().run()
    assert not test.exception
    assert "The disk is full." in texts(test) and "Watch band-stats on synthetic-landsat7" in texts(test)


def test_a_dry_run_is_believed_for_a_moment_only(
    open_page: Open, lab: Workspace, no_jobs: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = open_page(lab, "launch", preset="smoke")
    test.button(key="launch.pretrain.check").click().run()
    assert "ready to run" in texts(test)
    test.button(key="launch.pretrain.check").click().run()
    assert [verb for verb, _ in no_jobs] == ["dry_run"]
    later = time.monotonic() + 200
    monkeypatch.setattr(time, "monotonic", lambda: later)
    test.run()
    assert "ready to run" not in texts(test), "packs, models and the disk change"
    test.button(key="launch.pretrain.queue").click().run()
    assert [verb for verb, _ in no_jobs] == ["dry_run", "dry_run", "submit"]


def test_launch_evaluates_the_model_of_the_link_or_says_what_is_wrong(open_page: Open, lab: Workspace) -> None:
    absent = "20261121-093045-mae-eurosat-7f3a"
    test = open_page(lab, "launch", job="evaluate", model=absent)
    assert test.multiselect(key="url.model").value == [absent], "not silently another one"
    assert f"--model {absent}" in test.code[0].value
    trained = run_of(lab, kind="pretrain", state="succeeded").id
    test = open_page(lab, "launch", job="evaluate")
    assert test.query_params["model"] == trained
    next(b for b in test.button if b.label == "Add the baselines").click().run()
    assert set(test.query_params["model"]) >= {trained, "band-stats", "efficientnet-lite0", "random:vit-nano"}


def test_what_was_queued_is_said_once_per_visit(open_page: Open, lab: Workspace) -> None:
    test = open_page(lab, "launch", preset="smoke")
    test.button(key="launch.pretrain.queue").click().run()
    test.run()
    assert "Watch MAE on landsat7-sample" in texts(test), "it stays while the page is open"
    test.switch_page("app_pages/runs.py").run()
    test.switch_page("app_pages/launch.py").run()
    assert "Watch MAE" not in texts(test)


def test_launch_says_what_is_wrong_in_a_closed_section(open_page: Open, lab: Workspace) -> None:
    test = open_page(lab, "launch", job="prepare", dataset="synthetic-rgb")
    test.text_area(key="launch.prepare.synthetic-rgb.options").set_value("[1").run()
    assert test.button(key="launch.prepare.queue").disabled
    assert "This cannot run yet" in test.error[0].value and "options" in test.error[0].value
