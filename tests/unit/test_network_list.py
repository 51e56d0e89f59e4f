"""The list of trained networks: read once, and again only where something was written."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from rsfm import network_info
from rsfm.model_info import ModelBand
from rsfm.network_info import NetworkInfo, list_networks
from rsfm.packs import BandInfo, LayerInfo, PackInfo
from rsfm.workspace import Workspace

BAND = ModelBand(name="B1", wavelength_nm=500.0, gsd_m=30, unit="uint8", mean=90.0, std=20.0)
PACK = PackInfo(
    name="p", dataset="p", title="P", task="segmentation", classes=["a", "b"], splits={"train": 1}, content_hash="h",
    layers=[
        LayerInfo(
            dtype="uint8", shape=(1, 8, 8), bands=[BandInfo(name="B1", wavelength_nm=500, gsd_m=30, unit="uint8")]
        )
    ],
    request_hash="r", source="", synthetic=True, created="2026", skipped=[],
)  # fmt: skip


def keep(workspace: Workspace, number: int, adaptation: str = "linear", title: str = "M") -> NetworkInfo:
    run_id = f"20260101-{number:06d}-eval-x-p-0000"
    info = NetworkInfo(
        run_id=run_id, adaptation=adaptation, eval_seed=0, model="m", model_title=title, model_key="k",
        task="segmentation", classes=["a", "b"], image_size=(8, 8), bands=[BAND], pack=PACK, weights_hash="w", bytes=1,
        created="2026",
    )  # fmt: skip
    folder = info.folder(workspace)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "network.json").write_text(info.model_dump_json())
    return info


def test_only_what_changed_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = Workspace(tmp_path / "w")
    assert list_networks(workspace) == ([], {})
    old, new = keep(workspace, 1), keep(workspace, 2)
    (workspace.runs / "20260101-000003-mae-p-0000").mkdir()
    going = workspace.runs / "20260101-000000-eval-x-p-0000"
    (going / "models" / ".half").mkdir(parents=True)
    assert list_networks(workspace) == ([new, old], {}), "the newest run first"

    read: list[str] = []
    real = network_info.networks_of
    monkeypatch.setattr(network_info, "networks_of", lambda run: read.append(run.id) or real(run))
    assert list_networks(workspace) == ([new, old], {}) and read == []
    more = keep(workspace, 1, "decoder")
    assert list_networks(workspace) == ([new, old, more], {}) and read == [old.run_id]
    other = keep(workspace, 2, title="Trained again")
    assert list_networks(workspace) == ([other, old, more], {}) and read == [old.run_id, new.run_id]
    (other.folder(workspace) / "network.json").write_text("{")
    assert list_networks(workspace)[0] == [old, more] and list(list_networks(workspace)[1]) == [new.run_id]
    shutil.rmtree(workspace.runs / old.run_id)
    first = keep(workspace, 0)  # its first network, in a folder that was there
    assert list_networks(workspace)[0] == [first] and len(read) == 4
