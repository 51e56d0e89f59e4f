"""A training step of our iBOT against one built from lightly's parts, on the same ViT, crops and masks.

    python tests/benchmarks/bench_ibot_step.py [--preset cpu] [--batch 64] [--device cpu] [--precision bf16] [--compile]

Both get the same global and local crops, masks, head sizes, prototypes and optimiser, and make the same moving
averages of teacher and centres. Rounds alternate, and the ratios are medians of rounds, so that other load on the
machine hits both. Lightly centres, by the mean over hidden patches, so ours is set to the same.

Run it with OMP_WAIT_POLICY=PASSIVE, as jobs are.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from lightly.loss import DINOLoss, IBOTPatchLoss
from lightly.models.modules import DINOProjectionHead, MaskedVisionTransformerTIMM
from lightly.models.utils import update_momentum
from steps import add_options, duel, flops, make_pack, say_share_of_peak, settings_of, stepper
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from rsfm.data.seeding import step_generator
from rsfm.methods.base import Progress, Views
from rsfm.methods.ibot import IBOT
from rsfm.registry.ibot import IBOTParams
from rsfm.specs import EncoderParams, PretrainSpec, pretrain_spec
from rsfm.train.module import PretrainModule
from rsfm.train.pretrain import suit_device
from rsfm.train.setup import set_up
from rsfm.workspace import Workspace

MOMENTUM = 0.996


class LightlyIBOT(nn.Module):
    """iBOT with one head for class token and patches, as lightly's examples put it together."""

    def __init__(self, spec: PretrainSpec, bands: int, size: int) -> None:
        super().__init__()
        e, p = spec.encoder, spec.params
        assert isinstance(e, EncoderParams) and isinstance(p, IBOTParams)

        def networks() -> tuple[nn.Module, nn.Module]:
            vit = VisionTransformer(
                img_size=size, patch_size=e.patch_size, in_chans=bands, num_classes=0, embed_dim=e.width,
                depth=e.depth, num_heads=e.heads, drop_path_rate=e.drop_path, dynamic_img_size=True,
            )  # fmt: skip
            head = DINOProjectionHead(e.width, p.head_hidden, p.bottleneck, p.prototypes)
            return MaskedVisionTransformerTIMM(vit), head

        self.student, self.head = networks()
        self.teacher, self.teacher_head = (n.requires_grad_(False) for n in networks())
        self.teacher.load_state_dict(self.student.state_dict())
        self.teacher_head.load_state_dict(self.head.state_dict())
        self.teacher.eval()
        self.class_loss = DINOLoss(p.prototypes, teacher_temp=p.teacher_temperature, warmup_teacher_temp_epochs=0)
        self.patch_loss = IBOTPatchLoss(p.prototypes, teacher_temp=p.patch_temperature)

    def loss(self, views: Views) -> Tensor:
        crops, hidden = views["global"], views["hidden"].flatten(0, 1)
        count = crops.shape[1]
        images = crops.flatten(0, 1)
        with torch.no_grad():
            tokens = self.teacher.encode(images)
            class_targets = self.teacher_head(tokens[:, 0]).chunk(len(crops))
            patch_targets = self.teacher_head(tokens[:, 1:][hidden])
        mask = torch.cat([torch.zeros_like(hidden[:, :1]), hidden], dim=1)
        tokens = self.student.encode(images, mask=mask)
        classes = list(self.head(tokens[:, 0]).chunk(len(crops)))
        patches = self.head(tokens[:, 1:][hidden])
        if "local" in views:
            local = self.student.encode(views["local"].flatten(0, 1))
            classes += list(self.head(local[:, 0]).split(count))
        grid = int(hidden.shape[1] ** 0.5)
        total = self.class_loss(list(class_targets), classes, epoch=0)
        return total + self.patch_loss(patch_targets, patches, hidden.view(-1, grid, grid))

    def after(self) -> None:
        update_momentum(self.student, self.teacher, MOMENTUM)
        update_momentum(self.head, self.teacher_head, MOMENTUM)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_options(parser, rounds=6, steps=3)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = torch.device(args.device)

    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder))
        make_pack(workspace, max(1000, args.batch), args.size)
        settings = ["centring=centre", "patch_centre=hidden", "encoder.positions=sincos", *settings_of(args)]
        spec = pretrain_spec("ibot", "bench", args.preset, settings)
        setup = set_up(spec, workspace)
        suit_device(spec, setup, device)  # as jobs do
        module = PretrainModule(spec, setup.method, setup.sources).to(device)
        method = setup.method
        assert isinstance(method, IBOT)
        batch_size = spec.optim.batch_size // spec.optim.accumulate
        stored = {name: source[np.arange(batch_size)].to(device) for name, source in setup.sources.items()}
        batch = module.standardise({**stored, "index": torch.arange(batch_size, device=device)})
        progress = Progress(1, 1000, batch_size)
        views = method.views(batch, step_generator(device, 0, 0), progress)
        theirs = LightlyIBOT(spec, len(setup.sources["image"].input.bands), args.size).to(device)

        def after() -> None:
            method.after_step(progress)
            method.pending.clear()

        print(f"{args.preset}: {spec.encoder.model_dump()}, batch {batch_size}, 7 bands, {args.size} px, {args.device}")
        operations = flops(lambda: method.loss(views).total, device, args.precision)
        method.pending.clear()
        step = duel(
            stepper(method, lambda: module.loss_of(views)[0], after, precision=args.precision),
            stepper(theirs, lambda: theirs.loss(views), theirs.after, precision=args.precision),
            rounds=args.rounds, steps=args.steps, batch_size=batch_size, device=device,
        )  # fmt: skip
        say_share_of_peak(operations, step, device, args.precision)


if __name__ == "__main__":
    main()
