"""One embedding job: features of a pack at some severities, on one map (`rsfm embed`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from rsfm.degrade import OperatorEntry, operator
from rsfm.device import granted_device
from rsfm.embed.layout import normalised, principal, umap_layout
from rsfm.embed.quality import figures, kept, nearest
from rsfm.embedding_info import KIND, PATH, Embedding, write_embedding
from rsfm.errors import RsfmError
from rsfm.evaluation.features import FeatureCache, extract, forward
from rsfm.evaluation.images import PackImages
from rsfm.models.baselines import resolve
from rsfm.models.export import FeatureModel
from rsfm.packs import Pack
from rsfm.specs import EmbedSpec, takes_seed
from rsfm.store.job import JobContext
from rsfm.workspace import Workspace

#: Points of one map, over all severities: more neither a browser nor a reader takes in.
MAX_POINTS = 100_000


@dataclass(frozen=True)
class Plan:
    """A spec on a pack.

    Attributes:
        rows: split -> sorted rows that are embedded.
        total: samples of the splits.
    """

    pack: Pack
    layer: str
    operator: OperatorEntry
    severities: tuple[float, ...]
    rows: dict[str, np.ndarray]
    total: int

    @property
    def count(self) -> int:
        return sum(map(len, self.rows.values()))

    def title(self, severity: float) -> str:
        return f"{severity:g}{self.operator.severity_unit}"

    @property
    def whole(self) -> bool:
        return self.count == self.total


def plan(spec: EmbedSpec, workspace: Workspace) -> Plan:
    """Check everything that needs no model.

    Raises:
        RsfmError: a split, an image or a severity that the pack does not have; too few samples; settings in vain.
    """
    pack = Pack.named(workspace, spec.dataset)
    pairs = {"image_pre", "image_post"} <= {layer.name for layer in pack.info.layers}
    if spec.image != "auto" and not pairs:
        raise RsfmError(f"Samples of pack {pack.name!r} are single images: set image to auto, not {spec.image}.")
    layer = f"image_{'post' if spec.image == 'auto' else spec.image}" if pairs else pack.main
    for split in spec.splits:
        pack.require_split(split)
    splits = {split: pack.info.splits[split] for split in spec.splits or pack.info.splits}
    total = sum(splits.values())
    if spec.model_seed and not takes_seed(spec.model):
        raise RsfmError(
            f"model_seed={spec.model_seed} is for random: models; {spec.model} was initialised before. Leave it out."
        )
    degrade = operator(spec.operator)
    if degrade.pairs_only:
        raise RsfmError(f"{degrade.title} is between the two images of a pair; an embedding shows one image each.")
    if not spec.severities and spec.operator != EmbedSpec.model_fields["operator"].default:
        raise RsfmError(
            f"operator={spec.operator} needs severities, e.g. {', '.join(f'{s:g}' for s in degrade.severities)}: "
            "without any, images are embedded as they are."
        )
    severities = tuple(map(float, spec.severities)) or (float(degrade.identity),)
    _, height, width = pack.layer(layer).shape
    for severity in severities:
        degrade.check(severity, height, width, pack.layer(layer).bands)
    chosen, most = np.arange(total), min(spec.max_samples, MAX_POINTS // len(severities))
    if min(total, most) <= spec.neighbors:
        raise RsfmError(
            f"{min(total, most)} samples of pack {pack.name!r} ({', '.join(splits)}) would be embedded: "
            f"{spec.neighbors} UMAP neighbours need more. Lower neighbors, or raise max_samples, or add splits."
        )
    if total > most:
        chosen = np.sort(np.random.default_rng(spec.seed).choice(total, most, replace=False))
    rows, start = {}, 0
    for split, size in splits.items():
        rows[split] = chosen[(chosen >= start) & (chosen < start + size)] - start
        start += size
    return Plan(pack, layer, degrade, severities, rows, total)


def dry_run(spec: EmbedSpec, workspace: Workspace) -> list[str]:
    """Check a spec without running it, one forward pass at the worst severity included.

    Returns:
        Remarks: what is unusual.

    Raises:
        RsfmError: the job cannot run.
    """
    what = plan(spec, workspace)
    device = granted_device(spec.device, "cuda" if spec.device == "cuda" else "cpu")
    model = resolve(spec, what.pack, workspace, device)
    images = PackImages(what.pack, model, what.operator, what.layer)
    split, rows = next((s, r) for s, r in what.rows.items() if len(r))
    if not np.isfinite(forward(model, images.read(split, rows[:8], what.severities[-1]), device)).all():
        raise RsfmError(f"Model {model.name} gives features that are not finite on pack {what.pack.name!r}.")
    needed = len(what.severities) * what.total * model.feature_dim * 4 if what.whole else 0
    if needed > workspace.free_bytes():
        raise RsfmError(f"The features take {needed / 1e9:.1f} GB, more than is free on the disk of {workspace.root}.")
    remarks = [] if what.whole else [f"A random {what.count:,} of {what.total:,} samples are embedded."]
    if what.pack.info.synthetic:
        remarks.append(f"Pack {what.pack.name!r} is synthetic: its map says nothing about real imagery.")
    return [*remarks, *model.remarks]


def run_job(spec: EmbedSpec, context: JobContext) -> None:
    """Embed one pack with one model; the table goes to the run's artifacts.

    Raises:
        RsfmError: see `plan` and `resolve`; features that are all alike, which have no map.
        Stopped: on request. Features that were extracted whole stay in the cache for the next attempt.
    """
    torch.set_num_threads(spec.threads or context.threads)
    what = plan(spec, context.workspace)
    device = granted_device(spec.device, context.device)
    model = resolve(spec, what.pack, context.workspace, device)
    print(f"{model.title} on {what.pack.name} ({', '.join(what.rows)}; {what.count:,} samples)", flush=True)
    for remark in model.remarks:
        print(f"note: {remark}", flush=True)
    progress = _Progress(context, what)
    images = PackImages(what.pack, model, what.operator, what.layer)
    samples = pd.concat([what.pack.split_samples(s).iloc[rows] for s, rows in what.rows.items()], ignore_index=True)
    labels = samples["label_index"]
    classes = None if labels.isna().all() else labels.fillna(-1).to_numpy(np.int64)
    found = [
        normalised(_features(spec, what, model, images, severity, device, context, progress.phase(name)), spec.metric)
        for severity, name in ((s, f"features {what.title(s)}") for s in what.severities)
    ]
    if np.ptp(found[0], axis=0).max() == 0:
        raise RsfmError(f"Model {model.name} gives every image the same features: there is no map to draw.")
    within = [
        nearest(features, device=device, after_rows=progress.phase(f"neighbours {what.title(severity)}"))[0]
        for severity, features in zip(what.severities, found, strict=True)
    ]
    everything = np.concatenate(found)
    together = progress.phase("neighbours on the map", len(everything))
    near = nearest(everything, k=spec.neighbors, device=device, after_rows=together)
    epochs = progress.part("layout", len(everything))
    start, explained = principal(everything, spec.seed)
    placed = umap_layout(start, *near, min_dist=spec.min_dist, seed=spec.seed, progress=epochs)
    if not np.isfinite(placed).all():
        raise RsfmError(f"UMAP found no place for some samples of {what.pack.name!r}: raise neighbors.")
    maps: list[dict[str, object]] = []
    points: list[pd.DataFrame] = []
    gsd_m = what.pack.layer(what.layer).gsd_m
    for number, severity in enumerate(what.severities):
        rows = slice(number * what.count, (number + 1) * what.count)
        still = kept(within[number], within[0])
        maps.append(
            {
                "severity": severity, "gsd_m": what.operator.effective_gsd_m(gsd_m, severity),
                "neighbours_kept": float(still.mean()),
                **figures(found[number], placed[rows], within[number], classes, spec.seed),
            }
        )  # fmt: skip
        print(f"{what.title(severity)}: {_said(maps[-1])}", flush=True)
        points.append(
            pd.DataFrame(
                {
                    "severity": severity, "split": samples["split"], "row": samples["row"], "id": samples["id"],
                    "x": placed[rows, 0], "y": placed[rows, 1], "pc1": start[rows, 0], "pc2": start[rows, 1],
                    "neighbours": list(within[number]), "kept": still,
                }
            )
        )  # fmt: skip
    info = what.pack.info
    about = {
        "model": spec.model, "model_title": model.title, "model_group": model.group, "model_seed": model.seed,
        "dataset": what.pack.name, "pack_hash": info.content_hash, "layer": what.layer, "synthetic": info.synthetic,
        "bands": [band.name for band in model.bands], "operator": spec.operator, "metric": spec.metric,
        "splits": list(what.rows), "count": what.count, "total": what.total, "seed": spec.seed,
        "feature_dim": model.feature_dim, "explained": explained, "neighbors": spec.neighbors,
        "min_dist": spec.min_dist, "maps": maps,
    }  # fmt: skip
    path = context.folder.path / PATH
    write_embedding(path, Embedding(about=about, points=pd.concat(points, ignore_index=True)))
    context.artifact(path, kind=KIND, title=f"{model.title} on {what.pack.name}")
    progress.finish()


def _features(
    spec: EmbedSpec, what: Plan, model: FeatureModel, images: PackImages, severity: float, device: torch.device,
    context: JobContext, after: Callable[[int], None],
) -> np.ndarray:  # fmt: skip
    """(N, D) float32; of whole splits from the cache that evaluations share, of a sample of them computed anew."""
    if what.whole:
        cache = FeatureCache(context.workspace)
        return np.concatenate(
            [
                extract(
                    model, images, split, severity, cache=cache, device=device, batch_size=spec.images_per_pass,
                    after_batch=after,
                )
                for split in what.rows
            ]
        )  # fmt: skip
    found = []
    for split, rows in what.rows.items():
        for start in range(0, len(rows), spec.images_per_pass):
            some = rows[start : start + spec.images_per_pass]
            found.append(forward(model, images.read(split, some, severity), device))
            after(len(some))
    features = np.concatenate(found)
    if not np.isfinite(features).all():
        raise RsfmError(f"Model {model.name} gives features that are not finite on pack {what.pack.name!r}.")
    return features


def _said(figures_: dict[str, object]) -> str:
    names = ("preservation", "trustworthiness", "silhouette_features", "silhouette_map", "neighbours_kept")
    return ", ".join(f"{n.replace('_', ' ')} {figures_[n]:.3f}" for n in names if figures_[n] is not None)


class _Progress:
    """Progress in points: each is encoded, compared within its severity and with all, and laid out."""

    def __init__(self, context: JobContext, what: Plan) -> None:
        self.context, self.count = context, what.count
        self.total = 4 * what.count * len(what.severities)
        self._name, self._before, self._inside, self._size = "", 0, 0, 0

    def phase(self, name: str, size: int | None = None) -> Callable[[int], None]:
        """Begin one; what comes back is called with the number of points after each piece."""
        self._before += self._size
        self._name, self._inside, self._size = name, 0, self.count if size is None else size
        self._tell(force=True)

        def after(count: int) -> None:
            self._inside += count
            self._tell()

        return after

    def part(self, name: str, size: int) -> Callable[[int, int], None]:
        """The same, called with (done, of how many)."""
        self.phase(name, size)

        def after(done: int, of: int) -> None:
            self._inside = round(size * done / max(of, 1))
            self._tell()

        return after

    def finish(self) -> None:
        self.context.progress(self.total, self.total, unit="points", phase="done", force=True)

    def _tell(self, *, force: bool = False) -> None:
        done = self._before + min(self._inside, self._size)
        self.context.progress(done, self.total, unit="points", phase=self._name, force=force)
        self.context.check_stop()
