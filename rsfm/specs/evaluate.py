"""The request for one evaluation job."""

from __future__ import annotations

from operator import attrgetter
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from rsfm.specs.base import LOCAL, Params
from rsfm.tasks import Adaptation, Task

Operator = Literal[
    "bilinear", "area", "mtf", "nearest", "native", "blur", "noise", "radiometric", "jpeg", "haze", "striping",
    "band_loss", "misregistration",
]  # fmt: skip


class FitParams(Params):
    """How training images are shown, and how what is trained learns (fine-tuning, decoders): AdamW, warm-up, cosine."""

    epochs: int = Field(20, ge=1, title="Epochs", description="Passes over the training samples.")
    batch_size: int = Field(16, ge=1, title="Batch size", description="Samples per step.")
    lr: float | None = Field(
        None, gt=0, title="Learning rate", description="Peak. Empty: 1e-3 for heads on a frozen encoder, else 1e-4."
    )
    min_lr: float = Field(0.0, ge=0, title="Final learning rate", description="Where the cosine ends.")
    warmup: float = Field(0.1, ge=0, lt=1, title="Warm-up", description="Share of the steps.")
    weight_decay: float = Field(0.05, ge=0, title="Weight decay", description="Not on biases, norms and tokens.")
    layer_decay: float = Field(
        0.75, gt=0, le=1, title="Layer decay",
        description="Fine-tuning: each layer learns at this share of the rate of the one above. 1: all alike.",
    )  # fmt: skip
    grad_clip: float = Field(0.0, ge=0, title="Gradient clipping", description="Largest norm; 0 switches it off.")
    fusion: Literal["diff", "abs", "concat"] = Field(
        "diff", title="Fusion", description="How the features of two dates meet: later − earlier, its size, or both."
    )
    decoder_width: int = Field(128, ge=8, title="Decoder width", description="Channels of the decoder's pyramid.")
    pool_width: int = Field(
        128, ge=8, title="Pooling width", description="Channels of each branch of the decoder's pyramid pooling."
    )
    decoder_start: Literal["new", "pretrained"] = Field(
        "new", title="Decoder's start",
        description="pretrained: from the decoder for pairs that was trained with the model (iBOT's overlap of two "
        "crops), but for its last layer. It needs fusion=concat and that decoder's widths.",
    )  # fmt: skip
    flips: Literal["none", "horizontal", "dihedral"] = Field(
        "dihedral", title="Flips", description="dihedral: all 8 flips and quarter turns (nadir imagery has no up)."
    )
    crop_min_scale: float = Field(
        1.0, gt=0, le=1, title="Smallest crop", description="Area share of the smallest random crop; 1: whole images."
    )
    jitter: float = Field(
        0.0, ge=0, le=1, title="Jitter", description="Half-width of random brightness, contrast and saturation."
    )
    train_degrade: bool = Field(
        False, title="Degrade while training",
        description="Each training image, of a pair the one that is degraded in the test, at a severity drawn from "
        "those of the test (for what is solved on stored features: at each of them): the baseline that any pretraining "
        "has to beat.",
    )  # fmt: skip
    select: Literal["last", "best"] = Field(
        "last", title="Weights kept", description="best: of the epoch with the best score on the validation split."
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", title="Precision", description="auto: bf16 on GPUs that have it, else fp32."
    )

    def peak_lr(self, frozen: bool) -> float:
        return self.lr or (1e-3 if frozen else 1e-4)


class EvaluateSpec(Params):
    """One model on one labelled pack, at several severities of a degradation."""

    kind: Literal["evaluate"] = "evaluate"
    model: str = Field(..., title="Model", description="A run's id, or a baseline such as random:vit-nano.")
    dataset: str = Field(..., title="Pack", description="A labelled pack.")
    preset: str = Field("", title="Preset", description="The named settings that this started from.")
    adaptations: list[Adaptation] = Field(
        [], title="Adaptations",
        description="Empty: kNN and linear probe for labels of whole images, frozen encoder + decoder for maps.",
        json_schema_extra={"blank": "What is usual for the task"},
    )  # fmt: skip
    operator: Operator = Field(
        "bilinear",
        title="Degradation",
        description="bilinear: anti-aliased down and up again, as published (arXiv 2510.17014).",
    )
    severities: list[Annotated[float, Field(ge=0, le=1000)]] = Field(
        [], title="Severities", description="Empty: the operator's own; 1, 2, 4 and 8 times coarser for resolution.",
        json_schema_extra={"blank": "The operator's own"},
    )  # fmt: skip
    degrade_target: Literal["auto", "single", "pre", "post", "both"] = Field(
        "auto", title="Degraded image", description="Of a pair: auto is the later one (post), as published."
    )
    eval_seeds: list[Annotated[int, Field(ge=0)]] = Field(
        [0, 1, 2],
        min_length=1,
        title="Evaluation seeds",
        description="Head initialisation, order of training, and training-subset draw.",
    )
    model_seed: int = Field(
        0, ge=0, title="Model seed", description="Initialisation of random: models; others have their own."
    )
    train_split: str = Field("train", title="Training split")
    test_split: str = Field("", title="Test split", description="Empty: test where there is one, else val.")
    train_fraction: float = Field(
        0.9,
        gt=0,
        le=1,
        title="Training share",
        description="Share of the training split that each seed draws, by class where images have one.",
    )
    bands: list[str] | None = Field(None, title="Bands", description="By name; empty: the model's own choice.")
    knn_k: int = Field(20, ge=1, title="Neighbours")
    knn_temperature: float = Field(0.07, gt=0, title="kNN temperature")
    fit: FitParams = Field(FitParams(), title="Training on the task")
    bootstrap: int = Field(
        1000, ge=100, le=100_000, title="Bootstrap draws",
        description="For intervals of all scores but accuracies, which have exact ones.",
    )  # fmt: skip
    images_per_pass: int = Field(256, ge=1, title="Images per pass", json_schema_extra=LOCAL)
    maps_gb: float = Field(
        20.0, ge=0, title="Disk for maps (GB)",
        description="Each view of an image goes through a frozen encoder once, and its maps are kept on the disk while "
        "the run lasts: up to so much, and half of what is free. 0: encoded whenever they are used.",
        json_schema_extra=LOCAL,
    )  # fmt: skip
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", title="Device",
        description="A GPU degrades its images itself: 8-bit ones bit for bit, others (and noise) up to rounding.",
        json_schema_extra=LOCAL,
    )  # fmt: skip
    threads: int = Field(0, ge=0, title="CPU threads", json_schema_extra=LOCAL)

    def protocol_name(self, adaptation: str, task: Task) -> str:
        """The adaptation as it is named in scores: settings that are not the defaults stand behind it.

        So results of different protocols are never folded into one mean. A preset stands for its own settings.
        Training-time degradation has a column of its own.
        """
        from rsfm.specs.build import evaluate_spec

        usual = evaluate_spec(self.model, self.dataset, self.preset)
        names = ["train_split", "train_fraction", *(("knn_k", "knn_temperature") if adaptation == "knn" else ())]
        changed = [self.preset] if self.preset else []
        changed += _changed(self, usual, names)
        names = [name for name in FitParams.model_fields if has_effect(f"fit.{name}", task, adaptation)]
        frozen = adaptation != "finetune"
        same = {"train_degrade", *(["lr"] if self.fit.peak_lr(frozen) == usual.fit.peak_lr(frozen) else [])}
        changed += _changed(self.fit, usual.fit, [name for name in names if name not in same])
        return f"{adaptation} ({', '.join(changed)})" if changed else adaptation

    def unused(self, task: Task) -> dict[str, Any]:
        """Settings that are not as usual though nothing that is asked for uses them.

        Returns:
            Dotted path -> what is usual, of the preset if there is one.
        """
        from rsfm.specs.build import evaluate_spec

        usual, asked = evaluate_spec(self.model, self.dataset, self.preset), self.adaptations or task.usual
        found = {
            path: attrgetter(path)(usual)
            for path in ADAPTATION_SETTINGS
            if attrgetter(path)(self) != attrgetter(path)(usual) and not any(has_effect(path, task, a) for a in asked)
        }
        return found | ({"model_seed": 0} if self.model_seed and not takes_seed(self.model) else {})

    def only_used(self, task: Task) -> EvaluateSpec:
        """The same request without what it does not use."""
        spec = self.model_copy(deep=True)
        for path, usual in self.unused(task).items():
            group, _, name = path.rpartition(".")
            setattr(attrgetter(group)(spec) if group else spec, name, usual)
        return spec

    @model_validator(mode="after")
    def _distinct(self) -> EvaluateSpec:
        for field in ("severities", "eval_seeds", "adaptations"):
            values = getattr(self, field)
            if len(set(values)) != len(values):
                raise ValueError(f"{field} names a value twice: {values}")
        return self

    @field_validator("preset")
    @classmethod
    def _known_preset(cls, value: str) -> str:
        from rsfm.registry.evaluation import evaluation_values

        evaluation_values(value)
        return value


#: Settings that not every adaptation uses.
ADAPTATION_SETTINGS = (
    "knn_k", "knn_temperature", "bootstrap", "maps_gb", *(f"fit.{name}" for name in FitParams.model_fields)
)  # fmt: skip


def has_effect(path: str, task: Task, adaptation: str) -> bool:
    """Whether an adaptation on packs of a task uses one of `ADAPTATION_SETTINGS`."""
    match path:
        case "knn_k":
            return adaptation == "knn"
        case "knn_temperature":
            return adaptation in ("knn", "centroid")
        case "fit.train_degrade":
            return True
        case "maps_gb":
            return task.dense and adaptation != "finetune"
        case "bootstrap":  # the interval of an accuracy needs none
            return task.metrics != ("accuracy",)
        case "fit.layer_decay":
            return adaptation == "finetune"
        case "fit.fusion":
            return task.pairs and task.trains(adaptation)
        case "fit.decoder_start":
            return task.pairs and task.dense and adaptation in ("decoder", "finetune")
        case "fit.decoder_width" | "fit.pool_width":
            return task.dense and adaptation != "linear"
    return task.trains(adaptation)


def takes_seed(model: str) -> bool:
    """Whether `model_seed` means anything to a model: others were initialised before."""
    return model.startswith("random:")


def _changed(params: Params, usual: Params, names: list[str]) -> list[str]:
    """`name=value` of those fields that are not as usual."""
    return [f"{name}={getattr(params, name)}" for name in names if getattr(params, name) != getattr(usual, name)]
