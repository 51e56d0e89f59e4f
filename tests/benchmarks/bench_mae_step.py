"""A training step of our masked autoencoder against one built from lightly's blocks, on the same ViT.

    python tests/benchmarks/bench_mae_step.py [--preset cpu] [--batch 128] [--device cpu] [--precision bf16] [--compile]

Both get the same images, encoder and decoder sizes, mask ratio and optimiser; ours also normalises its targets and
leaves flat patches out, as its defaults are, lightly's does so with --norm-pix. Rounds alternate, and the ratios are
medians of rounds, so that other load on the machine hits both; the ratio of processor time hardly sees such load at
all. Then the parts of a whole step of a run: waiting for the batch, making views, the rest.

Run it with OMP_WAIT_POLICY=PASSIVE, as jobs are.
"""

from __future__ import annotations

import tempfile
import time

import torch
from lightly.models import utils
from lightly.models.modules import MaskedVisionTransformerDecoderTIMM, MaskedVisionTransformerTIMM
from steps import duel, options, seconds, set_up_ours, stepper
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from rsfm.data.loader import WaitTimer, train_loader
from rsfm.data.sampler import EndlessBatchSampler
from rsfm.data.seeding import step_generator
from rsfm.methods.base import Progress
from rsfm.registry.mae import MAEParams
from rsfm.specs import PretrainSpec


class LightlyMAE(nn.Module):
    """The masked autoencoder as lightly's examples put it together."""

    def __init__(self, spec: PretrainSpec, bands: int, size: int, norm_pix: bool) -> None:
        super().__init__()
        e, params = spec.encoder, spec.params
        assert isinstance(params, MAEParams)
        self.backbone = MaskedVisionTransformerTIMM(
            VisionTransformer(
                img_size=size, patch_size=e.patch_size, in_chans=bands, num_classes=0, embed_dim=e.width,
                depth=e.depth, num_heads=e.heads,
            )
        )  # fmt: skip
        self.patch_size, self.ratio, self.norm_pix = e.patch_size, params.mask_ratio, norm_pix
        self.length = self.backbone.sequence_length
        self.embed = nn.Linear(e.width, params.decoder_width)
        self.decoder = MaskedVisionTransformerDecoderTIMM(
            num_patches=self.length - 1, embed_dim=params.decoder_width, depth=params.decoder_depth,
            num_heads=params.decoder_heads,
        )  # fmt: skip
        self.predict = nn.Linear(params.decoder_width, e.patch_size**2 * bands)

    def loss(self, images: Tensor) -> Tensor:
        count = len(images)
        keep, hidden = utils.random_token_mask((count, self.length), self.ratio, device=images.device)
        encoded = self.embed(self.backbone.encode(images=images, idx_keep=keep))
        canvas = utils.repeat_token(self.decoder.mask_token, (count, self.length))
        canvas = utils.set_at_index(canvas, keep, encoded.type_as(canvas))
        decoded = self.decoder.decode(self.decoder.add_pos_embed(canvas))
        prediction = self.predict(utils.get_at_index(decoded, hidden))
        target = utils.get_at_index(utils.patchify(images, self.patch_size), hidden - 1)
        if self.norm_pix:
            target = utils.normalize_mean_var(target)
        return nn.functional.mse_loss(prediction, target)


def main() -> None:
    parser = options(__doc__, rounds=8, steps=4)
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--norm-pix", action="store_true", help="lightly's step normalises its targets too")
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        ours = set_up_ours("mae", args, folder, images=args.images)
        module, method, device, batch_size = ours.module, ours.module.method, ours.device, ours.progress.samples
        theirs = LightlyMAE(ours.spec, ours.bands, args.size, args.norm_pix).to(device)
        duel(ours, theirs, lambda: theirs.loss(ours.views["image"]))

        timer, generator = WaitTimer(), step_generator(device, 0, 0)
        sampler = EndlessBatchSampler(len(ours.source), batch_size, 0)
        sources = {"image": ours.source}
        loader = iter(train_loader(sources, sampler, workers=0, pin_memory=device.type == "cuda", timer=timer))
        made = [0.0]

        def whole() -> Tensor:
            arrived = {name: tensor.to(device) for name, tensor in next(loader).items()}
            start = time.perf_counter()
            with torch.autocast(device.type, enabled=False), torch.no_grad():  # views are float32, as in training
                fresh = method.views(module.standardise(arrived), generator, Progress(0, 1, 0))
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            made[0] += time.perf_counter() - start
            return module.loss_of(fresh)[0]

        whole_step = stepper(method, whole, ours.autocast)
        seconds(whole_step, 2, device)
        timer.seconds, made[0], count = 0.0, 0.0, args.rounds * args.steps
        per_step, _ = seconds(whole_step, count, device)
        waiting, views_made = timer.seconds / count, made[0] / count

    print(f"whole step       {per_step * 1e3:8.1f} ms   {batch_size / per_step:8.0f} images/s (with data and views)")
    print(f"  waiting for data {100 * waiting / per_step:6.2f} %")
    print(f"  making views     {100 * views_made / per_step:6.2f} %")


if __name__ == "__main__":
    main()
