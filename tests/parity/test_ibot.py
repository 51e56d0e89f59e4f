"""iBOT: masks, patch loss, its equality with DINO where nothing is hidden, the overlap of two crops, first values."""

from __future__ import annotations

import copy

import pytest
import torch
from distillation_world import PLAIN, START, batch, generator, make, part, views

from rsfm.data.augment import Augmenter, View
from rsfm.data.source import LayerInput
from rsfm.losses.self_distillation import centred_targets, image_weights, on_patches
from rsfm.methods.base import Progress
from rsfm.methods.ibot import overlap_label
from rsfm.model_info import ModelBand
from rsfm.registry.augmentation import AugmentParams
from rsfm.registry.ibot import IBOTParams

torch.set_num_threads(1)
OVERLAP = {"lambda_overlap": 1.0, "overlap_width": 16, "overlap_pool_width": 8}


# -- first values ----------------------------------------------------------------------------------------------------


def test_initial_loss_of_vit_s():
    """The original classes start at 8.45 between views and 4.52 on patches where one of two views hides nothing."""
    encoder = {"patch_size": 16, "width": 384, "depth": 12, "heads": 6, "positions": "learned"}
    method = make(
        "ibot", 3, 224, encoder=encoder,
        prototypes=8192, head_hidden=2048, bottleneck=256, local_crops=0, backbone_init="normal",
        mask_ratios=[0.3], mask_spreads=[0.2],
    )  # fmt: skip
    found = views(method, 3)
    found["global"] = torch.randn(found["global"].shape, generator=generator())
    found["hidden"][0] = False
    with torch.no_grad():
        parts = method.loss(found)
    assert parts.parts["class"].item() == pytest.approx(8.45, abs=0.2)
    assert 4.1 < parts.parts["patch"].item() < 4.7
    assert parts.logs["patch_ce"].item() == pytest.approx(2 * parts.parts["patch"].item(), rel=1e-5)


@pytest.mark.parametrize("shared", [True, False])
def test_the_teachers_head_starts_as_the_students(shared):
    method = make("ibot", shared_head=shared)
    z = method.head.embed(torch.randn(5, 32))
    assert torch.equal(method.head.patch_prototypes(z), method.teacher_head.patch_prototypes(z))
    assert torch.equal(method.head.prototypes(z), method.teacher_head.prototypes(z))
    same = torch.equal(method.head.patch_prototypes(z), method.head.prototypes(z))
    assert same == shared


def test_patches_without_observation_do_not_count():
    """Hidden from the student like others, but the loss is that of the rest."""
    method = make("ibot", mask_ratios=[0.9], mask_spreads=[0.0], **{"augment": {**PLAIN, "blur_sigma_max": 0.1}})
    stored = batch(method)
    stored.images["image"][:3, :, :, :] = -0.5
    with torch.no_grad():
        found = dict(method.views(stored, generator(), START))
        assert found["flat"][:, :3].all() and not found["flat"][:, 3:].any()
        alone = {**found, "hidden": found["hidden"] & ~found["flat"]}
        parts, logs = (method.loss(found), method.loss(alone).logs)
        assert parts.logs["flat_patch_share"].item() == pytest.approx(0.5)
        nothing = method.loss({**found, "flat": torch.ones_like(found["flat"])}).parts["patch"]
    assert nothing.item() == 0
    # Images that count nothing stay in the denominator; what the student sees of the others is the same.
    torch.testing.assert_close(parts.logs["patch_ce"], logs["patch_ce"])


# -- masks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["random", "block"])
def test_masks_differ_between_views_and_images(kind):
    method = make("ibot", size=64, mask_kind=kind, mask_ratios=[0.0, 0.5], mask_spreads=[0.0, 0.1])
    hidden = views(method, 300)["hidden"]
    assert hidden.shape == (2, 300, 64)
    share = hidden.float().mean(dim=2)
    assert (share == 0).float().mean().item() == pytest.approx(0.5, abs=0.06)
    assert share.max() <= 0.6
    assert share[share > 0].mean().item() == pytest.approx(0.5, abs=0.05)
    assert not torch.equal(hidden[0], hidden[1])
    logs = method.loss(part(views(method, 300), slice(0, 8))).logs
    assert logs["mask_share"].item() == pytest.approx(hidden[:, :8].float().mean().item())


def test_hidden_pixels_reach_the_teacher_only():
    method = make("ibot")
    found = views(method)
    found["hidden"] = torch.zeros(2, 6, 16, dtype=torch.bool)
    found["hidden"][..., 5] = True
    changed = {**found, "global": found["global"].clone()}
    changed["global"][..., 8:16, 8:16] = 7.0  # the sixth of 4 × 4 patches
    hidden = found["hidden"].flatten(0, 1)
    with torch.no_grad():
        a, b = (method.encode(f, hidden, method.mask_token) for f in (found, changed))
    assert torch.equal(a[1], b[1])
    assert torch.equal(a[2], b[2])
    assert not torch.equal(a[0], b[0])


def test_the_mask_token_starts_at_zero_and_learns():
    method = make("ibot", mask_ratios=[0.5], mask_spreads=[0.0])
    assert method.mask_token.abs().max() == 0
    method.loss(views(method)).total.backward()
    assert method.mask_token.grad.abs().max() > 0
    exempt = {id(p) for group in method.parameter_groups() if not group.decay for p in group.parameters}
    assert id(method.mask_token) in exempt


# -- the loss --------------------------------------------------------------------------------------------------------


def test_without_masks_and_patch_loss_it_is_dino():
    dino = make("dino")
    ibot = make("ibot", lambda_patch=0.0, mask_ratios=[0.0], mask_spreads=[0.0])
    assert all(torch.equal(value, ibot.state_dict()[key]) for key, value in dino.state_dict().items())
    found, same = views(ibot), views(dino)
    assert all(torch.equal(value, found[key]) for key, value in same.items())
    ours, theirs = ibot.loss(found), dino.loss(same)
    assert torch.equal(ours.total, theirs.total)
    assert ours.parts["patch"] == 0
    ours.total.backward()
    theirs.total.backward()
    for (key, a), b in zip(
        dino.named_parameters(), (dict(ibot.named_parameters())[k] for k, _ in dino.named_parameters()), strict=True
    ):
        assert (a.grad is None) == (b.grad is None), key
        if a.grad is not None:
            torch.testing.assert_close(a.grad, b.grad)


@pytest.mark.parametrize("shared", [True, False])
def test_the_patch_loss_is_that_of_all_logits(shared):
    """Heads run on hidden patches only; the loss is that of logits everywhere."""
    method = make("ibot", mask_ratios=[0.0, 0.5], mask_spreads=[0.0, 0.2], shared_head=shared)
    method.patch_centre.normal_(generator=generator(1)).mul_(0.1)
    found = views(method)
    hidden = found["hidden"].flatten(0, 1)
    with torch.no_grad():
        value = method.loss(found).parts["patch"]
        teacher, student, _ = method.encode(found, hidden, method.mask_token)
        head, ours = method.teacher_head, method.head
        targets = centred_targets(head.patch_prototypes(head.embed(teacher[:, 1:])), method.patch_centre, 0.04)
        logits = ours.patch_prototypes(ours.embed(student[:, 1:]))
        expected = on_patches(targets[hidden], logits[hidden], image_weights(found["hidden"])[found["hidden"]], 0.1)
    torch.testing.assert_close(value, expected)


@pytest.mark.parametrize("which", ["all", "hidden"])
def test_the_patch_centre_is_the_mean_over_the_chosen_patches(which):
    method = make("ibot", patch_centre=which, mask_ratios=[0.5], mask_spreads=[0.2])
    found = views(method)
    with torch.no_grad():
        head = method.teacher_head
        logits = head.patch_prototypes(head.embed(method.encoder.forward_tokens(found["global"].flatten(0, 1))[:, 1:]))
        chosen = logits.flatten(0, 1) if which == "all" else logits[found["hidden"].flatten(0, 1)]
        method.loss(found)
        method.after_step(Progress(1, 10, 8))
    torch.testing.assert_close(method.patch_centre, 0.1 * chosen.mean(dim=0), atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("centring", ["centre", "sinkhorn"])
@pytest.mark.parametrize("which", ["all", "hidden"])
def test_a_batch_that_hides_nothing(which, centring):
    method = make("ibot", mask_ratios=[0.0], mask_spreads=[0.0], patch_centre=which, centring=centring)
    parts = method.loss(views(method))
    parts.total.backward()
    assert parts.parts["patch"] == 0
    assert all(torch.isfinite(value) for value in parts.logs.values())
    with torch.no_grad():
        method.after_step(Progress(1, 10, 8))
    assert all(torch.isfinite(value).all() for value in method.state_dict().values())
    assert (method.patch_centre.abs().max() > 0) == (which == "all" and centring == "centre")


def test_sinkhorn_needs_no_centre():
    method = make("ibot", centring="sinkhorn")
    parts = method.loss(views(method))
    with torch.no_grad():
        method.after_step(Progress(1, 10, 8))
    assert method.centre.abs().max() == 0
    assert parts.logs["prototype_use"] > make("ibot").loss(views(method)).logs["prototype_use"]


def test_weights_of_the_parts():
    found, one = views(make("ibot", **OVERLAP)), make("ibot", **OVERLAP)
    more = make("ibot", **{**OVERLAP, "lambda_overlap": 3.0}, lambda_class=0.5, lambda_patch=2.0)
    more.load_state_dict(one.state_dict())
    first, second = one.loss(found), more.loss(found)
    for name, weight in (("class", 0.5), ("patch", 2.0), ("overlap", 3.0)):
        torch.testing.assert_close(second.parts[name], weight * first.parts[name])
    torch.testing.assert_close(sum(second.parts.values()), second.total)


def test_freezing_holds_both_sets_of_prototypes():
    method = make("ibot", shared_head=False, freeze_prototypes_samples=8)
    method.loss(views(method)).total.backward()
    held = [method.head.prototypes.directions, method.head.patch_prototypes.directions]
    assert all(p.grad is not None for p in held)
    method.after_backward(Progress(1, 10, 8))
    assert all(p.grad is not None for p in held)
    method.after_backward(START)
    assert all(p.grad is None for p in held)
    assert method.head.mlp[0].weight.grad is not None


# -- the overlap of two crops ----------------------------------------------------------------------------------------


def test_overlap_golden():
    first, second = torch.tensor([[10.0, 20.0, 100.0, 80.0]]), torch.tensor([[60.0, 50.0, 100.0, 80.0]])
    none = torch.zeros(1, 3, dtype=torch.bool)
    label = overlap_label(first, second, none, 224)
    assert label.sum().item() == 15680  # 31.25 % of 50176; in the source 2500 of 8000 pixels
    assert label[0, 112:, 84:].all()
    assert overlap_label(first, first, none, 224).all()
    assert not overlap_label(first, second + torch.tensor([200.0, 0, 0, 0]), none, 224).any()


def test_the_overlap_is_flipped_as_its_view_is():
    """An image that is bright where the second crop lies, seen through the first view, is the label."""
    count, side, size = 64, 48, 32
    layer = LayerInput(
        "image", [ModelBand(name="b", wavelength_nm=None, gsd_m=1, unit="dn", mean=0, std=1)], side, side
    )
    augment = Augmenter(layer, AugmentParams(**{**PLAIN, "flips": "dihedral"}))
    g, view = generator(2), View(size, (0.2, 0.9))
    images = torch.zeros(count, 1, side, side)
    first, second = augment.boxes(images, view, g), augment.boxes(images, view, g)
    for image, (top, left, height, width) in zip(images, second.long().tolist(), strict=True):
        image[:, top : top + height, left : left + width] = 1.0
    flips = augment.flips(count, g)
    seen = augment(images, view, g, boxes=first, flips=flips)[:, 0] > 0.5
    label = overlap_label(first, second, flips, size)
    assert (seen == label).float().mean() > 0.985  # the edges fall between pixels
    assert (seen == overlap_label(first, second, flips.flip(1), size)).float().mean() < 0.95


def test_the_overlap_is_learned_by_the_student_and_its_decoder():
    method = make("ibot", **OVERLAP, equal_scale=True, shared_flip=True)
    found = views(method)
    assert found["overlap"].shape == (6, 32, 32)
    method._overlap_term(found)[0].backward()
    assert all(p.grad is not None for p in method.overlap.parameters())
    assert method.student.patch_projection.weight.grad.abs().max() > 0
    assert all(p.grad is None for p in method.encoder.parameters())
    trained = {id(p) for group in method.parameter_groups() for p in group.parameters}
    assert {id(p) for p in method.overlap.parameters()} <= trained
    names = [name for name, _ in method.views_panel(batch(method), found).rows]
    assert "where global view 2 lies in view 1" in names
    method.eval()
    assert [panel.what for panel in method.previews(found)] == ["features", "overlap"]


def test_the_first_view_looks_for_the_second():
    """The decoder gets the student's view 1 and the teacher's view 2, and nothing else."""
    method = make("ibot", **OVERLAP)
    method.eval()
    found = views(method)
    value = method.loss(found).parts["overlap"]
    other = {**found, "local": 2 * found["local"], "hidden": ~found["hidden"]}
    assert torch.equal(method.loss(other).parts["overlap"], value)
    swapped = {**found, "global": found["global"].flip(0)}
    assert not torch.equal(method.loss(swapped).parts["overlap"], value)
    alone = copy.deepcopy(method)
    alone.encoder.patch_projection.weight.data.add_(1.0)
    assert not torch.equal(alone.loss(found).parts["overlap"], value)


@pytest.mark.parametrize("depth", [1, 3])
def test_shallow_encoders_serve_all_levels(depth):
    method = make("ibot", encoder={"depth": depth}, **OVERLAP)
    assert torch.isfinite(method.loss(views(method)).total)


def test_the_overlap_can_be_found():
    method = make(
        "ibot", encoder={"width": 48}, lambda_class=0.0, lambda_patch=0.0, lambda_overlap=1.0, overlap_width=32,
        overlap_pool_width=16, equal_scale=True, shared_flip=True, augment=PLAIN, local_crops=0,
        global_min_scale=0.3, mask_ratios=[0.0], mask_spreads=[0.0],
    )  # fmt: skip
    found = views(method, 24)
    parameters = [p for group in method.parameter_groups() for p in group.parameters]
    optimiser = torch.optim.AdamW(parameters, lr=2e-3)
    accuracy = []
    for _ in range(40):
        optimiser.zero_grad()
        parts = method.loss(found)
        parts.total.backward()
        optimiser.step()
        accuracy.append(parts.logs["overlap_accuracy"].item())
    share = parts.logs["overlap_share"].item()
    assert accuracy[-1] > max(share, 1 - share) + 0.1


# -- settings --------------------------------------------------------------------------------------------------------


def test_params_validate():
    with pytest.raises(ValueError, match="one spread for each ratio"):
        IBOTParams(mask_ratios=[0.0, 0.3], mask_spreads=[0.0])
    with pytest.raises(ValueError, match="not within 0 and 1"):
        IBOTParams(mask_ratios=[0.1], mask_spreads=[0.2])
    with pytest.raises(ValueError, match="nothing to learn from"):
        IBOTParams(lambda_class=0, lambda_patch=0)
