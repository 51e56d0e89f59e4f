"""Datasets drawn from the synthetic world (`rsfm.synthetic`): nothing is read, every sample is made when asked for."""

from __future__ import annotations

import datetime
import zlib
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from threadpoolctl import ThreadpoolController

from data_catalog.entry import DatasetEntry, Task
from data_catalog.readers.base import Sample, SampleKey
from data_catalog.readers.options import read_options
from rsfm.errors import RsfmError
from rsfm.packs import BandInfo, LayerInfo, Pack
from rsfm.specs import PrepareSpec
from rsfm.synthetic import matching, render
from rsfm.synthetic.materials import LAND_COVER
from rsfm.synthetic.scenes import PATTERNS
from rsfm.synthetic.world import SPLITS, Landscape, World
from rsfm.workspace import Workspace

Product = Literal["scenes", "segmentation", "change", "series"]

_TASKS: dict[Product, Task] = {
    "scenes": "classification", "segmentation": "segmentation", "change": "change", "series": "classification",
}  # fmt: skip
_CROPS = ("winter cereal", "rapeseed", "maize", "sugar beet")
_CHANGE = ("unchanged", "changed")

#: Tiles that a match is fitted on.
_FIT_TILES = 200
_FIT_STREAM, _DATE_STREAM, _IMAGE_STREAM = 10, 11, 12

_DEFAULTS: dict[str, Any] = {
    "product": "scenes", "sensor": "landsat-7", "seed": 0, "train": 1800, "val": 0, "test": 900,
    "gsd_m": 0.0, "detail_m": 0.0, "bands": [], "match": "", "dates": 6, "tile_size": 64,
}  # fmt: skip


class SyntheticReader:
    """Makes tiles of the synthetic world.

    Options (in the entry or in the spec; what an entry fixes in its name, product and sensor, a spec cannot change):
        product: `scenes` (one class per tile), `segmentation` (land-cover mask), `change` (pair and mask of changed
            land cover), `series` (several dates of one place, class = crop).
        sensor: any sensor that `rsfm.synthetic.render` knows; bands: some of its bands by name, empty for all.
        seed: of the world; train, val, test: tiles per split (places, for a series); dates: per place of a series.
        gsd_m: metres per pixel, 0 for the sensor's own; detail_m: size of the world's fine detail, 0 for one that
            the sensor just resolves. Equal seed, extent and detail give the same places to every sensor.
        match: a pack whose mean and standard deviation per band the images take on.
    The tile's size in pixels is the spec's own `tile_size`.
    """

    synthetic = True

    def __init__(self, entry: DatasetEntry, spec: PrepareSpec, source: Path | None, workspace: Workspace) -> None:
        if source is not None:
            raise RsfmError(f"Dataset {entry.name!r} is made, not read: it takes no folder.")
        if spec.stride is not None:
            raise RsfmError(f"Dataset {entry.name!r} has no scene to slide over: a tile stride does not apply to it.")
        if "tile_size" in spec.options:
            raise RsfmError("Write tile_size as the spec's own field, not among its options.")
        for name in ("product", "sensor"):
            if (
                name in entry.reader_options
                and spec.options.get(name, entry.reader_options[name]) != (entry.reader_options[name])
            ):
                raise RsfmError(
                    f"Dataset {entry.name!r} always has {name} = {entry.reader_options[name]}; "
                    "the dataset 'synthetic' takes any."
                )
        options = read_options(spec, {**_DEFAULTS, **entry.reader_options}, tiles=True)
        self.product: Product = _product(options["product"])
        self.device = render.instrument(options["sensor"])
        self.counts = {split: _count(split, options[split]) for split in SPLITS}
        if not any(self.counts.values()):
            raise RsfmError(f"Dataset {entry.name!r}: all of train, val and test are 0; ask for at least one tile.")
        self.dates = _count("dates", options["dates"], least=1)
        gsd_m = float(options["gsd_m"]) or self.device.gsd_m
        detail_m = float(options["detail_m"]) or gsd_m * self.device.detail_pixels
        self.bands = self.device.bands(options["bands"] or None, gsd_m)
        self.world = World(options["seed"], spec.tile_size or options["tile_size"], gsd_m, detail_m)
        self._target: matching.Target | None = None
        self._matched = ""
        if options["match"]:
            pack = Pack.named(workspace, options["match"])
            self._target = matching.target(pack, self.bands)
            self._matched = f"{pack.name} ({pack.info.content_hash[:12]})"
        self._gain_offset: tuple[np.ndarray, np.ndarray] | None = None
        # The matrices are small: more than one thread only makes them wait for each other.
        self._threads = ThreadpoolController()

    @property
    def task(self) -> Task:
        return _TASKS[self.product]

    @property
    def origin(self) -> str:
        """In words, as the pack shows it."""
        words = f"synthetic world, seed {self.world.seed}, rendered to {self.device.sensor} at {self.world.gsd_m:g} m"
        return words + (f", mean and spread of each band matched to {self._matched}" if self._matched else "")

    def classes(self) -> list[str]:
        return {
            "scenes": list(PATTERNS), "segmentation": list(LAND_COVER), "change": list(_CHANGE), "series": list(_CROPS),
        }[self.product]  # fmt: skip

    def layers(self) -> list[LayerInfo]:
        size, gsd = self.world.size, self.world.gsd_m
        bands = [BandInfo(**vars(band)) for band in self.bands]
        images = ["image_pre", "image_post"] if self.product == "change" else ["image"]
        layers = [
            LayerInfo(
                name=name, sensor=self.device.sensor, dtype=self.device.dtype, shape=(len(bands), size, size),
                gsd_m=gsd, bands=bands,
            )
            for name in images
        ]  # fmt: skip
        if self.product in ("segmentation", "change"):
            layers.append(
                LayerInfo(
                    name="mask", role="mask", dtype="uint8", shape=(1, size, size), gsd_m=gsd, classes=self.classes()
                )
            )
        return layers

    def keys(self) -> list[SampleKey]:
        times = range(self.dates) if self.product == "series" else [None]
        return [
            SampleKey(f"{split}-{index:06d}" + ("" if time is None else f"-t{time:02d}"), split)
            for split, count in self.counts.items()
            for index in range(count)
            for time in times
        ]

    def read(self, key: SampleKey) -> Sample:
        parts = key.id.split("-")
        index, time = int(parts[1]), int(parts[2][1:]) if len(parts) > 2 else 0
        footprint = self.world.footprint(key.split, index)
        with self._threads.limit(limits=1, user_api="blas"):
            sample = self._make(key.split, index, time)
        sample.crs, sample.transform = footprint.crs, footprint.transform(self.world.gsd_m)
        sample.gsd_m = self.world.gsd_m
        return sample

    def notes(self) -> list[str]:
        lines = [
            "Synthetic: no pixel was measured. "
            f"Detail that tells classes apart is {self.world.detail_m:g} m to {4 * self.world.detail_m:g} m in size."
        ]
        if self._matched:
            lines.append(f"Mean and standard deviation of each band are matched to the pack {self._matched}.")
        if self.product == "change":
            lines.append("The date is that of image_post; image_pre is one to three years older.")
        if self.product == "series":
            lines.append("One sample per date; the dates of one place share the value of scene.")
        return lines

    def _make(self, split: str, index: int, time: int) -> Sample:
        world = self.world
        if self.product == "change":
            before, after = world.pair(split, index)
            first, second = self._pair_dates(split, index)
            changed = render.land_cover_map(before, world.size) != render.land_cover_map(after, world.size)
            return Sample(
                {
                    "image_pre": self._image(before, split, index, 0, first),
                    "image_post": self._image(after, split, index, 1, second),
                    "mask": changed[None].astype(np.uint8),
                },
                date=second.isoformat(),
            )
        land, label = self._land(split, index)
        date = self._date(split, index, time)
        arrays = {"image": self._image(land, split, index, time, date)}
        if self.product == "segmentation":
            arrays["mask"] = render.land_cover_map(land, world.size)[None]
        scene = f"{split}-{index:06d}" if self.product == "series" else None
        return Sample(arrays, label=label, scene=scene, date=date.isoformat())

    def _land(self, split: str, index: int) -> tuple[Landscape, str | None]:
        if self.product == "segmentation":
            return self.world.mixed(split, index), None
        classes = self.classes()
        label = classes[index % len(classes)]
        make = self.world.crop if self.product == "series" else self.world.scene
        return make(split, index, label), label

    def _date(self, split: str, index: int, time: int) -> datetime.date:
        """Some day of the growing season, or the time-th of a series that spreads over the year."""
        rng = self.world.rng(split, index, _DATE_STREAM)
        year = int(rng.integers(2017, 2024))
        if self.product != "series":
            return _day(year, int(rng.integers(100, 291)))
        edges = np.linspace(45, 335, self.dates + 1)
        return _day(year, int((edges[:-1] + rng.uniform(0.1, 0.9, self.dates) * np.diff(edges))[time]))

    def _pair_dates(self, split: str, index: int) -> tuple[datetime.date, datetime.date]:
        """Two dates, years apart, in about the same season."""
        rng = self.world.rng(split, index, _DATE_STREAM)
        year, day = int(rng.integers(2015, 2021)), int(rng.integers(130, 260))
        later = int(np.clip(day + rng.normal(0, 25), 100, 290))
        return _day(year, day), _day(year + int(rng.integers(1, 4)), later)

    def _values(
        self, land: Landscape, split: str, index: int, time: int, date: datetime.date, stream: int
    ) -> np.ndarray:
        rng = self.world.rng(split, index, stream, zlib.crc32(self.device.sensor.encode()), time)
        return render.render(land, self.device, self.bands, self.world.size, date.timetuple().tm_yday, rng)

    def _image(self, land: Landscape, split: str, index: int, time: int, date: datetime.date) -> np.ndarray:
        values = self._values(land, split, index, time, date, _IMAGE_STREAM)
        if self._target is not None:
            gain, offset = self._fitted(self._target)
            values = values * gain[:, None, None] + offset[:, None, None]
        return render.store(values, self.device)

    def _fitted(self, target: matching.Target) -> tuple[np.ndarray, np.ndarray]:
        """The affine map per band, fitted once on tiles of the training split."""
        if self._gain_offset is None:
            tiles = []
            for i in range(_FIT_TILES if self.world.size <= 96 else _FIT_TILES // 4):
                land = self.world.pair("train", i)[1] if self.product == "change" else self._land("train", i)[0]
                date = self._date("train", i, i % self.dates)
                tiles.append(self._values(land, "train", i, 0, date, _FIT_STREAM))
            self._gain_offset = matching.fit(np.stack(tiles), target, self.device)
        return self._gain_offset


def _product(name: str) -> Product:
    if name not in get_args(Product):
        raise RsfmError(f"The synthetic world has no product {name!r}; it has {', '.join(get_args(Product))}.")
    return name


def _count(name: str, value: int, least: int = 0) -> int:
    if not least <= value <= 1_000_000:
        raise RsfmError(f"Option {name} must be between {least} and 1,000,000, got {value}.")
    return value


def _day(year: int, day: int) -> datetime.date:
    return datetime.date(year, 1, 1) + datetime.timedelta(days=day - 1)
