"""What a pretraining would not use is refused; what a preset brings along is nobody's wish."""

from __future__ import annotations

import numpy as np
import pytest

from rsfm.bands import Band
from rsfm.errors import RsfmError
from rsfm.pack_arrays import write_arrays
from rsfm.registry import METHODS
from rsfm.specs import pretrain_spec
from rsfm.train.setup import set_up
from rsfm.train.unused import refuse_unused
from rsfm.workspace import Workspace


@pytest.mark.parametrize(
    ("name", "preset", "settings", "told"),
    [
        ("mae", "cpu", ["optimizer=sgd", "beta2=0.9"], r"optim\.beta2=0\.9 \(usual: 0\.95\), for optimizer=adamw"),
        ("mae", "cpu", ["grad_clip=0", "clip_norm=tensor"], "clip_norm=tensor .*for grad_clip above 0"),
        ("dino", "cpu", ["local_crops=0", "local_size=16"], "local_size=16 .*for local_crops above 0"),
        ("dino", "cpu", ["view_degrade_factor=4"], r"view_degrade_factor=4\.0 .*for view_degrade_p above 0"),
        ("ibot", "cpu", ["centring=sinkhorn", "patch_centre=hidden"], "patch_centre=hidden .*for centring=centre"),
        ("dino", "cpu", ["teacher_temperature_start=0.02"], "for temperature_warmup_samples above 0"),
        ("ibot", "cpu", ["lambda_patch=0", "patch_temperature=0.05"], "patch_temperature=0.05 .*for lambda_patch"),
        ("ibot", "cpu", ["lambda_class=0", "teacher_temperature=0.05"], "for lambda_class above 0"),
        ("ibot", "cpu", ["overlap_width=64"], "overlap_width=64 .*for lambda_overlap above 0"),
        ("mae_contrastive", "cpu", ["contrastive_weight=0", "temperature=0.5"], "for contrastive_weight above 0"),
        ("mae_contrastive", "cpu", ["reconstruction_weight=0", "norm_pix=false"], "for reconstruction_weight above 0"),
        ("mae_contrastive", "cpu", ["reconstruction_weight=0", "decoder_depth=3"], "for reconstruction_weight or"),
        ("mae_contrastive", "cpu", ["noise_max=0.2"], "for denoising_weight above 0"),
    ],
)
def test_settings_in_vain_are_refused(name: str, preset: str, settings: list[str], told: str) -> None:
    with pytest.raises(RsfmError, match=told):
        refuse_unused(pretrain_spec(name, "tiles", preset, settings))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("mae", ["beta2=0.9"]), ("mae", ["grad_clip=1", "clip_norm=tensor"]), ("dino", ["optimizer=sgd"]),
        ("dino", ["local_crops=0"]), ("dino", ["view_degrade_p=0.5", "view_degrade_of=all"]),
        ("ibot", ["lambda_overlap=1", "overlap_width=64"]), ("simclr", ["temperature=0.3"]),
        ("mae_contrastive", ["contrastive_weight=0"]), ("mae_contrastive", ["denoising_weight=0.4", "noise_max=0.1"]),
    ],
)  # fmt: skip
def test_what_is_used_or_as_usual_is_fine(name: str, settings: list[str]) -> None:
    refuse_unused(pretrain_spec(name, "tiles", "cpu", settings))


@pytest.mark.parametrize("name", METHODS)
def test_every_preset_is_fine(name: str) -> None:
    for preset in METHODS[name].presets:
        refuse_unused(pretrain_spec(name, "tiles", preset))


def test_a_pretraining_is_not_set_up_with_them(workspace: Workspace) -> None:
    write_arrays(workspace, "tiles", {"train": np.zeros((4, 1, 8, 8), np.uint8)}, [Band("grey", 600, 1, "uint8")])
    with pytest.raises(RsfmError, match="clip_norm=tensor"):
        set_up(pretrain_spec("mae", "tiles", "cpu", ["grad_clip=0", "clip_norm=tensor"]), workspace)
