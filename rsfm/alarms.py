"""Failures of self-supervised training by name: how each is recognised, what it means and what helps.

A training run evaluates them at every monitoring and logs `alarm/<name>` as 1 or 0; pages show those that stand.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

PREFIX = "alarm/"
Values = Mapping[str, float]


@dataclass(frozen=True)
class Alarm:
    """One failure.

    Attributes:
        needs: names of the values that decide; without them the alarm is not raised (nor denied).
        rings: whether it stands, given these values.
        judged: from which share of the training up to which: a fresh network may look like a failure, and so may one
            at the end of a long training. What stood then goes on standing.
    """

    name: str
    title: str
    meaning: str
    advice: str
    needs: tuple[str, ...]
    rings: Callable[[Values], bool]
    judged: tuple[float, float] = (0.1, 1.0)


def _few_win(entropy_share: float, use: float, won: float) -> bool:
    """Targets are sharp, and few prototypes win: by share, or one of the few that could. Without targets, none wins."""
    return entropy_share < 0.02 and won > 0 and (use < 0.05 or won < 1.5)


#: Values that no monitor measures: among how many images a partner is to be found, and the share of the variance along
#: the first axis before training.
STRANGERS, FIRST_SHARE = "strangers", "first_top1_eigen_share"

ALARMS: dict[str, Alarm] = {
    alarm.name: alarm
    for alarm in (
        Alarm(
            "constant-collapse", "Constant collapse",
            "All images get nearly the same feature vector: the objective is met without looking at them.",
            "Lower the learning rate, raise the batch size, slow the teacher (EMA closer to 1), or sharpen less.",
            ("std_l2", "feature_dim"),
            # Healthy is 1/√d.
            lambda v: v["std_l2"] < 0.1 / v["feature_dim"] ** 0.5,
        ),
        Alarm(
            "constant-targets", "Constant collapse of the targets",
            "The teacher puts every image on one prototype: its entropy is near zero, and so is the loss.",
            "Check centring, raise the teacher's temperature, or slow the teacher (EMA closer to 1).",
            ("teacher_entropy_share", "prototype_use", "prototypes_won"),
            lambda v: _few_win(v["teacher_entropy_share"], v["prototype_use"], v["prototypes_won"]),
        ),
        Alarm(
            "uniform-collapse", "Uniform collapse",
            "The teacher spreads every image evenly over all prototypes: the loss stays at ln K and teaches nothing.",
            "Lower the teacher's temperature, use fewer prototypes, a larger batch, or a longer warm-up.",
            ("teacher_entropy_share",),
            lambda v: v["teacher_entropy_share"] > 0.98,
        ),
        Alarm(
            "uniform-patches", "Uniform collapse of the patches",
            "The teacher spreads every hidden patch evenly over all prototypes: the patch loss teaches nothing.",
            "Lower the patch temperature, use fewer prototypes, or a longer warm-up.",
            ("patch_entropy_share",),
            lambda v: v["patch_entropy_share"] > 0.98,
        ),
        Alarm(
            "constant-patches", "Constant collapse of the patches",
            "The teacher puts all hidden patches on a few prototypes: the entropy of its targets is near zero, and so "
            "is the patch loss.",
            "Check centring, raise the patch temperature, or slow the teacher (EMA closer to 1).",
            ("patch_entropy_share", "patch_prototype_use", "patch_prototypes_won"),
            lambda v: _few_win(v["patch_entropy_share"], v["patch_prototype_use"], v["patch_prototypes_won"]),
        ),
        Alarm(
            "collapsed-projections", "Collapse of the projections",
            "All views of all images are projected to one place: partners are alike, and so are strangers.",
            "Lower the learning rate or raise the temperature; check BatchNorm in the projector.",
            ("alignment", "uniformity"),
            # Spread evenly, uniformity is about −4.
            lambda v: v["alignment"] < 0.02 and v["uniformity"] > -0.1,
        ),
        Alarm(
            "partners-given-away", "Partners are given away",
            "Nearly every view finds its partner first, and early: something besides the content tells who belongs "
            "together.",
            "Use smaller crops and more jitter. Look for frames, stamps or no-data that both views show; in MoCo, use "
            "more BatchNorm groups.",
            ("contrastive_top1", STRANGERS),
            # Among a few strangers the partner is easily found.
            lambda v: v["contrastive_top1"] > 0.99 and v[STRANGERS] >= 16,
            judged=(0.1, 0.5),
        ),
        Alarm(
            "dimensional-collapse", "Dimensional collapse",
            "One direction holds more than half of the features' variance, and more than before training (or nearly "
            "all): most dimensions carry little.",
            "Compare kNN on standardised features. Masked reconstruction: common; train longer or hide more. Two views "
            "of an image: lower the learning rate, or vary the views more.",
            ("top1_eigen_share", FIRST_SHARE),
            # Images that differ mostly in brightness have such features from the start.
            lambda v: v["top1_eigen_share"] > max(0.5, min(0.95, 1.1 * v[FIRST_SHARE])),
        ),
        Alarm(
            "codebook-collapse", "Codebook collapse",
            "The tokenizer uses less than 0.3 of its codes (perplexity over size).",
            "Use fewer codes, or let unused codes be replaced more often.",
            ("codebook_use",),
            lambda v: v["codebook_use"] < 0.3,
            judged=(0.25, 1.0),  # a codebook begins with few codes in use
        ),
        Alarm(
            "tokens-not-learned", "Tokens are only guessed by frequency",
            "The cross-entropy is not below the entropy of the tokens: predicting the commonest ones does as well.",
            "Train longer, or use a tokenizer with more informative tokens.",
            ("token_gain",),
            lambda v: v["token_gain"] <= 0,
        ),
        Alarm(
            "tokens-of-one-direction", "Tokens teach one direction",
            "Late in the training, one direction still holds more than half of the features' variance: what the tokens "
            "say is mostly one thing, such as brightness.",
            "Raise jitter, so that the encoder cannot read it off, or use a tokenizer with more informative tokens. "
            "Compare kNN on standardised features.",
            ("top1_eigen_share", "token_gain"),
            lambda v: v["top1_eigen_share"] > 0.5,
            judged=(0.6, 1.0),  # it falls for a while even where all is well
        ),
        Alarm(
            "one-task-dominates", "One task dominates",
            "At the last block, the gradient of one part of the loss is many times the other's: the other is hardly "
            "learned.",
            "Change contrastive_weight: grad_ratio is contrast over reconstruction, and best between 0.1 and 1.",
            ("grad_ratio",),
            lambda v: not 0.02 <= v["grad_ratio"] <= 10,
        ),
        Alarm(
            "non-finite-steps", "Non-finite steps",
            "Steps whose loss or gradient was not finite were skipped.",
            "Lower the learning rate, set gradient clipping, or train in fp32.",
            ("skipped_steps",),
            lambda v: v["skipped_steps"] > 0,
            judged=(0.0, 1.0),
        ),
    )
}  # fmt: skip


def evaluate(values: Values, fraction: float, *, but: Collection[str] = ()) -> dict[str, float]:
    """`alarm/<name>` → 1.0 where it stands, 0.0 where not, for every alarm that is judged at this share of the training
    and whose values are known (and not NaN).

    Args:
        but: names of alarms that mean nothing here.
    """
    return {
        PREFIX + alarm.name: float(alarm.rings(values))
        for alarm in ALARMS.values()
        if alarm.judged[0] <= fraction <= alarm.judged[1]
        and alarm.name not in but
        and all(name in values and values[name] == values[name] for name in alarm.needs)
    }


def standing(last_values: Values) -> list[Alarm]:
    """The alarms that stand, by the last value of each metric."""
    return [alarm for alarm in ALARMS.values() if last_values.get(PREFIX + alarm.name, 0.0) > 0]
