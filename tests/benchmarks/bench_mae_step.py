"""A training step of our masked autoencoder against one built from lightly's blocks, on the same ViT.

    python tests/benchmarks/bench_mae_step.py [--preset cpu] [--batch 128] [--device cpu] [--precision bf16] [--compile]

Both get the same images, encoder and decoder sizes, mask ratio and optimiser; ours also normalises its targets and
leaves flat patches out, as its defaults are, lightly's does so with --norm-pix. Rounds alternate, and the ratios are
medians of rounds, so that other load on the machine hits both; the ratio of processor time hardly sees such load at
all. Then the parts of a whole step of a run: waiting for the batch, making views, the rest.

Run it with OMP_WAIT_POLICY=PASSIVE, as jobs are.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from lightly.models import utils
from lightly.models.modules import MaskedVisionTransformerDecoderTIMM, MaskedVisionTransformerTIMM
from steps import add_options, duel, flops, make_pack, say_share_of_peak, seconds, settings_of, stepper
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from rsfm.data.loader import WaitTimer, train_loader
from rsfm.data.sampler import EndlessBatchSampler
from rsfm.data.seeding import step_generator
from rsfm.data.source import PackSource
from rsfm.methods.base import Progress
from rsfm.methods.mae import MAE
from rsfm.registry.mae import MAEParams
from rsfm.specs import PretrainSpec, pretrain_spec
from rsfm.train.module import PretrainModule
from rsfm.train.pretrain import suit_device
from rsfm.train.setup import set_up
from rsfm.workspace import Workspace


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
    parser = argparse.ArgumentParser(description=__doc__)
    add_options(parser, rounds=8, steps=4)
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--norm-pix", action="store_true", help="lightly's step normalises its targets too")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = torch.device(args.device)

    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder))
        make_pack(workspace, max(args.images, args.batch), args.size)
        spec = pretrain_spec("mae", "bench", args.preset, settings_of(args))
        setup = set_up(spec, workspace)
        suit_device(spec, setup, device)  # as jobs do
        module = PretrainModule(spec, setup.method, setup.sources).to(device)
        method = setup.method
        assert isinstance(method, MAE)
        batch_size = spec.optim.batch_size // spec.optim.accumulate
        source: PackSource = setup.sources["image"]
        stored = {"image": source[np.arange(batch_size)].to(device), "index": torch.arange(batch_size, device=device)}
        batch = module.standardise(stored)
        generator = step_generator(device, 0, 0)
        views = method.views(batch, generator, Progress(0, 1, 0))
        theirs = LightlyMAE(spec, len(source.input.bands), args.size, args.norm_pix).to(device)

        print(f"{args.preset}: {spec.encoder.model_dump()}, batch {batch_size}, 7 bands, {args.size} px, {args.device}")
        operations = flops(lambda: method.loss(views).total, device, args.precision)
        step = duel(
            stepper(method, lambda: module.loss_of(views)[0], precision=args.precision),
            stepper(theirs, lambda: theirs.loss(views["image"]), precision=args.precision),
            rounds=args.rounds, steps=args.steps, batch_size=batch_size, device=device,
        )  # fmt: skip
        say_share_of_peak(operations, step, device, args.precision)

        timer = WaitTimer()
        sampler = EndlessBatchSampler(len(source), batch_size, 0)
        loader = iter(train_loader(setup.sources, sampler, workers=0, pin_memory=device.type == "cuda", timer=timer))
        made = [0.0]

        def whole() -> Tensor:
            arrived = {name: tensor.to(device) for name, tensor in next(loader).items()}
            start = time.perf_counter()
            with torch.no_grad():
                fresh = method.views(module.standardise(arrived), generator, Progress(0, 1, 0))
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            made[0] += time.perf_counter() - start
            return module.loss_of(fresh)[0]

        whole_step = stepper(method, whole, precision=args.precision)
        seconds(whole_step, 2, device)
        timer.seconds, made[0], count = 0.0, 0.0, args.rounds * args.steps
        per_step, _ = seconds(whole_step, count, device)
        waiting, views_made = timer.seconds / count, made[0] / count

    print(f"whole step       {per_step * 1e3:8.1f} ms   {batch_size / per_step:8.0f} images/s (with data and views)")
    print(f"  waiting for data {100 * waiting / per_step:6.2f} %")
    print(f"  making views     {100 * views_made / per_step:6.2f} %")


if __name__ == "__main__":
    main()
