"""Models that are handed on: what is written, what comes back from it, and what is refused."""

from __future__ import annotations

import io
import json
import math
import os
import pickle
import re
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load, load_file, save

from jobs import imports
from rsfm import model_package
from rsfm.bands import Band
from rsfm.cli import main
from rsfm.errors import RsfmError
from rsfm.model_card import CardFacts, gather, model_card
from rsfm.model_info import ModelBand, ModelInfo, ModelOrigin
from rsfm.model_package import CARD, DESCRIPTION, WEIGHTS, staging_name, write_package
from rsfm.models import importing
from rsfm.models.baselines import resolve
from rsfm.models.export import load_model, save_model, weights_hash
from rsfm.models.importing import import_model
from rsfm.models.vit import build_encoder
from rsfm.pack_arrays import write_arrays
from rsfm.specs import EncoderParams, EvaluateSpec, PredictSpec, pretrain_spec
from rsfm.store.job import JobContext
from rsfm.store.runs import create_run
from rsfm.store.view import Store
from rsfm.workspace import Workspace

NAME = "20260101-000000-mae-tiles-0000"
BANDS = [
    ModelBand(name=n, wavelength_nm=500.0, gsd_m=30, unit="uint8", mean=90.0 + i, std=20.0 + i)
    for i, n in enumerate(("B1", "B2", "B3"))
]


def make_model(workspace: Workspace, name: str = NAME, **changes: object) -> Path:
    encoder = build_encoder(EncoderParams(patch_size=8, width=16, depth=1, heads=2), 3, 16, seed=1)
    info = ModelInfo(
        name=name, title="A | <b>model</b>", architecture="vit", encoder=encoder.config(), image_size=16,
        feature_dim=16, bands=BANDS, method="mae", run_id=name, group="g", trained_on="tiles", step=3, samples=24,
        gsd_m=30.0, sensor="landsat-7", weights_hash="", created="2026-01-01T00:00:00+00:00",
    ).model_copy(update=changes)  # fmt: skip
    folder = workspace.models / name
    save_model(folder, encoder, info)
    return folder


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A model's zip, from another workspace."""
    folder = make_model(Workspace(tmp_path / "other"))
    write_package(folder, "# card\n", tmp_path / "model.zip")
    return tmp_path / "model.zip"


def left_over(workspace: Workspace) -> list[str]:
    return sorted(p.name for p in workspace.models.iterdir()) if workspace.models.exists() else []


def test_what_comes_back_gives_the_same_features(tmp_path: Path, package: Path, workspace: Workspace) -> None:
    info = import_model(package, workspace, called="of a friend.zip")
    values = torch.randint(0, 255, (4, 3, 16, 16), generator=torch.Generator().manual_seed(0)).float()
    there, here = load_model(tmp_path / "other" / "models" / NAME), load_model(workspace.models / NAME)
    assert torch.equal(there.extract(values), here.extract(values)) and here.key == there.key
    assert left_over(workspace) == [NAME]
    origin = ModelOrigin.read(workspace.models / NAME)
    assert origin is not None and origin.file == "of a friend.zip" and ModelOrigin.read(tmp_path) is None
    store = Store(workspace)
    store.refresh_if_stale(0)
    row = store.models().iloc[0]
    assert row["name"] == info.name and row["problem"] is None and not pd.isna(row["imported"])
    assert row["parameters"] == sum(t.numel() for t in load_file(workspace.models / NAME / WEIGHTS).values())
    # A folder comes in as well, and what came in can be handed on: its own origin is not.
    again = Workspace(tmp_path / "third")
    import_model(workspace.models / NAME, again)
    assert ModelOrigin.read(again.models / NAME).file == NAME  # type: ignore[union-attr]


def test_an_imported_model_is_evaluated_like_any_other(package: Path, workspace: Workspace) -> None:
    bands = [Band(b.name, b.wavelength_nm, b.gsd_m, b.unit) for b in reversed(BANDS)]  # in another order
    images = np.random.default_rng(0).integers(0, 255, (4, 3, 16, 16)).astype(np.uint8)
    pack = write_arrays(workspace, "tiles", {"train": images}, bands, labels={"train": ["a", "b"] * 2}, gsd_m=30)
    import_model(package, workspace)
    spec = EvaluateSpec(model=NAME, dataset="tiles")
    model = resolve(spec, pack, workspace)
    assert (model.name, model.group, [b.name for b in model.bands]) == (NAME, "g", ["B1", "B2", "B3"])
    values = torch.from_numpy(images[:, ::-1].astype(np.float32))
    assert torch.equal(model.extract(values), load_model(workspace.models / NAME).extract(values))
    assert create_run(workspace, spec).envelope()["group"], "its run need not be here"


def test_a_model_that_is_here_stays_as_it_is(tmp_path: Path, package: Path, workspace: Workspace) -> None:
    import_model(package, workspace)
    with pytest.raises(RsfmError, match="here already, with the same weights"):
        import_model(package, workspace)
    other = Workspace(tmp_path / "b")
    folder = make_model(other)
    state = load_file(folder / WEIGHTS)
    before = (workspace.models / NAME / WEIGHTS).read_bytes()
    encoder = load_model(folder).encoder  # type: ignore[attr-defined]
    encoder.load_state_dict({name: t + 1 for name, t in state.items()})
    save_model(folder, encoder, ModelInfo.read(folder))
    with pytest.raises(RsfmError, match="with other weights"):
        import_model(folder, workspace)
    assert (workspace.models / NAME / WEIGHTS).read_bytes() == before and left_over(workspace) == [NAME]


class Bomb:
    """Leaves a trace when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (os.environ["RSFM_TEST_TRACE"],)


def rezip(package: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """The package with other members."""
    with zipfile.ZipFile(package) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    change(files)
    with zipfile.ZipFile(package, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return package


def described(**changes: object) -> Callable[[dict[str, bytes]], None]:
    def change(files: dict[str, bytes]) -> None:
        data = json.loads(files[DESCRIPTION])
        for name, value in changes.items():
            place, _, last = name.rpartition("__")
            (data[place] if place else data)[last] = value
        files[DESCRIPTION] = json.dumps(data).encode()

    return change


def weights(change: Callable[[dict[str, torch.Tensor]], None]) -> Callable[[dict[str, bytes]], None]:
    def inner(files: dict[str, bytes]) -> None:
        state = load(files[WEIGHTS])
        change(state)
        files[WEIGHTS] = save(state)

    return inner


def _cut(files: dict[str, bytes]) -> None:
    files[WEIGHTS] = files[WEIGHTS][:-7]


def relative(files: dict[str, bytes]) -> None:
    described(image_size=512, encoder__patch_size=2, encoder__positions="relative")(files)


def not_finite(files: dict[str, bytes]) -> None:
    """Weights that diverged, described truly."""
    weights(lambda s: s.update({"norm.bias": s["norm.bias"] * math.nan}))(files)
    described(weights_hash=weights_hash(load(files[WEIGHTS])))(files)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda f: f.update({"../../evil.json": b"{}"}), "no plain file"),
        (lambda f: f.update({"/etc/evil": b""}), "no plain file"),
        (lambda f: f.update({"a\\..\\evil": b""}), "no plain file"),
        (lambda f: f.update({"x/y/z.json": b""}), "no plain file"),
        (lambda f: f.update({"setup.py": b""}), "no place in a model"),
        (lambda f: f.update({"pytorch_model.bin": pickle.dumps(Bomb())}), "pickled"),
        (lambda f: f.update({WEIGHTS: pickle.dumps(Bomb())}), "not a whole safetensors"),
        (lambda f: f.pop(WEIGHTS), "is missing"),
        (lambda f: f.update({f"m/{DESCRIPTION}": b"{}"}), "twice"),
        (lambda f: f.update({CARD: b" " * 1_000_001}), "larger than"),
        (_cut, "not a whole safetensors"),
        (lambda f: f.update({DESCRIPTION: b"\x00"}), "not a readable model"),
        (described(format=2), "format 2"),
        (described(surprise=1, title=3), r"model.zip: model.json is not .*: title: .*; surprise: [^\n]*$"),
        (described(name="../up"), "not the id of a run"),
        (described(image_size=8192, encoder__width=4096), "more than fit"),
        # Attention's index is N² numbers and computed; a text is a number to the validation.
        (relative, "34,[0-9,]+ bytes|1[0-9]{2},[0-9,]+ bytes"),
        (described(image_size=8192, encoder__patch_size="2"), "more than fit"),
        (described(bands=[BANDS[0].model_dump() | {"gsd_m": math.nan}]), "GSD nan"),
        (described(gsd_m=math.nan), "its GSD is nan"),
        (described(seed=10**30), "seed is not between"),
        (described(samples=-1), "samples is not between"),
        (described(trained_on="x" * 300_000), "trained_on is longer than 300"),
        (described(run_id="20260101-000000-mae-other-1111"), "whose model has another name"),
        (described(pooling="class_token"), "pools by mean_patch"),
        (described(encoder__width=18), "not sound|do not fit"),
        (described(encoder__depth=9), "do not fit"),
        (described(architecture="mystery"), "mystery"),
        (described(feature_dim=17), "17"),
        (described(weights_hash="0" * 32), "content hash"),
        (described(bands=[]), "it needs bands"),
        (described(bands=[BANDS[0].model_dump() | {"std": 0}, *(b.model_dump() for b in BANDS[1:])]), "deviation 0"),
        (weights(lambda s: s.update({"norm.bias": s["norm.bias"] + 1})), "content hash"),
        (not_finite, "norm.bias: no features"),
        (lambda f: f.update({WEIGHTS: f[WEIGHTS] + bytes(2_000_000)}), "larger than"),
        (weights(lambda s: s.update({"backdoor": torch.zeros(3)})), "backdoor"),
        (weights(lambda s: s.pop("norm.bias")), "norm.bias"),
    ],
)  # fmt: skip
def test_what_is_no_sound_model_is_refused_and_leaves_nothing(
    tmp_path: Path, package: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch,
    change: Callable[[dict[str, bytes]], None], says: str,
) -> None:  # fmt: skip
    trace = tmp_path / "unpickled"
    monkeypatch.setenv("RSFM_TEST_TRACE", str(trace))
    with pytest.raises(RsfmError, match=says):
        import_model(rezip(package, change), workspace)
    assert left_over(workspace) == [] and not trace.exists()
    assert not list(tmp_path.glob("**/evil*"))


def test_what_is_no_zip_and_links_are_refused(tmp_path: Path, package: Path, workspace: Workspace) -> None:
    (tmp_path / "half.zip").write_bytes(package.read_bytes()[:500])
    with pytest.raises(RsfmError, match="not a whole zip"):
        import_model(tmp_path / "half.zip", workspace)
    with pytest.raises(RsfmError, match="There is nothing at"):
        import_model(tmp_path / "nothing", workspace)
    link = zipfile.ZipInfo(CARD)
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(package, "a") as archive:
        archive.writestr(zipfile.ZipInfo("m/README.md"), "x")
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(RsfmError, match="no plain file"):
        import_model(tmp_path / "link.zip", workspace)
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in (WEIGHTS, DESCRIPTION):
        (folder / name).symlink_to(tmp_path / "other" / "models" / NAME / name)
    with pytest.raises(RsfmError, match="not a regular file"):
        import_model(folder, workspace)
    assert left_over(workspace) == []


def test_a_damaged_stream_and_a_zip_bomb_are_refused(
    package: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    rezip(package, lambda f: None)
    data = bytearray(package.read_bytes())
    at = data.index(WEIGHTS.encode()) + len(WEIGHTS)
    for i in range(at + 5, at + 60):
        data[i] ^= 0xFF
    package.with_name("damaged.zip").write_bytes(data)
    with pytest.raises(RsfmError, match="not a whole zip file: Error"):
        import_model(package.with_name("damaged.zip"), workspace)
    written: list[int] = []
    monkeypatch.setattr(importing, "load_encoder", lambda folder: pytest.fail("it was read"))
    real = model_package._copy
    monkeypatch.setattr(model_package, "_copy", lambda *a: written.append(a[2]) or real(*a))  # type: ignore[func-returns-value]
    with pytest.raises(RsfmError, match=f"{WEIGHTS} in model.zip is larger than"):
        import_model(rezip(package, lambda f: f.update({WEIGHTS: bytes(40_000_000)})), workspace)
    assert max(written) < 2_000_000 and left_over(workspace) == []


def test_a_run_that_is_here_keeps_its_name(package: Path, workspace: Workspace) -> None:
    (workspace.runs / NAME).mkdir(parents=True)
    with pytest.raises(RsfmError, match=f"Run {NAME} is in this workspace"):
        import_model(package, workspace)
    assert left_over(workspace) == []


def test_what_a_killed_import_left_is_swept(package: Path, workspace: Workspace) -> None:
    for name in (".import-1-old", ".upload-old", ".import-2-new"):
        (workspace.models / name).mkdir(parents=True)
        (workspace.models / name / WEIGHTS).write_bytes(b"half")
        if name.endswith("old"):
            for path in (workspace.models / name / WEIGHTS, workspace.models / name):
                os.utime(path, (time.time() - 7200,) * 2)
    import_model(package, workspace)
    assert left_over(workspace) == [".import-2-new", NAME], "one that somebody works on stays"


def test_the_import_of_the_dashboard(package: Path, workspace: Workspace) -> None:
    """In a process of its own."""
    assert imports.import_model(workspace, package, "of a friend.zip") == NAME
    assert ModelOrigin.read(workspace.models / NAME).file == "of a friend.zip"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("end", "says"),
    [
        ("time.sleep(60)", "longer than 3 seconds"),
        ("os.kill(os.getpid(), signal.SIGKILL)", f"signal {signal.SIGKILL:d}"),
        (
            "(p / 'half').unlink(); p.rmdir(); sys.exit('error: u.zip: model.json is odd.')",
            "^m.zip: model.json is odd.$",
        ),
    ],
    ids=["timeout", "killed", "refused"],
)
def test_an_import_that_fails_leaves_nothing(
    tmp_path: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, end: str, says: str
) -> None:
    code = (
        f"import os, pathlib, signal, sys, time; from rsfm.model_package import staging_name as s; "
        f"p = pathlib.Path({str(workspace.models)!r}, s(os.getpid()) + 'x'); p.mkdir(parents=True); "
        f"(p / 'half').write_text('x'); {end}"
    )
    real = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda command, **o: real([sys.executable, "-c", code], **o))
    other = workspace.models / f"{staging_name(1)}x"
    other.mkdir(parents=True)
    with pytest.raises(RsfmError, match=says):
        imports.import_model(workspace, tmp_path / "u.zip", "m.zip", timeout_s=3 if "sleep" in end else 60)
    assert left_over(workspace) == [other.name]


def test_weights_do_not_fill_the_disk(package: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Workspace, "free_bytes", lambda self: 500_001_000)
    with pytest.raises(RsfmError, match=r"larger than \d{3} bytes"):
        import_model(package, workspace)
    assert left_over(workspace) == []


def test_the_card_says_what_is_known_and_escapes_what_people_wrote(workspace: Workspace) -> None:
    trained = create_run(workspace, pretrain_spec("mae", "tiles", "smoke", ["mask_ratio=0.6"]))
    folder = make_model(workspace, trained.id)
    run = create_run(workspace, EvaluateSpec(model=trained.id, dataset="pack"))
    run.add_event(state="succeeded", attempt=1)
    row = {
        "model": trained.id, "model_title": "M", "model_group": "g", "model_seed": 0, "dataset": "pa|ck",
        "pack_hash": "h", "synthetic": True, "split": "test", "task": "classification", "adaptation": "knn (knn_k=3)",
        "bands": "B1", "operator": "bilinear", "severity": 2, "gsd_m": 10.0, "degrade_target": "single",
        "train_degrade": "none", "metric": "accuracy", "value": 0.5, "ci_low": 0.25, "ci_high": 0.75, "n": 100,
    }  # fmt: skip
    JobContext(workspace, run, 1).scores([row | {"eval_seed": e, "value": 0.5 + e / 10} for e in (0, 1)])
    store = Store(workspace)
    store.refresh_if_stale(0)
    licence = type("Entry", (), {"licence": "CC BY 4.0", "citation": "A. Author"})()
    info = ModelInfo.read(folder)
    card = model_card(info, gather(store, info, folder, {"tiles": licence}))
    assert "\n# " not in card[1:] and "<b>" not in card.replace("\\<b", ""), "a title is text"
    for words in (
        "CC BY 4.0", "A. Author", "| 0 | B1 | 500 | 30 | uint8 | 90 | 20 |", "pa\\|ck (synthetic)", "0.55",
        "kNN (knn\\_k=3)", "2 evaluation seeds", "method\\_params.mask\\_ratio | 0.6", "bilinear 2",
        f'load_model(Path("{trained.id}"))', "(B, 16)",
    ):  # fmt: skip
        assert words in card, words
    assert card.count("| 95 % interval |") == 1
    assert "came from one pack only" in card
    warm = model_card(info, CardFacts(parameters=1, spec={"init": {"weights": "older"}}))
    assert "after those that its starting weights had seen, older" in warm and "one pack only" not in warm
    bare = model_card(info, CardFacts(parameters=1))
    assert "with what weights it began is not known" in bare
    assert "not recorded" in bare and "None was measured" in bare and "not in this workspace" in bare


def test_export_and_import_from_a_terminal(
    tmp_path: Path, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    def rsfm(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main(list(words))
        said = capsys.readouterr()
        return int(end.value.code or 0), said.out, said.err

    here, there = ("--workspace", str(workspace.root)), ("--workspace", str(tmp_path / "there"))
    make_model(workspace, title="T\x1b[2J\u202e")
    file = tmp_path / "m.zip"
    assert rsfm("export", NAME, "--output", str(file), *here)[0] == 0
    with zipfile.ZipFile(file) as archive:
        assert sorted(archive.namelist()) == sorted([WEIGHTS, DESCRIPTION, CARD])
        assert archive.testzip() is None and b"## Bands" in archive.read(CARD)
    code, _, said = rsfm("export", NAME, "--output", str(file), *here)
    assert code == 2 and "exists" in said
    assert rsfm("export", "../x", "--output", str(tmp_path / "n.zip"), *here)[0] == 2
    code, out, said = rsfm("import", str(file), *there)
    assert (code, out.strip()) == (0, NAME) and said.startswith("T[2J: evaluate it with rsfm evaluate --model")
    assert re.search("here already", rsfm("import", str(file), *there)[2])
    rezip(file, described(**{"\x1b[2J": 1}))
    assert re.search(r"^error: m\.zip: .*\[2J: ", said := rsfm("import", str(file), *there)[2]) and "\x1b" not in said


def test_a_package_can_be_written_into_memory(workspace: Workspace) -> None:
    buffer = io.BytesIO()
    write_package(make_model(workspace), "card", buffer)
    with zipfile.ZipFile(buffer) as archive:
        assert archive.read(CARD) == b"card"


def test_what_was_made_of_a_model(workspace: Workspace) -> None:
    other = "20260101-000000-mae-other-1111"
    asked = create_run(workspace, EvaluateSpec(model=NAME, dataset="pack"))
    warm = create_run(workspace, pretrain_spec("mae", "tiles", "smoke", [f"init.weights={NAME}"]))
    drawn = create_run(workspace, PredictSpec(evaluation=asked.id, scene="/s.tif"))
    create_run(workspace, EvaluateSpec(model=f"random:{NAME}", dataset="pack"))
    create_run(workspace, PredictSpec(evaluation=other, scene=f"/{NAME}.tif"))
    store = Store(workspace)
    store.refresh_if_stale(0)
    uses = store.uses_of(NAME)
    assert dict(zip(uses["run_id"], uses["role"], strict=True)) == {
        asked.id: "model", warm.id: "start", drawn.id: "network"
    }  # fmt: skip
    assert store.uses_of(other).empty
