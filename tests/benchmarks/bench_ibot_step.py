"""A training step of our iBOT against one built from lightly's parts, on the same ViT, crops and masks.

    python tests/benchmarks/bench_ibot_step.py [--preset cpu] [--batch 64] [--device cpu] [--precision bf16] [--compile]

Both get the same global and local crops, masks, head sizes, prototypes and optimiser, and make the same moving
averages of teacher and centres. Rounds alternate, and the ratios are medians of rounds, so that other load on the
machine hits both. Lightly centres, by the mean over hidden patches, so ours is set to the same.

Run it with OMP_WAIT_POLICY=PASSIVE, as jobs are.
"""

from __future__ import annotations

import tempfile

import torch
from lightly.loss import DINOLoss, IBOTPatchLoss
from lightly.models.modules import DINOProjectionHead, MaskedVisionTransformerTIMM
from lightly.models.utils import update_momentum
from steps import duel, options, set_up_ours
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from rsfm.methods.base import Views
from rsfm.registry.ibot import IBOTParams
from rsfm.specs import EncoderParams, PretrainSpec

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
    args = options(__doc__, rounds=6, steps=3).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        settings = ["centring=centre", "patch_centre=hidden", "encoder.positions=sincos"]
        ours = set_up_ours("ibot", args, folder, images=1000, settings=settings)
        method = ours.module.method
        theirs = LightlyIBOT(ours.spec, ours.bands, args.size).to(ours.device)

        def after() -> None:
            method.after_step(ours.progress)
            method.pending.clear()

        duel(ours, theirs, lambda: theirs.loss(ours.views), after=after, after_theirs=theirs.after)


if __name__ == "__main__":
    main()
