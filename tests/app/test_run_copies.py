"""A new request that starts from an old run: what the form takes over, and what it says of the rest."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs

from lab import make_lab
from shown import run_of, texts
from streamlit.testing.v1 import AppTest

from rsfm.specs import EvaluateSpec, PrepareSpec, PretrainSpec, pretrain_spec
from rsfm.store.files import write_json
from rsfm.store.runs import create_run
from rsfm.workspace import Workspace

Open = Callable[..., AppTest]


def copy_of(test: AppTest) -> dict[str, str]:
    """The query of the link that opens the form."""
    link = next(e.proto for e in test.get("page_link") if e.proto.label == "Edit a copy")
    return {name: values[0] for name, values in parse_qs(link.query_string).items()}


def test_a_copy_is_the_request_of_the_run(open_page: Open, tmp_path: Path, no_jobs: list) -> None:
    workspace = make_lab(tmp_path / "w")
    settings = ["mask_ratio=0.6", "optim.samples=704", "encoder.depth=3", 'bands=["B1","B3"]', "init.weights=timm:x"]
    specs = [
        pretrain_spec("mae", "landsat7-sample", "smoke", settings, seed=5),
        EvaluateSpec(
            model="band-stats", dataset="synthetic-landsat7", adaptations=["knn"], severities=[1, 3], knn_k=7
        ),
        PrepareSpec(dataset="synthetic-rgb", limit=9, options={"count": 12}),
    ]  # fmt: skip
    for spec in specs:
        run = create_run(workspace, spec)
        query = copy_of(open_page(workspace, "run", run=run.id))
        test = open_page(workspace, "launch", **query)
        assert not test.exception and not test.warning and not test.error, spec.kind
        test.button(key=f"launch.{spec.kind}.queue").click().run()
        assert no_jobs[-1][1].model_dump() == spec.model_dump(), spec.kind


def test_a_copy_says_what_it_cannot_take_over(open_page: Open, tmp_path: Path, no_jobs: list) -> None:
    workspace = make_lab(tmp_path / "w")
    run = create_run(workspace, pretrain_spec("mae", "landsat7-sample", "smoke"))
    data = run.envelope()
    spec = data["spec"] | {"bands": ["B1", "B99"], "old": 1, "dataset": "gone", "preset": "was"}
    spec["optim"] |= {"momentum_of_old": 0.9, "batch_size": 0}
    write_json(run.path / "spec.json", data | {"spec": spec})
    test = open_page(workspace, "launch", **{"from": run.id}, method="mae", preset="smoke", pack="landsat7-sample")
    said = test.warning[0].value.replace("\\", "")
    for words in ("optim.momentum_of_old does not exist", "old does not", "B99", "dataset gone", "batch_size = 0"):
        assert words in said, words
    test.button(key="launch.pretrain.queue").click().run()
    made = no_jobs[-1][1]
    assert isinstance(made, PretrainSpec) and made.bands == ["B1"] and made.optim.batch_size == 32
    next(b for b in test.button if b.key == "launch.afresh").click().run()
    assert "from" not in test.query_params and not test.warning


def test_a_copy_whose_tokenizer_is_gone_asks_for_another(open_page: Open, tmp_path: Path, no_jobs: list) -> None:
    workspace = make_lab(tmp_path / "w")
    trained = run_of(workspace, kind="pretrain", state="succeeded").id
    run = create_run(workspace, pretrain_spec("beit_vq", "landsat7-sample", "smoke", [f"tokenizer={trained}"]))
    query = copy_of(open_page(workspace, "run", run=run.id))

    def opened() -> tuple[list[str], list[str]]:
        test = open_page(workspace, "launch", **query)
        return [e.label for e in test.expander if e.proto.expanded], [w.value for w in test.warning]

    sections, warnings = opened()
    assert sections == ["BEiT with a self-trained VQ tokenizer"] and "tokenizer" in warnings[0]
    file = workspace.models / trained / "model.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"method": "vq_tokenizer"}))
    assert opened() == ([], [])


def test_with_another_method_nothing_is_filled_in(open_page: Open, lab: Workspace) -> None:
    run = run_of(lab, kind="pretrain", state="failed")
    test = open_page(lab, "launch", **{"from": run.id}, method="simclr")
    assert "another method" in texts(test) and not test.warning
    test = open_page(lab, "launch", **{"from": "20260101-000000-not-there-0000"})
    assert "There is no run" in texts(test) and not test.exception
