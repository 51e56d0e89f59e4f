"""Presets that bear a paper's name have its numbers."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from rsfm.evaluation.networks import LabelNetwork
from rsfm.methods.base import decay_groups
from rsfm.models.vit import build_encoder
from rsfm.specs import EncoderParams, FitParams, PretrainSpec, pretrain_spec

IMAGENET = 1_280_000
SHAPES = {"vit-s": (384, 12, 6), "vit-b": (768, 12, 12)}

#: (method, preset) -> settings by their path. Of iBOT and the MillionAID recipe, as the authors' commands have them.
NUMBERS: dict[tuple[str, str], dict[str, Any]] = {
    ("ibot", "vit-s"): {
        "optim.samples": 800 * IMAGENET, "optim.batch_size": 1024, "optim.peak_lr": 2e-3, "optim.min_lr": 1e-6,
        "optim.warmup_samples": 10 * IMAGENET, "optim.weight_decay": 0.04, "optim.weight_decay_end": 0.4,
        "optim.grad_clip": 3.0, "optim.clip_norm": "tensor", "optim.beta1": 0.9, "optim.beta2": 0.999,
        "params.freeze_prototypes_samples": IMAGENET, "params.ema_start": 0.996, "params.ema_end": 1.0,
        "params.student_temperature": 0.1, "params.teacher_temperature_start": 0.04, "params.teacher_temperature": 0.07,
        "params.temperature_warmup_samples": 30 * IMAGENET, "params.patch_temperature_start": 0.04,
        "params.patch_temperature": 0.07, "params.prototypes": 8192, "params.global_min_scale": 0.25,
        "params.local_crops": 10, "params.local_size": 96, "params.local_min_scale": 0.05,
        "params.local_max_scale": 0.25, "params.mask_kind": "block", "params.mask_ratios": [0.0, 0.3],
        "params.mask_spreads": [0.0, 0.2], "params.shared_head": True, "params.free_gain": True,
        "encoder.drop_path": 0.1, "params.augment.flips": "horizontal", "params.lambda_overlap": 0.0,
    },
    ("ibot", "millionaid"): {
        "optim.samples": 200_000_000, "optim.batch_size": 1024, "optim.peak_lr": 1e-3, "optim.min_lr": 2e-6,
        "optim.warmup_samples": 5_000_000, "optim.weight_decay": 0.04, "optim.weight_decay_end": 0.4,
        "optim.grad_clip": 0.3, "optim.clip_norm": "tensor", "params.freeze_prototypes_samples": 3_000_000,
        "params.ema_start": 0.996, "params.ema_end": 1.0, "params.student_temperature": 0.1,
        "params.teacher_temperature_start": 0.04, "params.teacher_temperature": 0.07,
        "params.patch_temperature_start": 0.04, "params.patch_temperature": 0.07,
        "params.temperature_warmup_samples": 6_000_000, "params.prototypes": 8192, "params.global_min_scale": 0.32,
        "params.local_crops": 10, "params.local_min_scale": 0.05, "params.local_max_scale": 0.25,
        "params.mask_kind": "random", "params.mask_ratios": [0.0, 0.7], "params.mask_spreads": [0.0, 0.05],
        "params.equal_scale": True, "params.shared_flip": True, "params.lambda_overlap": 0.0,
        "encoder.drop_path": 0.1,
    },
    ("ibot", "vit-b"): {
        "optim.samples": 400 * IMAGENET, "optim.batch_size": 1024, "optim.peak_lr": 3e-3, "optim.min_lr": 2e-6,
        "optim.warmup_samples": 10 * IMAGENET, "optim.weight_decay": 0.04, "optim.weight_decay_end": 0.4,
        "optim.grad_clip": 0.3, "optim.clip_norm": "tensor", "params.freeze_prototypes_samples": 3 * IMAGENET,
        "params.ema_start": 0.996, "params.ema_end": 1.0, "params.student_temperature": 0.1,
        "params.teacher_temperature_start": 0.04, "params.teacher_temperature": 0.07,
        "params.patch_temperature_start": 0.04, "params.patch_temperature": 0.07, "params.prototypes": 8192,
        "params.global_min_scale": 0.32, "params.local_crops": 10, "params.local_min_scale": 0.05,
        "params.local_max_scale": 0.32, "params.equal_scale": False, "params.shared_flip": False,
        "encoder.drop_path": 0.1,
    },
    ("dino", "vit-s"): {
        "optim.batch_size": 1024, "optim.peak_lr": 2e-3, "optim.warmup_samples": 10 * IMAGENET,
        "optim.weight_decay": 0.04, "optim.weight_decay_end": 0.4, "optim.grad_clip": 3.0, "optim.clip_norm": "tensor",
        "params.freeze_prototypes_samples": IMAGENET, "params.ema_start": 0.996, "params.ema_end": 1.0,
        "params.student_temperature": 0.1, "params.teacher_temperature_start": 0.04, "params.teacher_temperature": 0.07,
        "params.temperature_warmup_samples": 30 * IMAGENET, "params.prototypes": 65_536,
        "params.global_min_scale": 0.25, "params.local_crops": 10, "params.local_size": 96,
        "params.local_min_scale": 0.05, "params.local_max_scale": 0.25,
    },
    ("dino", "vit-b"): {
        "optim.batch_size": 1024, "optim.peak_lr": 3e-3, "optim.grad_clip": 0.3, "optim.clip_norm": "tensor",
        "params.freeze_prototypes_samples": 3 * IMAGENET, "params.ema_start": 0.996, "params.prototypes": 65_536,
        "params.teacher_temperature": 0.07, "params.local_crops": 10, "params.equal_scale": False,
    },
    ("mae", "vit-b"): {
        "optim.batch_size": 4096, "optim.samples": 800 * IMAGENET, "optim.warmup_samples": 40 * IMAGENET,
        "optim.base_lr": 1.5e-4, "optim.weight_decay": 0.05, "optim.beta1": 0.9, "optim.beta2": 0.95,
        "optim.min_lr": 0.0, "optim.grad_clip": 0.0, "params.mask_ratio": 0.75, "params.norm_pix": True,
        "params.decoder_width": 512, "params.decoder_depth": 8, "params.decoder_heads": 16,
        "params.crop_min_scale": 0.2, "params.flips": "horizontal",
    },
    ("simclr", "vit-b"): {
        "optim.batch_size": 4096, "optim.base_lr": 1.5e-4, "optim.weight_decay": 0.1,
        "optim.warmup_samples": 10 * IMAGENET, "params.temperature": 0.1, "params.projector_width": None,
        "params.projection_dim": 128, "params.projector_layers": 3,
    },
    ("moco_v2", "resnet50"): {
        "optim.optimizer": "sgd", "optim.batch_size": 256, "optim.base_lr": 0.03, "optim.beta1": 0.9,
        "optim.weight_decay": 1e-4, "optim.samples": 200 * IMAGENET, "params.queue_size": 65_536,
        "params.temperature": 0.2, "params.key_momentum": 0.999, "params.projection_dim": 128,
        "params.crop_min_scale": 0.2, "params.augment.brightness": 0.4, "params.augment.saturation": 0.4,
        "params.augment.flips": "horizontal",
    },
    ("moco_v3", "vit-b"): {
        "optim.batch_size": 4096, "optim.samples": 300 * IMAGENET, "optim.warmup_samples": 40 * IMAGENET,
        "optim.base_lr": 1.5e-4, "optim.weight_decay": 0.1, "params.temperature": 0.2, "params.crop_min_scale": 0.08,
        "params.blur_p_1": 1.0, "params.blur_p_2": 0.1, "params.solarize_p_1": 0.0, "params.solarize_p_2": 0.2,
        "params.augment.saturation": 0.2, "params.augment.flips": "horizontal",
    },
    ("moco_v3", "vit-s"): {
        "optim.batch_size": 4096, "optim.samples": 300 * IMAGENET, "optim.warmup_samples": 40 * IMAGENET,
        "optim.base_lr": 1.5e-4, "optim.weight_decay": 0.1, "params.temperature": 0.2, "params.crop_min_scale": 0.08,
        "encoder.width": 384, "encoder.heads": 12,
    },
    ("mae_contrastive", "vit-b"): {
        "params.mask_ratio": 0.5, "params.temperature": 0.1, "params.reconstruction_weight": 1.0,
        "params.contrastive_weight": 0.05, "params.denoising_weight": 0.0, "params.noise_max": 0.05,
        "params.projector_layers": 3, "params.projector_width": 4096, "params.projection_dim": 256,
        "optim.base_lr": 1.5e-4, "optim.weight_decay": 0.05, "optim.beta2": 0.95,
        "optim.warmup_samples": 40 * IMAGENET,
    },
    ("beit_vq", "vit-b"): {
        "optim.batch_size": 2048, "optim.peak_lr": 1.5e-3, "optim.weight_decay": 0.05, "optim.grad_clip": 3.0,
        "optim.warmup_samples": 10 * IMAGENET, "optim.samples": 800 * IMAGENET, "encoder.drop_path": 0.1,
        "encoder.layer_scale": 0.1, "encoder.positions": "relative", "optim.beta2": 0.98,
        "params.mask_ratio": 0.383, "params.min_block": 0.082,  # 75 and 16 of 196
    },
}  # fmt: skip


@pytest.mark.parametrize(("method", "preset"), NUMBERS)
def test_a_preset_has_the_numbers_of_its_paper(method: str, preset: str) -> None:
    more = ["tokenizer=x"] if method == "beit_vq" else []
    spec = pretrain_spec(method, "pack", preset, more)
    found = {}
    for path, expected in NUMBERS[method, preset].items():
        value: Any = spec
        for name in path.split("."):
            value = getattr(value, name)
        found[path] = pytest.approx(value, rel=1e-9) if isinstance(expected, float) else value
    assert found == NUMBERS[method, preset]


@pytest.mark.parametrize(
    ("preset", "other"),
    [
        ("millionaid-overlap", {"lambda_overlap": 1.0}),
        ("scale-aug", {"view_degrade_p": 0.5}),
    ],
)
def test_recipes_for_millionaid_differ_by_what_their_names_say(preset: str, other: dict[str, Any]) -> None:
    plain, found = (pretrain_spec("ibot", "pack", name).model_dump() for name in ("millionaid", preset))
    before, after = plain.pop("method_params"), found.pop("method_params")
    assert {name: value for name, value in after.items() if before.get(name) != value} == other
    assert before.keys() == after.keys() and after["view_degrade_of"] == "student"
    assert plain | {"preset": preset} == found


@pytest.mark.parametrize(("preset", "jitter"), [("smoke", 0.0), ("cpu", 0.4), ("vit-b", 0.0)])
def test_methods_of_tokens_differ_by_their_tokens_only(preset: str, jitter: float) -> None:
    learned = pretrain_spec("beit_vq", "pack", preset, ["tokenizer=x"])
    clusters = pretrain_spec("mim_kmeans", "pack", preset)
    both = learned.method_params.keys() & clusters.method_params.keys()
    assert both == learned.method_params.keys() - {"tokenizer"}
    assert {n: learned.method_params[n] for n in both} == {n: clusters.method_params[n] for n in both}
    assert learned.method_params["jitter"] == jitter
    left = {"method", "method_params"}
    assert learned.model_dump(exclude=left) == clusters.model_dump(exclude=left)


@pytest.mark.parametrize("method", ["mae", "dino", "ibot", "simclr", "mae_contrastive"])
@pytest.mark.parametrize("size", SHAPES)
def test_shapes_of_vision_transformers(method: str, size: str) -> None:
    spec = pretrain_spec(method, "pack", size)
    assert isinstance(spec, PretrainSpec) and isinstance(spec.encoder, EncoderParams)
    assert (spec.encoder.width, spec.encoder.depth, spec.encoder.heads) == SHAPES[size]
    assert (spec.encoder.patch_size, spec.image_size) == (16, 224)


def test_what_is_said_of_some_views_leaves_the_rest_as_the_method_has_it() -> None:
    params = {"augment": {"flips": "none"}}
    spec = PretrainSpec.model_validate({"method": "simclr", "dataset": "x", "method_params": params})
    assert spec.params.augment == pretrain_spec("simclr", "x", "cpu", ["flips=none"]).params.augment
    assert (spec.params.augment.flips, spec.params.augment.saturation) == ("none", 0.4)


class Model(nn.Module):
    """What fine-tuning asks of an encoder with its input."""

    feature_dim = 16

    def __init__(self) -> None:
        super().__init__()
        self.trainable = build_encoder(EncoderParams(patch_size=8, width=16, depth=12, heads=2), 3, 16, seed=0)

    def unfreeze(self) -> None: ...


def test_layer_decay() -> None:
    """0.65 over 12 blocks: the published shares of the learning rate."""
    network = LabelNetwork(Model(), 2, frozen=False)  # type: ignore[arg-type]
    groups = network.parameter_groups(FitParams(layer_decay=0.65))
    share = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    encoder = network.model.trainable
    found = [encoder.patch_projection, encoder.blocks[0].norm1, encoder.blocks[11].norm1, network.head]
    assert [share[id(m.weight)] for m in found] == pytest.approx([0.003697, 0.005688, 0.65, 1.0], rel=1e-3)


def test_positions_and_tokens_do_not_decay() -> None:
    for positions in ("learned", "relative"):
        spec = EncoderParams(patch_size=8, width=32, depth=1, heads=2, class_token=True, positions=positions)
        encoder = build_encoder(spec, 3, 32, seed=0)
        free = {
            id(p) for group in decay_groups(encoder.named_parameters()) if not group.decay for p in group.parameters
        }
        names = {name for name, p in encoder.named_parameters() if id(p) in free and p.ndim > 1}
        last = "positions" if positions == "learned" else "relative_bias.relative_position_bias_table"
        assert names == {"class_token", last}
