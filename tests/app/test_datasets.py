"""Samples of a pack: the filter that grid and map share, one sample close up, histograms."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from lab_packs import make_multilabel, make_pack, make_pairs
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.testclient import TestClient
from streamlit.runtime.state.query_params import QueryParams
from streamlit.testing.v1 import AppTest

from app.access import Access
from app.routes import build_routes
from app.routes.maps import map_url
from app.sample_filter import MAX_CLASSES, SampleFilter
from app.security import Guard
from data_catalog.readers.image_folder import Bounds, image_files
from rsfm.degrade.entry import to_unit
from rsfm.errors import RsfmError
from rsfm.histograms import SIDE, WINDOWS, _edges, band_histograms, class_shares, in_units, windows
from rsfm.packs import Pack
from rsfm.workspace import Workspace

Open = Callable[..., AppTest]


def texts(test: AppTest) -> str:
    return "\n".join(str(e.value) for e in [*test.markdown, *test.caption])


@pytest.fixture
def packs(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path / "w")
    made.packs.mkdir(parents=True)
    return made


# -- the filter ---------------------------------------------------------------------------------------------------
def test_a_filter_keeps_what_fits_in_the_order_of_the_arrays(lab: Workspace) -> None:
    pack = Pack.named(lab, "synthetic-landsat7")
    every = SampleFilter().apply(pack)
    assert len(every) == len(pack.samples) and list(every["split"].unique()) == list(pack.info.splits)
    assert every.groupby("split")["row"].apply(lambda r: r.is_monotonic_increasing).all()
    one = SampleFilter("test", ("Water",)).apply(pack)
    assert set(one["split"]) == {"test"} and set(one["label"]) == {"Water"}
    some_id = str(pack.samples["id"].iloc[7])
    assert some_id in set(SampleFilter(find=some_id.upper()).apply(pack)["id"])
    assert SampleFilter(find=".*").apply(pack).empty, "text is text, not a pattern"
    assert not SampleFilter() and SampleFilter(find="x")


def test_a_filter_survives_an_address() -> None:
    chosen = SampleFilter("train", ("a & b", "</script>"), "x=1;y")
    query: dict[str, list[str]] = {}
    for name, value in chosen.query():
        query.setdefault(name, []).append(value)
    assert SampleFilter.read(query) == chosen and SampleFilter.read({}) == SampleFilter()
    assert len(SampleFilter.read({"find": ["x" * 9999]}).find) == 200


def test_a_filter_has_a_most_that_grid_and_map_share(open_page: Open, packs: Workspace) -> None:
    make_pack(packs, "p")
    info = packs.packs / "p" / "pack.json"
    many = [f"class {i}" for i in range(MAX_CLASSES + 5)]
    info.write_text(json.dumps({**json.loads(info.read_text()), "task": "classification", "classes": many}))
    test = open_page(packs, "datasets", pack="p", classes=many)
    assert len(next(m for m in test.multiselect if m.label == "Classes").value) == MAX_CLASSES and not test.exception
    assert len(SampleFilter.read({"class": many[:MAX_CLASSES]}).classes) == MAX_CLASSES
    with pytest.raises(HTTPException) as refused:
        SampleFilter.read({"class": many})
    assert refused.value.status_code == 400


def test_several_labels_fit_by_any(packs: Workspace) -> None:
    make_multilabel(packs)
    assert len(SampleFilter(classes=("Water",)).apply(Pack.named(packs, "several"))) == 1


# -- the page -----------------------------------------------------------------------------------------------------
def test_the_map_shows_the_same_samples_as_the_grid(open_page: Open, lab: Workspace) -> None:
    choices = {"pack": "synthetic-landsat7", "split": "test", "classes": ["Water"]}
    grid = open_page(lab, "datasets", **choices)
    images = [m.value for m in grid.markdown if m.value.startswith("![")]
    page = open_page(lab, "datasets", tab="Map", **choices)
    address = page.get("iframe")[0].proto.src
    assert parse_qs(urlsplit(address).query)["class"] == ["Water"]
    app = Starlette(
        routes=build_routes(lab), middleware=[Middleware(Guard, access=Access(hosts=frozenset({"testserver"})))]
    )
    with TestClient(app) as client:
        drawn = client.get(address).text
        assert drawn.count('"split":"test"') == len(images) > 0 and '"split":"train"' not in drawn
        mosaic = re.search(r'/rsfm/maps/packs/[^"]*mosaic.png[^"]*', drawn)[0]
        some = client.get(mosaic.replace("\\u0026", "&")).content
        assert some[:4] == b"\x89PNG" and some != client.get(mosaic.partition("?")[0]).content
        nobody = map_url("synthetic-landsat7", version="x", theme="light", chosen=SampleFilter(find="nothing like it"))
        assert client.get(nobody).status_code == 404
        assert client.get(f"{mosaic.partition('?')[0]}?find=nothing-like-it").status_code == 404


def test_another_pack_or_filter_takes_along_what_meant_the_old_one(
    open_page: Open, packs: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        make_pack(packs, name, count=60)
    test = open_page(packs, "datasets", pack="a", split="all", sample="train:3", page="2", text="")
    assert test.query_params["page"] in ("2", ["2"])
    steps = []
    send = QueryParams._send_query_param_msg
    monkeypatch.setattr(QueryParams, "_send_query_param_msg", lambda params: steps.append(1) or send(params))
    next(s for s in test.selectbox if s.label == "Pack").set_value("b").run()
    assert test.query_params["pack"] in ("b", ["b"]) and "tab" not in test.query_params and not test.exception
    assert "sample" not in test.query_params and "page" not in test.query_params
    assert len(steps) == 1, "one step for Back"

    test = open_page(packs, "datasets", pack="a", split="all", sample="train:3", page="2")
    next(t for t in test.text_input if t.label == "Find").input("0").run()
    assert "page" not in test.query_params and test.query_params["sample"] in ("train:3", ["train:3"])
    assert test.query_params["text"] in ("0", ["0"])
    # A link is taken as it is, whatever was open before.
    linked = open_page(packs, "datasets", pack="b", sample="train:1", page="2")
    assert linked.query_params["sample"] in ("train:1", ["train:1"])


def test_a_filter_that_fits_nothing_says_so(open_page: Open, lab: Workspace) -> None:
    for tab in ("Samples", "Map"):
        test = open_page(lab, "datasets", pack="synthetic-landsat7", text="nothing like it", tab=tab)
        assert not test.exception and "fits these choices" in texts(test) and not test.get("iframe")


def test_one_sample_close_up(open_page: Open, lab: Workspace) -> None:
    pack = Pack.named(lab, "synthetic-landsat7")
    sample = SampleFilter().apply(pack).iloc[3]
    key = f"{sample['split']}:{sample['row']}"
    test = open_page(lab, "datasets", pack=pack.name)
    test.button(key=f"open-{pack.name}-{key}").click().run()
    assert test.query_params["sample"] in (key, [key]) and "size=320" in texts(test)
    again = open_page(lab, "datasets", pack=pack.name, sample=key)  # a link restores it
    assert f"**{sample['id']}**".replace("-", "\\-") in texts(again) and not again.exception
    again.button(key="sample-close").click().run()
    assert "sample" not in again.query_params and "size=320" not in texts(again)


@pytest.mark.parametrize("key", ["", "train", "train:x", "train:99999", "nosplit:0", "train:-1", "train:" + "9" * 40])
def test_a_sample_that_is_not_there_is_not_shown(open_page: Open, lab: Workspace, key: str) -> None:
    test = open_page(lab, "datasets", pack="synthetic-landsat7", sample=key)
    assert not test.exception and "size=320" not in texts(test)


def test_all_layers_of_a_pair_close_up(open_page: Open, packs: Workspace) -> None:
    make_pairs(packs)
    shown = texts(open_page(packs, "datasets", pack="pairs", sample="train:0"))
    for layer in ("image_pre", "image_post", "mask"):
        assert re.search(rf"size=320&v=[^)]*layer={layer}", shown)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/", "own workspace"), ("{root}", "own workspace"), ("{root}/..", "own workspace"),
        ("{root}/runs", "own workspace"), ("/proc", "holds no data"), ("/sys/class", "holds no data"),
    ],
)  # fmt: skip
def test_what_can_be_no_dataset_is_not_looked_through(
    open_page: Open, packs: Workspace, monkeypatch: pytest.MonkeyPatch, path: str, said: str
) -> None:
    monkeypatch.setattr("data_catalog.add.understand", lambda *_, **__: pytest.fail("looked"))
    test = open_page(packs, "datasets", view="Add your own")
    test.text_input[0].input(path.format(root=packs.root))
    next(b for b in test.button if b.label == "Look at it").click().run()
    assert said in test.error[0].value and not test.exception


def test_a_folder_without_end_is_refused(
    open_page: Open, packs: Workspace, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path_factory.mktemp("many")
    for i in range(6):
        (folder / f"{i}").mkdir()
        (folder / f"{i}" / "notes.txt").touch()
    monkeypatch.setattr(Bounds.__init__, "__defaults__", (4, 20.0))
    test = open_page(packs, "datasets", view="Add your own")
    test.text_input[0].input(str(folder))
    next(b for b in test.button if b.label == "Look at it").click().run()
    assert "more files below" in test.error[0].value and "5 in 0 s so" in test.error[0].value
    with pytest.raises(RsfmError, match="more files below"):
        image_files(folder, Bounds(seconds=-1.0))
    assert image_files(folder) == [], "whoever does not wait for it may take longer"


# -- histograms ---------------------------------------------------------------------------------------------------
def test_histograms_are_of_the_bands_values_in_their_unit(packs: Workspace) -> None:
    make_pack(packs, "p", count=60)
    pack = Pack.named(packs, "p")
    layer = pack.layer()
    found = band_histograms(pack, "image", [b.name for b in layer.bands])
    for histogram, band in zip(found, layer.bands, strict=True):
        assert histogram.band == band.name and histogram.unit == band.unit == "uint8"
        middles = (histogram.edges[:-1] + histogram.edges[1:]) / 2
        for split, shares in histogram.shares.items():
            assert shares.sum() == pytest.approx(1)
            true = pack.array(split)[:, [b.name for b in layer.bands].index(band.name)].astype(float).mean()
            assert (middles * shares).sum() == pytest.approx(true, rel=0.1), "a sample, but a fair one"


@pytest.mark.parametrize("values", [np.arange(0, 256), np.arange(3, 9), np.full(5, 7)])
def test_bins_of_whole_numbers_hold_equally_many_of_them(values: np.ndarray) -> None:
    edges = _edges(float(values.min()), float(values.max()), 1.0)
    counts, _ = np.histogram(np.arange(-10_000, 10_000), edges)
    assert counts.min() == counts.max() >= 1 and edges[0] < values.min() and edges[-1] > values.max()
    assert len(edges) <= 62 and len(_edges(0.5, 0.5, None)) == 2


def test_what_was_not_observed_does_not_count(packs: Workspace) -> None:
    make_pack(packs, "p", count=20)
    pack = Pack.named(packs, "p")
    layer = pack.layer().model_copy(update={"nodata": 0.0})
    stored = np.full((1, 7, 4, 4), 9, np.uint8)
    stored[0, :, 0, 0] = 0
    values = in_units(layer, stored)
    assert np.isnan(values[0, :, 0, 0]).all() and np.isfinite(values).sum() == 7 * 15
    stored[0, 2] = 0  # dark everywhere, which is no gap: the other bands were observed
    assert np.array_equal(in_units(layer, stored, [2, 5]), in_units(layer, stored)[:, [2, 5]], equal_nan=True)


def test_what_is_looked_at_is_bounded_and_the_same_each_time(packs: Workspace) -> None:
    make_pack(packs, "p", side=SIDE + 16, count=200)
    pack = Pack.named(packs, "p")
    split = max(pack.info.splits, key=pack.info.splits.get)
    one, two = (np.stack(list(windows(pack, split, pack.layer()))) for _ in range(2))
    assert one.shape == (min(WINDOWS, pack.info.splits[split]), 7, SIDE, SIDE) and np.array_equal(one, two)


def test_only_the_wanted_bands_are_counted(packs: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    make_pack(packs, "p", count=20)
    pack, held = Pack.named(packs, "p"), []
    names = [b.name for b in pack.layer().bands]
    every = band_histograms(pack, "image", names)
    monkeypatch.setattr(
        "rsfm.histograms.to_unit", lambda stored, bands: held.append(stored.shape[:2]) or to_unit(stored, bands)
    )
    some = band_histograms(pack, "image", [names[4], names[1]])
    assert [h.band for h in some] == [names[1], names[4]] and set(held) == {(1, 2)}
    for histogram in some:
        before = next(h for h in every if h.band == histogram.band)
        assert all(np.array_equal(histogram.shares[s], before.shares[s]) for s in before.shares)


def test_shares_of_classes_in_a_mask(packs: Workspace) -> None:
    make_pairs(packs)
    pack = Pack.named(packs, "pairs")
    shares = class_shares(pack, "mask")
    for split, found in shares.items():
        mask = pack.array(split, "mask")
        assert found == pytest.approx([(mask == i).mean() for i in range(len(pack.layer("mask").classes))])
