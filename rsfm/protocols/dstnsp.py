"""The resolution benchmark of "Do Satellite Tasks Need Special Pretraining?" (arXiv 2510.17014)."""

from __future__ import annotations

from pathlib import Path

from rsfm.protocols import Measurement, Protocol

PROTOCOL = Protocol(
    name="dstnsp",
    title="Do Satellite Tasks Need Special Pretraining?",
    paper="Vanyan et al. 2025, arXiv 2510.17014",
    summary=(
        "Scene classification and change detection, trained at native resolution and tested at 1, 2, 4 and 8 times "
        "coarser; of a pair only the later image gets coarser. Beside every fine-tuned model stands the same with "
        "degradation while training."
    ),
    measurements=tuple(
        Measurement(f"{dataset}{'-degraded' if degraded else ''}", dataset, preset, train_degrade=degraded)
        for dataset, preset in (
            ("levir-cd", "dstnsp-change"), ("cdd", "dstnsp-change"),
            ("nwpu-resisc45", "dstnsp-scenes"), ("uc-merced", "dstnsp-scenes"),
        )
        for degraded in (False, True)
    ),
    models=("band-stats", "random:vit-ti", "efficientnet-lite0"),
    source=(
        "the authors' numbers before publication, from their plotting notebooks; one seed, no intervals. Early drafts "
        "are of March and April 2024, were replaced later, and do not say whether encoders were frozen"
    ),
    differs=(
        "Three seeds instead of one, with intervals over the test samples.",
        "Linear probes are fitted to convergence by L-BFGS with a chosen L2 penalty; the published ones take Adam "
        "with step decay, and run the encoder in training mode.",
        "The epoch is chosen by the F1 over all pixels of the validation tiles as they are; published: by the mean of "
        "batch F1 scores over randomly augmented crops.",
        "Augmentation is all eight flips and turns, for change detection with brightness, contrast and saturation of "
        "±0.2; published: flips, for change detection with rotation up to 20 degrees, shift, scale and mild jitter.",
        "The learning rate changes with every step, the published one with every epoch.",
        "Degradation while training draws one of the four factors for every image and epoch. So did the authors for "
        "LEVIR-CD; for CDD they put all four versions of each image into the training set, so that an epoch of theirs "
        "is four of ours. For scenes they give no such numbers.",
        "Coarse images are made when they are read; the authors stored them, those of CDD compressed as JPEG again.",
        "Encoders see images at their own size, as near as their patches allow, but not below the size of their "
        "weights: timm's DINOv2 enlarges them to 518 pixels, the authors' took 252.",
        "Weights of the authors' encoders are not part of this lab: name your own runs, timm or torchgeo encoders.",
    ),
    reference=Path(__file__).with_name("dstnsp.csv"),
)  # fmt: skip
