"""Writing packs: atomic, resumable, hashed. The format itself is described in `rsfm.packs`.

A pack grows in `packs/.preparing-<name>`: samples are appended to the raw arrays, and a journal (`journal.jsonl`)
says which ones are safely there. A killed writer leaves only that folder; the next writer with the same request cuts
the arrays back to the journal and goes on. The last step is a rename, so `packs/<name>` is a whole pack or nothing,
and a pack that is replaced stays readable until the new one is complete.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from rsfm.band_statistics import RunningStatistics
from rsfm.data.observed import storable, unobserved
from rsfm.errors import RsfmError
from rsfm.geo import footprint
from rsfm.packs import SAMPLE_COLUMNS, LayerInfo, Pack, PackInfo, Skipped
from rsfm.store.files import append_jsonl, utc_now, write_json
from rsfm.workspace import Workspace

_SCHEMA = pa.schema(
    [
        ("id", pa.string()), ("split", pa.string()), ("row", pa.int64()), ("label", pa.string()),
        ("label_index", pa.int64()), ("labels", pa.list_(pa.string())), ("path", pa.string()),
        ("scene", pa.string()), ("date", pa.string()), ("sensor", pa.string()), ("gsd_m", pa.float64()),
        ("crs", pa.string()), ("transform", pa.list_(pa.float64())), ("west", pa.float64()), ("south", pa.float64()),
        ("east", pa.float64()), ("north", pa.float64()),
    ]
)  # fmt: skip
assert tuple(_SCHEMA.names) == SAMPLE_COLUMNS

_CHUNK_BYTES = 16 << 20
_ROW_GROUP = 20_000
#: What may wait for the journal: lost at worst when the writer is killed.
_FLUSH_BYTES = 32 << 20
_FLUSH_SECONDS = 1.0


def check_pack_name(name: str) -> str:
    """Refuse names that could not be a folder's, or that mean something to a shell or a URL."""
    if not name or not all(c.isascii() and (c.isalnum() or c in "-_.") for c in name) or not name[0].isalnum():
        raise RsfmError(f"{name!r} cannot be a name: use letters, digits, '-', '_' and '.', starting with a letter.")
    if len(name) > 80:
        raise RsfmError(f"The name {name[:40]!r}… is too long: at most 80 characters.")
    return name


class PackWriter:
    """Writes one pack; a context manager that holds the pack's lock.

        with PackWriter(workspace, "tiles", request_hash=h, layers=layers) as writer:
            for i, item in enumerate(items):
                if i < writer.position:   # an interrupted writer got this far
                    continue
                writer.add(id=..., split="train", arrays={"image": array})
            info = writer.finish(dataset="tiles", title="Tiles")

    Attributes:
        position: how many items (samples, skipped files, dropped tiles) the journal already holds.
        splits: number of samples so far, per split.
        skipped: unusable files so far, with reasons; a file that several samples are made from is named once.
        dropped: reason -> number of items left out on purpose (e.g. tiles without data).
    """

    def __init__(self, workspace: Workspace, name: str, *, request_hash: str, layers: Sequence[LayerInfo]) -> None:
        self.name = check_pack_name(name)
        self.request_hash = request_hash
        self.layers = [layer.model_copy(deep=True) for layer in layers]
        for layer in self.layers:
            if layer.role == "image" and len(layer.bands) != layer.shape[0]:
                raise RsfmError(
                    f"Layer {layer.name!r} of pack {name!r} has {layer.shape[0]} channels but {len(layer.bands)} bands."
                )
        self.final = workspace.packs / name
        self.staging = workspace.packs / f".preparing-{name}"
        self.replaced = workspace.packs / f".old-{name}"
        self._lock = FileLock(workspace.packs / f".preparing-{name}.lock", is_singleton=False)
        self._files: dict[tuple[str, str], BinaryIO] = {}
        self._pending: list[dict[str, Any]] = []
        self._pending_bytes = 0
        self._flushed = time.monotonic()
        self._reset()

    def _reset(self) -> None:
        self.position = 0
        self.splits: dict[str, int] = {}
        self.skipped: list[Skipped] = []
        self.dropped: dict[str, int] = {}
        self._ids: set[str] = set()

    @property
    def unusable(self) -> int:
        """Number of samples that were lost with the files that are skipped."""
        return self.position - sum(self.splits.values()) - sum(self.dropped.values())

    # -- opening ---------------------------------------------------------------------------------------------------
    def __enter__(self) -> Self:
        self.final.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise RsfmError(
                f"Pack {self.name!r} is being prepared by another process right now: wait for it, or use another name."
            ) from None
        try:
            self._recover()
            self._resume()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self.staging.is_dir() and not self.position and self.existing is not None:
                shutil.rmtree(self.staging)  # there was nothing to do
            elif self.staging.is_dir():
                self.flush()
        finally:
            for file in self._files.values():
                file.close()
            self._files.clear()
            self._lock.release()

    def _recover(self) -> None:
        """Mend what a writer killed between the two renames of `_publish` left."""
        if self.replaced.is_dir() and not self.final.exists():
            source = self.staging if (self.staging / "pack.json").is_file() else self.replaced
            source.rename(self.final)
        if self.replaced.is_dir():
            shutil.rmtree(self.replaced)

    @property
    def existing(self) -> PackInfo | None:
        """The finished pack, if it was made by this very request."""
        if not (self.final / "pack.json").is_file():
            return None
        try:
            info = Pack.open(self.final).info
        except RsfmError:
            return None  # damaged: it is made anew
        return info if info.request_hash == self.request_hash else None

    def _resume(self) -> None:
        header = {
            "request_hash": self.request_hash,
            "layers": [layer.model_dump(mode="json") for layer in self.layers],
        }
        rows = self._journal()
        if next(rows, None) == header:
            for row in rows:
                self._count(row)
            if self._cut_back():
                return
            self._reset()
        rows.close()
        if self.staging.exists():
            shutil.rmtree(self.staging)
        (self.staging / "arrays").mkdir(parents=True)
        append_jsonl(self._journal_path, header)

    def _cut_back(self) -> bool:
        """Cut the arrays to the journalled samples; False where an array lost some of them."""
        wanted = {
            self._array_path(split, layer): count * _sample_bytes(layer)
            for split, count in self.splits.items()
            for layer in self.layers
        }
        for path, size in wanted.items():
            if not path.is_file() or path.stat().st_size < size:
                return False
            os.truncate(path, size)
        for path in (self.staging / "arrays").iterdir():
            if path not in wanted:
                path.unlink()
        return True

    @property
    def _journal_path(self) -> Path:
        return self.staging / "journal.jsonl"

    def _journal(self) -> Generator[dict[str, Any], None, None]:
        """Rows of the journal, one by one; ends before a half line, which it cuts off."""
        if not self._journal_path.is_file():
            return
        with self._journal_path.open("rb") as file:
            good = 0
            for line in file:
                try:
                    row = json.loads(line)
                except ValueError:
                    break
                if not line.endswith(b"\n"):
                    break
                good += len(line)
                yield row
        if self._journal_path.stat().st_size > good:
            os.truncate(self._journal_path, good)

    def _array_path(self, split: str, layer: LayerInfo) -> Path:
        return self.staging / "arrays" / f"{split}.{layer.name}.bin"

    # -- growing ---------------------------------------------------------------------------------------------------
    def _count(self, row: dict[str, Any]) -> None:
        self.position += 1
        if "skipped" in row:
            if (found := Skipped(path=row["skipped"], reason=row["reason"])) not in self.skipped[-1:]:
                self.skipped.append(found)
        elif "dropped" in row:
            self.dropped[row["dropped"]] = self.dropped.get(row["dropped"], 0) + 1
        else:
            self.splits[row["split"]] = self.splits.get(row["split"], 0) + 1
            self._ids.add(row["id"])

    def add(
        self,
        *,
        id: str,
        split: str,
        arrays: Mapping[str, np.ndarray],
        label: str | None = None,
        labels: Sequence[str] | None = None,
        path: str = "",
        scene: str | None = None,
        date: str | None = None,
        sensor: str | None = None,
        gsd_m: float | None = None,
        crs: str | None = None,
        transform: Sequence[float] | None = None,
    ) -> None:
        """Append one sample.

        Args:
            arrays: layer name -> (C, H, W) in the layer's dtype and shape; all layers, nothing else.
            transform: affine a b c d e f of the stored grid; with `crs` it gives the footprint.

        Raises:
            RsfmError: an id seen before, or arrays that do not fit the layers.
        """
        check_pack_name(split)
        if id in self._ids:
            raise RsfmError(f"Two samples of pack {self.name!r} have the id {id!r}; ids must be unique.")
        if set(arrays) != {layer.name for layer in self.layers}:
            raise RsfmError(
                f"Sample {id!r} has the layers {sorted(arrays)}, but pack {self.name!r} has "
                f"{sorted(layer.name for layer in self.layers)}."
            )
        for layer in self.layers:
            array = arrays[layer.name]
            if array.shape != layer.shape or array.dtype != np.dtype(layer.dtype):
                raise RsfmError(
                    f"Sample {id!r}, layer {layer.name!r}: got {array.dtype} {array.shape}, "
                    f"the pack holds {layer.dtype} {layer.shape}."
                )
        bounds = (None, None, None, None)
        if crs is not None and transform is not None:
            _, height, width = self.layers[0].shape
            bounds = footprint(crs, transform, height, width)
        row = {
            "id": id, "split": split, "row": self.splits.get(split, 0), "label": label,
            "labels": None if labels is None else list(labels), "path": path, "scene": scene, "date": date,
            "sensor": sensor if sensor is not None else self.layers[0].sensor,
            "gsd_m": gsd_m if gsd_m is not None else self.layers[0].gsd_m,
            "crs": crs, "transform": None if transform is None else [float(v) for v in transform],
            **dict(zip(("west", "south", "east", "north"), bounds, strict=True)),
        }  # fmt: skip
        for layer in self.layers:
            data = np.ascontiguousarray(arrays[layer.name]).tobytes()
            self._file(split, layer).write(data)
            self._pending_bytes += len(data)
        self._remember(row)

    def skip(self, path: str, reason: str) -> None:
        """Record a file that cannot be used."""
        self._remember({"skipped": path, "reason": reason})

    def drop(self, reason: str) -> None:
        """Record an item that is left out on purpose, e.g. a tile outside the scene."""
        self._remember({"dropped": reason})

    def _file(self, split: str, layer: LayerInfo) -> BinaryIO:
        key = (split, layer.name)
        if key not in self._files:
            self._files[key] = self._array_path(split, layer).open("ab", buffering=0)
        return self._files[key]

    def _remember(self, row: dict[str, Any]) -> None:
        self._count(row)
        self._pending.append(row)
        if self._pending_bytes >= _FLUSH_BYTES or time.monotonic() - self._flushed >= _FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Bring the pixels to the disk, then say so in the journal: a journalled sample is there, come what may."""
        if self._pending:
            for file in self._files.values():
                os.fsync(file.fileno())
            append_jsonl(self._journal_path, *self._pending)
            self._pending.clear()
        self._pending_bytes, self._flushed = 0, time.monotonic()

    # -- finishing -------------------------------------------------------------------------------------------------
    def finish(
        self,
        *,
        dataset: str,
        title: str,
        task: Literal["classification", "multilabel", "segmentation", "change", "unlabelled"] = "unlabelled",
        classes: Sequence[str] = (),
        synthetic: bool = False,
        licence: str = "",
        citation: str = "",
        source: str = "",
        notes: Sequence[str] = (),
        progress: Callable[[int, int], None] | None = None,
    ) -> PackInfo:
        """Statistics, content hash, samples.parquet and pack.json; then the pack appears in one step.

        Args:
            progress: called with (bytes done, bytes in all); what it raises ends the writing, to be resumed later.

        Raises:
            RsfmError: no sample at all, or a label that is not among `classes`.
        """
        self.flush()
        for file in self._files.values():
            file.close()
        self._files.clear()
        if not sum(self.splits.values()):
            raise RsfmError(f"Pack {self.name!r} would be empty: no sample could be used.")
        splits = dict(sorted(self.splits.items(), key=lambda item: (_SPLIT_ORDER.get(item[0], 9), item[0])))
        digest = hashlib.blake2b(digest_size=16)
        rules = {
            "task": task, "classes": list(classes), "splits": splits,
            "layers": [x.model_dump(mode="json", exclude={"bands": {"__all__": {"statistics"}}}) for x in self.layers],
        }  # fmt: skip
        digest.update(json.dumps(rules, sort_keys=True).encode())
        self._write_samples(task, list(classes), digest)
        total = sum(splits.values()) * sum(_sample_bytes(x) for x in self.layers)
        done = 0
        for layer in self.layers:
            for number in self._measure(layer, splits, digest):
                done += number
                if progress is not None:
                    progress(done, total)
        info = PackInfo(
            name=self.name, dataset=dataset, title=title, synthetic=synthetic, task=task, classes=list(classes),
            layers=self.layers, splits=splits, content_hash=digest.hexdigest(), request_hash=self.request_hash,
            created=utc_now(), licence=licence, citation=citation, source=source, skipped=self.skipped,
            notes=[*notes, *(f"{count} left out: {reason}" for reason, count in self.dropped.items())],
            bytes=sum(f.stat().st_size for f in self.staging.rglob("*") if f.suffix in (".bin", ".parquet")),
        )  # fmt: skip
        write_json(self.staging / "pack.json", info.model_dump(mode="json"))
        self._publish()
        return info

    def _write_samples(self, task: str, classes: list[str], digest: hashlib.blake2b) -> None:
        index = {name: i for i, name in enumerate(classes)}
        rows = self._journal()
        next(rows)  # the header
        with pq.ParquetWriter(self.staging / "samples.parquet", _SCHEMA, compression="zstd") as writer:
            batch: list[dict[str, Any]] = []
            for row in rows:
                if "id" not in row:
                    continue
                needed = {"classification": [row["label"]], "multilabel": row["labels"] or [None]}.get(task, [])
                if unknown := [x for x in needed if x not in index]:
                    raise RsfmError(f"Sample {row['id']!r} has the label {unknown[0]!r}, which is not a known class.")
                row["label_index"] = index.get(row["label"])
                digest.update(json.dumps(row, sort_keys=True).encode())
                batch.append(row)
                if len(batch) >= _ROW_GROUP:
                    writer.write_table(pa.Table.from_pylist(batch, _SCHEMA))
                    batch = []
            if batch:
                writer.write_table(pa.Table.from_pylist(batch, _SCHEMA))

    def _measure(self, layer: LayerInfo, splits: dict[str, int], digest: hashlib.blake2b) -> Iterator[int]:
        """One pass over a layer's arrays: hash of everything, statistics of the training split (else of all).

        Yields:
            the bytes of each chunk.
        """
        dtype = np.dtype(layer.dtype)
        running, nodata = [RunningStatistics(dtype) for _ in layer.bands], storable(layer.nodata, dtype)
        measured = {"train"} if splits.get("train") else set(splits)
        per_chunk = max(1, _CHUNK_BYTES // _sample_bytes(layer))
        for split, count in splits.items():
            digest.update(f"{layer.name}/{split}".encode())
            with self._array_path(split, layer).open("rb") as file:
                for start in range(0, count, per_chunk):
                    number = min(per_chunk, count - start)
                    data = file.read(number * _sample_bytes(layer))
                    digest.update(data)
                    if split in measured and running:
                        values = np.frombuffer(data, dtype).reshape(number, *layer.shape)
                        absent = unobserved(values, nodata)
                        seen = None if absent is None else ~np.broadcast_to(absent, values.shape)
                        for i, statistics in enumerate(running):
                            statistics.add(values[:, i] if seen is None else values[:, i][seen[:, i]])
                    yield len(data)
        for band, statistics in zip(layer.bands, running, strict=True):
            band.statistics = statistics.of(band)

    def _publish(self) -> None:
        if self.final.exists():
            self.final.rename(self.replaced)
        self.staging.rename(self.final)
        (self.final / "journal.jsonl").unlink()
        if self.replaced.exists():
            shutil.rmtree(self.replaced)


_SPLIT_ORDER = {"train": 0, "val": 1, "test": 2}


def _sample_bytes(layer: LayerInfo) -> int:
    return int(np.prod(layer.shape)) * np.dtype(layer.dtype).itemsize
