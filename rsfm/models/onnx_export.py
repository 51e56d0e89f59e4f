"""An encoder as an ONNX file: band values in, one feature vector per image out, for any number of images at once."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from torch import Tensor, nn

from rsfm.errors import RsfmError
from rsfm.model_info import ModelInfo
from rsfm.models.export import EncoderModel, load_encoder, standardise

OPSET = 20
INPUT, OUTPUT = "values", "features"
#: How far the file may be from the model that it was made of.
TOLERANCE = 1e-4


class _Features(nn.Module):
    """Standardisation and encoder in one, as `FeatureModel.extract` does it."""

    def __init__(self, model: EncoderModel) -> None:
        super().__init__()
        self.encoder = model.encoder
        self.register_buffer("mean", model.mean)
        self.register_buffer("std", model.std)

    def forward(self, values: Tensor) -> Tensor:
        return self.encoder.features(standardise(values, self.mean, self.std))


def metadata(info: ModelInfo) -> dict[str, str]:
    """What stands in the file about its input: everything that is needed to feed it."""
    bands = [b.model_dump(mode="json") for b in info.bands]
    return {
        "rsfm.name": info.name, "rsfm.title": info.title, "rsfm.method": info.method or "",
        "rsfm.trained_on": info.trained_on or "", "rsfm.weights_hash": info.weights_hash,
        "rsfm.bands": json.dumps(bands, ensure_ascii=False), "rsfm.image_size": str(info.image_size),
        "rsfm.gsd_m": "" if info.gsd_m is None else f"{info.gsd_m:g}", "rsfm.sensor": info.sensor or "",
        "rsfm.preprocessing": (
            f"{INPUT}: float32 (batch, {len(bands)}, {info.image_size}, {info.image_size}), band values in the unit of "
            "rsfm.bands and in its order. The graph standardises them itself, (value - mean) / std; values that are "
            f"not finite count as the mean. {OUTPUT}: float32 (batch, {info.feature_dim})."
        ),
    }  # fmt: skip


def export_onnx(folder: Path, output: Path) -> float | None:
    """Write the model in `folder` as ONNX, with its weights inside.

    Returns:
        The largest difference from the model's own features, on random images; None where onnxruntime is not
        installed, so that the file was checked for its form only.

    Raises:
        RsfmError: the packages for ONNX are not installed, the model cannot be read or has no features in ONNX, or
            the file does not give the model's features.
    """
    onnx = _packages()
    encoder, info = load_encoder(folder)
    model = EncoderModel(encoder, info)
    example = _images(info, 2)
    try:
        program = torch.onnx.export(
            _Features(model).eval(), (example,), dynamo=True, opset_version=OPSET, input_names=[INPUT],
            output_names=[OUTPUT], dynamic_shapes=({0: torch.export.Dim("batch", min=1)},), verbose=False,
        )  # fmt: skip
    except torch.onnx.errors.OnnxExporterError as error:
        reason = str(error).strip().splitlines()[0]
        raise RsfmError(f"Model {info.name} ({info.architecture}) cannot be written as ONNX: {reason}") from error
    assert program is not None
    made = program.model_proto
    if not made.graph.input[0].type.tensor_type.shape.dim[0].dim_param:
        raise RsfmError(f"Model {info.name} ({info.architecture}) was traced for a fixed number of images.")
    for name, value in metadata(info).items():
        made.metadata_props.add(key=name, value=value)
    temporary = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        onnx.checker.check_model(made, full_check=True)
        onnx.save(made, temporary)
        difference = _difference(temporary, model, _images(info, 3))
        if difference is not None and not difference <= TOLERANCE:  # nor is NaN
            raise RsfmError(f"The ONNX file of {info.name} differs from the model by {difference:.2g}: it is not kept.")
        temporary.replace(output)
    except OSError as error:
        raise RsfmError(f"{output} cannot be written: {error.strerror or error}.") from error
    finally:
        temporary.unlink(missing_ok=True)
    return difference


def _packages() -> type:
    try:
        import onnx
        import onnxscript  # noqa: F401 - torch's exporter needs it
    except ImportError as error:
        raise RsfmError(f"ONNX needs {error.name}, which is not installed: pip install 'rsfm-lab[onnx]'") from error
    return onnx  # type: ignore[return-value]


def _images(info: ModelInfo, count: int) -> Tensor:
    """Seeded images around each band's mean, one value of them missing."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(count, len(info.bands), info.image_size, info.image_size, generator=generator)
    mean, std = (torch.tensor([getattr(b, n) for b in info.bands]).view(1, -1, 1, 1) for n in ("mean", "std"))
    values = noise * std + mean
    values[0, 0, 0, 0] = float("nan")
    return values


def _difference(file: Path, model: EncoderModel, images: Tensor) -> float | None:
    try:
        import onnxruntime
    except ImportError:
        return None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    found = torch.from_numpy(session.run([OUTPUT], {INPUT: images.numpy()})[0])
    return float((found - model.extract(images)).abs().max())
