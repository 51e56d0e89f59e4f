"""Keeping the networks that an evaluation trains on maps, and bringing them back (see `rsfm.network_info`)."""

from __future__ import annotations

import shutil
import uuid

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from rsfm.data.seeding import seeded
from rsfm.errors import RsfmError
from rsfm.evaluation.networks import TaskNetwork, build
from rsfm.evaluation.plan import Plan
from rsfm.models.baselines import resolve
from rsfm.models.export import load_strictly, weights_hash
from rsfm.network_info import NetworkInfo, network_folder
from rsfm.specs import EvaluateSpec
from rsfm.store.files import utc_now, write_json
from rsfm.store.runs import RunFolder, open_run
from rsfm.tasks import TASKS
from rsfm.workspace import Workspace


def kept_bytes(network: TaskNetwork) -> int:
    """What `save_network` will take on the disk."""
    return sum(t.numel() * t.element_size() for t in network.trained_state().values())


def save_network(
    run: RunFolder, network: TaskNetwork, spec: EvaluateSpec, what: Plan, adaptation: str, eval_seed: int
) -> NetworkInfo:
    """Keep a trained network of maps in one step; one that is already there is replaced."""
    state = {name: t.detach().cpu().contiguous() for name, t in network.trained_state().items()}
    model, layer = network.model, what.pack.layer(what.pack.main)
    info = NetworkInfo(
        run_id=run.id, adaptation=adaptation, eval_seed=eval_seed, model=spec.model, model_title=model.title,
        model_key=model.key, task=what.task.name, classes=what.classes, image_size=layer.shape[1:],
        bands=model.bands, pack=what.pack.info.model_copy(update={"skipped": [], "notes": []}),
        weights_hash=weights_hash(state), bytes=kept_bytes(network), created=utc_now(),
    )  # fmt: skip
    folder = network_folder(run, adaptation, eval_seed)
    folder.parent.mkdir(exist_ok=True)
    staging = folder.with_name(f".new-{folder.name}-{uuid.uuid4().hex[:8]}")
    staging.mkdir()
    try:
        save_file(state, staging / "network.safetensors")
        write_json(staging / "network.json", info.model_dump(mode="json"))
        if folder.exists():  # of an attempt that was killed before it noted that this one is done
            shutil.rmtree(folder)
        staging.rename(folder)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return info


def load_network(workspace: Workspace, info: NetworkInfo, device: str | torch.device = "cpu") -> TaskNetwork:
    """The network as it was trained, in eval mode.

    The pack that it was trained on need not be there any more: its description is kept with the network.

    Raises:
        RsfmError: the encoder cannot be had or is not the one that was used, or the kept weights are damaged.
    """
    spec = open_run(workspace, info.run_id).spec()
    assert isinstance(spec, EvaluateSpec)
    model = resolve(spec, info.trained_on, workspace, device)
    if model.key != info.model_key:
        raise RsfmError(
            f"The encoder {info.model} is not the one that run {info.run_id} used: its weights or its preprocessing "
            "have changed. Evaluate again."
        )
    with seeded("network", info.adaptation, info.eval_seed):  # its draws are replaced below
        network = build(
            model, TASKS[info.task], info.adaptation, len(info.classes), info.image_size, spec.fit
        ).to(model.mean.device)  # fmt: skip
    file = info.folder(workspace) / "network.safetensors"
    try:
        state = load_file(file)
    except (SafetensorError, OSError) as error:
        raise RsfmError(f"{file} cannot be read: {error}. Evaluate again.") from error
    if weights_hash(state) != info.weights_hash:
        raise RsfmError(f"{file} is not the file that network.json describes: its content hash differs.")
    trained = network.trained_state().keys()
    frozen = {n: t for n, t in network.state_dict().items() if n not in trained}
    load_strictly(network, {**frozen, **state}, where=str(file))
    return network.eval()
