"""Encoders as ONNX: the same features in another program, from values in the bands' own units."""

from __future__ import annotations

import builtins
import json
from pathlib import Path

import pytest
import torch

from rsfm.errors import RsfmError
from rsfm.model_info import ModelBand, ModelInfo
from rsfm.models import onnx_export
from rsfm.models.export import load_model, save_model
from rsfm.models.onnx_export import export_onnx
from rsfm.models.resnet import ResNet
from rsfm.models.vit import Encoder, build_encoder
from rsfm.specs import EncoderParams, ResNetParams

BANDS = [
    ModelBand(name=n, wavelength_nm=None, gsd_m=30, unit="dn", mean=m, std=s)
    for n, m, s in (("B4", 2000.0, 500.0), ("B3", 90.0, 9.0))
]


def saved(folder: Path, encoder: Encoder) -> Path:
    info = ModelInfo(
        name="20260101-000000-mae-x-0000", title="X", architecture=encoder.architecture, encoder=encoder.config(),
        image_size=16, feature_dim=encoder.feature_dim, bands=BANDS, group="g", weights_hash="", created="2026",
    )  # fmt: skip
    save_model(folder, encoder, info)
    return folder


@pytest.mark.parametrize("positions", ["sincos", "relative"])
def test_a_vit_gives_the_same_features_for_any_number_of_images(tmp_path: Path, positions: str) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    params = EncoderParams(patch_size=8, width=16, depth=2, heads=2, positions=positions, pooling="mean")  # type: ignore[arg-type]
    folder = saved(tmp_path / "m", build_encoder(params, 2, 16, seed=0))
    difference = export_onnx(folder, tmp_path / "m.onnx")
    assert difference is not None and difference < 1e-4
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    model = load_model(folder)
    for count in (1, 5):
        values = torch.randn(count, 2, 16, 16) * 400 + 1000
        values[0, 1, 3, 3] = float("inf")
        found = torch.from_numpy(session.run(["features"], {"values": values.numpy()})[0])
        assert torch.allclose(found, model.extract(values), atol=1e-4)
    said = session.get_modelmeta().custom_metadata_map
    assert [(b["name"], b["unit"], b["mean"], b["std"]) for b in json.loads(said["rsfm.bands"])] == [
        ("B4", "dn", 2000.0, 500.0), ("B3", "dn", 90.0, 9.0)
    ]  # fmt: skip
    assert "standardises them itself" in said["rsfm.preprocessing"]
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["m.onnx"]


def test_a_network_in_training_mode_is_written_as_it_evaluates(tmp_path: Path) -> None:
    """Batch statistics of a convolutional network must not be those of the images that it was traced with."""
    pytest.importorskip("onnxruntime")
    encoder = ResNet(ResNetParams(layers="resnet18", stem="small"), 2, 16)
    for module in encoder.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.fill_(0.3)
    difference = export_onnx(saved(tmp_path / "m", encoder.train()), tmp_path / "m.onnx")
    assert difference is not None and difference < 1e-4


def test_a_file_that_gives_no_numbers_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxscript")
    monkeypatch.setattr(onnx_export, "_difference", lambda *a: float("nan"))
    folder = saved(tmp_path / "m", build_encoder(EncoderParams(width=16, depth=1, heads=2), 2, 16, seed=0))
    with pytest.raises(RsfmError, match="differs from the model by nan"):
        export_onnx(folder, tmp_path / "m.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_missing_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: object, **more: object) -> object:
        if name.split(".")[0] == "onnxscript":
            raise ModuleNotFoundError("No module named 'onnxscript'", name="onnxscript")
        return real(name, *args, **more)  # type: ignore[arg-type]

    folder = saved(tmp_path / "m", build_encoder(EncoderParams(width=16, depth=1, heads=2), 2, 16, seed=0))
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(RsfmError, match=r"onnxscript, which is not installed: pip install 'rsfm-lab\[onnx\]'"):
        export_onnx(folder, tmp_path / "m.onnx")
    assert not (tmp_path / "m.onnx").exists()
