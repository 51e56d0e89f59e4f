"""Launch offers and sends what the chosen adaptations and models use, and nothing else."""

from __future__ import annotations

from pathlib import Path

from lab import make_lab
from shown import Open
from streamlit.testing.v1 import AppTest

from rsfm.evaluation.unused import refuse_unused
from rsfm.specs import EvaluateSpec
from rsfm.store.runs import create_run
from rsfm.tasks import TASKS
from rsfm.workspace import Workspace

PACK = "synthetic-landsat7"
FORM = f"launch.evaluate.{PACK}"


def offered(test: AppTest, form: str = FORM) -> set[str]:
    """Names of the form's fields, dotted."""
    fields = [*test.number_input, *test.selectbox, *test.toggle, *test.multiselect, *test.text_input]
    return {str(w.key).removeprefix(f"{form}.") for w in fields if str(w.key).startswith(f"{form}.")}


def choose(test: AppTest, *adaptations: str, form: str = FORM) -> AppTest:
    return test.multiselect(key=f"{form}.adaptations").set_value(list(adaptations)).run()


def queued(test: AppTest, sent: list) -> list[EvaluateSpec]:
    sent.clear()
    test.button(key="launch.evaluate.queue").click().run()
    assert not test.exception
    return [spec for verb, spec in sent if verb == "submit"]


def test_fields_come_and_go_with_the_adaptations(open_page: Open, lab: Workspace) -> None:
    test = open_page(lab, "launch", job="evaluate", pack=PACK, model="band-stats")
    assert {"knn_k", "knn_temperature", "images_per_pass"} <= offered(test)
    fitting = {name for name in offered(test) if name.startswith("fit.")}
    assert fitting == {"fit.train_degrade"}, "the one that says what features are fitted on"
    assert not {"model_seed", "bootstrap", "maps_gb"} & offered(test)
    shown = offered(choose(test, "centroid", "finetune"))
    assert {"knn_temperature", "fit.lr", "fit.layer_decay"} <= shown
    assert not {"knn_k", "fit.fusion", "fit.decoder_width", "fit.pool_width"} & shown
    assert "model_seed" in offered(open_page(lab, "launch", job="evaluate", pack=PACK, model="random:vit-nano"))


def test_what_was_set_for_another_adaptation_is_not_sent(open_page: Open, lab: Workspace, no_jobs: list) -> None:
    test = choose(
        open_page(lab, "launch", job="evaluate", pack=PACK, model=["band-stats", "random:vit-nano"]), "finetune"
    )
    test.number_input(key=f"{FORM}.fit.epochs").set_value(3).run()
    test.number_input(key=f"{FORM}.model_seed").set_value(5).run()
    floor, other = queued(test, no_jobs)
    assert (floor.fit.epochs, floor.model_seed) == (3, 0) and (other.fit.epochs, other.model_seed) == (3, 5)
    floor, other = queued(choose(test, "linear"), no_jobs)
    for spec in (floor, other):
        assert spec.fit.epochs == 20
        refuse_unused(spec, TASKS["classification"])
    assert queued(choose(test, "finetune"), no_jobs)[0].fit.epochs == 3, "kept for when it means something"


def test_training_images_can_be_degraded_for_what_is_solved_on_features(
    open_page: Open, lab: Workspace, no_jobs: list
) -> None:
    test = open_page(lab, "launch", job="evaluate", pack=PACK, model="band-stats")
    test.toggle(key=f"{FORM}.fit.train_degrade").set_value(True).run()
    (spec,) = queued(choose(test, "knn", "centroid", "linear"), no_jobs)
    assert spec.fit.train_degrade and spec.fit == EvaluateSpec(model="m", dataset="d").fit.model_copy(
        update={"train_degrade": True}
    )
    refuse_unused(spec, TASKS["classification"])


def test_a_preset_stays_whole_where_its_fields_are_not_shown(open_page: Open, lab: Workspace, no_jobs: list) -> None:
    preset = "dstnsp-scenes"
    test = open_page(lab, "launch", job="evaluate", pack=PACK, model="band-stats", settings=preset)
    (spec,) = queued(choose(test, "linear", form=f"{FORM}.{preset}"), no_jobs)
    assert spec.preset == preset and spec.fit.epochs == 100 and not spec.unused(TASKS["classification"])


def test_a_copy_leaves_out_what_nothing_used(open_page: Open, tmp_path: Path, no_jobs: list) -> None:
    workspace = make_lab(tmp_path / "w")
    spec = EvaluateSpec(model="band-stats", dataset=PACK, adaptations=["linear"], knn_k=7, severities=[1, 3])
    run = create_run(workspace, spec)
    test = open_page(
        workspace, "launch", **{"from": run.id}, job="evaluate", pack=PACK, model="band-stats", settings="own"
    )
    (made,) = queued(test, no_jobs)
    assert made == spec.only_used(TASKS["classification"]) and made.severities == [1, 3] and made.knn_k == 20
