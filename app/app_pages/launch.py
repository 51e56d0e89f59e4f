"""Launch: a form for a job, checked before it is queued."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import pandas as pd
import streamlit as st

import data_catalog
from app.components.measures import adaptation_title, operator_title
from app.components.method_form import groups_of, start_of
from app.components.spec_fields import check, defaults_of, merged
from app.components.spec_form import Choices, FormResult, Layout, spec_form
from app.page import DATASETS, LAUNCH, empty_state, heading, model_titles
from app.panels.launch_about import about_method
from app.panels.launch_copy import about_copy, copied
from app.panels.launch_models import known_models, model_choice, trained_models
from app.panels.launch_queue import actions, explain
from app.state import open_pack, store, workspace
from app.text import KIND_ICON, metres, missing, model_name, number, plain, visible
from app.view_state import choose, choose_one_of
from rsfm.network_info import NetworkInfo, list_networks
from rsfm.packs import PackInfo
from rsfm.registry import BASELINES, METHODS
from rsfm.registry.evaluation import EVALUATION_PRESETS, evaluation_values
from rsfm.specs import (
    ADAPTATION_SETTINGS,
    EmbedSpec,
    EvaluateSpec,
    Operator,
    PredictSpec,
    PrepareSpec,
    PretrainSpec,
    Spec,
    has_effect,
    takes_seed,
)
from rsfm.tasks import ADAPTATIONS, TASKS, Task

JOBS = {
    "pretrain": "Pretrain",
    "evaluate": "Evaluate",
    "embed": "Embed",
    "predict": "Predict a scene",
    "prepare": "Prepare data",
}


#: Settings of a prediction that only networks for change use.
OF_CHANGE = ("scene_before", "threshold", "min_area_m2", "simplify_px")


# -- what there is to choose from ---------------------------------------------------------------------------------
def packs() -> pd.DataFrame:
    frame = store().datasets()
    return frame[frame["problem"].isna() | (frame["problem"].astype(str) == "")]


def pack_labels(frame: pd.DataFrame) -> dict[str, str]:
    labels = {}
    for row in frame.itertuples():
        parts = [visible(row.name), f"{number(row.samples)} samples"]
        if not missing(row.gsd_m):
            parts.append(metres(row.gsd_m))
        if row.synthetic:
            parts.append("synthetic")
        labels[str(row.name)] = "  ·  ".join(parts)
    return labels


def pack_choice(*, labelled: bool = False) -> PackInfo | None:
    frame = packs()
    if labelled:
        frame = frame[frame["task"].isin(TASKS)]
    labels = pack_labels(frame)
    if not labels:
        kind = "labelled pack" if labelled else "pack"
        empty_state(
            ":material/inventory_2:", f"No {kind} is prepared yet",
            "A job reads prepared packs only. Prepare a dataset first; the form stays as it is.",
            [(DATASETS, "Go to Datasets")],
        )  # fmt: skip
        return None
    name = choose("Pack", list(labels), "pack", format_func=lambda n: labels.get(n, n))
    return open_pack(workspace(), name).info if name else None


# -- the jobs ----------------------------------------------------------------------------------------------------
def pretrain_form() -> None:
    main, side = st.columns([5, 3], gap="large")
    with main:
        pack = pack_choice()
        with st.container(horizontal=True):
            titles = {name: m.title for name, m in METHODS.items()}
            method = choose("Method", list(METHODS), "method", format_func=lambda m: titles.get(m, m)) or "mae"
            entry = METHODS[method]
            names = list(entry.presets)
            preset = choose(
                "Preset", names, "preset", "cpu" if "cpu" in names else None,
                format_func=lambda p: entry.presets[p].title if p in entry.presets else p,
            )  # fmt: skip
        if preset is None:
            st.info("This method has no preset to start from.", icon=":material/info:")
        if pack is None or preset is None:
            return
        groups, start = groups_of(entry), start_of(entry, preset)
        start["splits"] = [s for s in start["splits"] if s in pack.splits] or list(pack.splits)[:1]
        image = next((x for x in pack.layers if x.role == "image"), pack.layers[0])
        trained, tokenizers = trained_models(), trained_models("vq_tokenizer")
        choices = {
            ("bands",): Choices([b.name for b in image.bands]),
            ("splits",): Choices(list(pack.splits)),
            ("init", "weights"): Choices(list(trained), trained, others=True, blank="Random"),
            ("method_params", "tokenizer"): Choices(
                list(tokenizers), tokenizers, blank="Choose one" if tokenizers else "None yet: train a VQ tokenizer",
                needed=True,
            ),
        }  # fmt: skip
        result = FormResult({"kind": "pretrain", "method": method, "dataset": pack.name, "preset": preset})
        layout = Layout(
            skip=frozenset({"kind", "method", "dataset", "preset"}),
            titles={
                "method_params": entry.title,
                "optim": "Training",
                "encoder": "Encoder",
                "init": "Starting weights",
                "runtime": "Where and how it runs",
            },
        )  # fmt: skip
        key = f"launch.pretrain.{method}.{preset}.{pack.name}"
        if copy := copied("pretrain", presets=names, method=method, preset=preset):
            copy.require("dataset", packs()["name"])
            start, key = copy.onto(start, PretrainSpec, choices, groups), key + copy.key
        about_copy(copy)
        spec_form(PretrainSpec, start, key, result, layout, choices, groups)
        spec, errors = check(PretrainSpec, result.values, groups)
        explain(result, errors)
        label = f"{visible(entry.label)} on {visible(pack.name)}"
        actions([spec] if spec else None, [label], "launch.pretrain")  # type: ignore[list-item]
    with side:
        about_method(entry, spec, pack)  # type: ignore[arg-type]


def evaluate_form() -> None:
    main, side = st.columns([5, 3], gap="large")
    with main:
        pack = pack_choice(labelled=True)
        if pack is None:
            return
        labels = known_models()
        models = model_choice(labels)
        presets = [name for name, p in EVALUATION_PRESETS.items() if pack.task in p.tasks]
        preset = ""
        if presets:
            chosen = choose(
                "Settings", ["own", *presets], "settings", "own",
                format_func=lambda p: EVALUATION_PRESETS[p].title if p in EVALUATION_PRESETS else "The lab's own",
            )  # fmt: skip
            preset = chosen if chosen in presets else ""
        usual = merged(defaults_of(EvaluateSpec), evaluation_values(preset))
        start, task = dict(usual), TASKS[pack.task]
        choices = {
            ("adaptations",): Choices(task.adaptations, {name: adaptation_title(name) for name in ADAPTATIONS}),
            ("operator",): Choices([], {name: operator_title(name) for name in get_args(Operator)}),
            ("train_split",): Choices(list(pack.splits)),
            ("test_split",): Choices(list(pack.splits)),
            ("bands",): Choices([b.name for b in pack.layers[0].bands]),
        }
        result = FormResult({"kind": "evaluate", "dataset": pack.name, "preset": preset})
        layout = Layout(
            skip=frozenset({"kind", "model", "dataset", "preset"}),
            first=("adaptations", "operator", "severities", "eval_seeds"), titles={"fit": "Training on the task"},
            unused=lambda values: unused_settings(task, values["adaptations"] or task.usual, models),
        )  # fmt: skip
        start["train_split"] = "train" if "train" in pack.splits else next(iter(pack.splits))
        key = f"launch.evaluate.{pack.name}{preset and f'.{preset}'}"
        if copy := copied("evaluate", presets=list(EVALUATION_PRESETS), preset=preset):
            copy.require("dataset", packs()["name"])
            start, key = copy.onto(start, EvaluateSpec, choices), key + copy.key
        about_copy(copy)
        spec_form(EvaluateSpec, start, key, result, layout, choices)
        result.values = merged(usual, result.values)
        queue_for_models(EvaluateSpec, result, models, pack, "launch.evaluate")
    with side, st.container(border=True):
        st.markdown("**What is measured**")
        st.markdown(
            "What is fitted on the training images is tested on images that are made worse step by step, so the curve "
            "shows what is kept when detail is lost."
        )
        for name in task.adaptations:
            title, what = ADAPTATIONS[name]
            st.markdown(f"**{title}**" + (" · usual" if name in task.usual else ""))
            st.caption(f"{what[0].upper()}{what[1:]}.")
        if len(models) > 1:
            st.caption(f"{len(models)} runs, one per model.")
        st.markdown("**Baselines**")
        for name, about in BASELINES.items():
            st.markdown(f"`{name}`")
            st.caption(plain(about))


def unused_settings(task: Task, adaptations: Sequence[str], models: Sequence[str]) -> set[tuple[str, ...]]:
    """Settings of an evaluation that nothing of what is asked for uses: they would be refused."""
    unused = {p for p in ADAPTATION_SETTINGS if not any(has_effect(p, task, a) for a in adaptations)}
    if not any(map(takes_seed, models)):
        unused.add("model_seed")
    return {tuple(p.split(".")) for p in unused}


def embed_form() -> None:
    main, side = st.columns([5, 3], gap="large")
    with main:
        pack = pack_choice()
        if pack is None:
            return
        models = model_choice(known_models())
        pairs = {"image_pre", "image_post"} <= {layer.name for layer in pack.layers}
        choices = {
            ("operator",): Choices([], {name: operator_title(name) for name in get_args(Operator)}),
            ("splits",): Choices(list(pack.splits)),
            ("bands",): Choices([b.name for b in pack.layers[0].bands]),
        }
        result = FormResult({"kind": "embed", "dataset": pack.name})
        unused = ({"image"} if not pairs else set()) | ({"model_seed"} if not any(map(takes_seed, models)) else set())
        layout = Layout(
            skip=frozenset({"kind", "model", "dataset"} | unused),
            first=("splits", "severities", "neighbors", "min_dist"),
        )
        start, key = defaults_of(EmbedSpec), f"launch.embed.{pack.name}"
        if copy := copied("embed"):
            copy.require("dataset", packs()["name"])
            start, key = copy.onto(start, EmbedSpec, choices), key + copy.key
        about_copy(copy)
        spec_form(EmbedSpec, start, key, result, layout, choices)
        queue_for_models(EmbedSpec, result, models, pack, "launch.embed")
    with side, st.container(border=True):
        st.markdown("**What comes of it**")
        st.markdown(
            "A map on which images lie near each other where the model finds them alike: UMAP, and principal "
            "components beside it, with figures that say how far to trust it."
        )
        st.caption("With several severities all of them are on one map, so that what moves is what the model loses.")
        points = sum(pack.splits.values())
        st.caption(f"{number(points)} samples in this pack; a map holds at most 100,000 points.")


def queue_for_models(
    of: type[EvaluateSpec] | type[EmbedSpec], result: FormResult, models: list[str], pack: PackInfo, key: str
) -> None:
    """One request for each model, or what is wrong with them."""
    specs: list[Spec] = []
    errors: dict[tuple[str, ...], str] = {}
    for model in models or ["band-stats"]:
        values = {n: v for n, v in result.values.items() if n != "model_seed" or takes_seed(model)}
        spec, wrong = check(of, {**values, "model": model})
        errors.update(wrong)
        if spec is not None:
            specs.append(spec)  # type: ignore[arg-type]
    explain(result, errors)
    titles = model_titles()
    names = [f"{model_name(m, titles)} on {visible(pack.name)}" for m in models]
    if not models:
        st.caption("Choose at least one model.")
    actions(specs if models and not errors else None, names, key)


def predict_form() -> None:
    main, side = st.columns([5, 3], gap="large")
    networks, problems = list_networks(workspace())
    by_run: dict[str, list[NetworkInfo]] = {}
    for network in networks:
        by_run.setdefault(network.run_id, []).append(network)
    with main:
        if not by_run:
            empty_state(
                ":material/map:", "No network can draw maps yet",
                "Evaluate a model on a pack with maps (segmentation or change): what is trained there draws scenes.",
                [(LAUNCH, "Launch an evaluation")],
            )  # fmt: skip
            return
        newest = sorted(by_run, reverse=True)
        run_id = choose(
            "Evaluation", newest, "evaluation",
            format_func=lambda r: f"{visible(by_run[r][0].title)}  ·  …{r[-4:]}" if r in by_run else r,
        )  # fmt: skip
        assert run_id is not None
        mine = by_run[run_id]
        first = mine[0]
        choices = {
            ("adaptation",): Choices([n for n in dict.fromkeys(n.adaptation for n in mine)]),
            ("bands",): Choices([b.name for b in first.bands], others=True, blank="As the file says"),
        }
        result = FormResult({"kind": "predict", "evaluation": run_id})
        pairs = ("scene_before",) if first.task == "change" else ()
        layout = Layout(
            skip=frozenset({"kind", "evaluation", *(() if pairs else OF_CHANGE)}),
            first=("scene", *pairs, "truth", "bands"),
        )  # fmt: skip
        start, key = defaults_of(PredictSpec), f"launch.predict.{run_id}"
        if copy := copied("predict"):
            copy.require("evaluation", by_run)
            start, key = copy.onto(start, PredictSpec, choices), key + copy.key
        about_copy(copy)
        spec_form(PredictSpec, start, key, result, layout, choices)
        spec, errors = check(PredictSpec, result.values)
        if not result.values.get("scene"):
            st.caption("Name the file of a scene on the machine that runs the lab.")
            spec, errors = None, {}
        explain(result, errors)
        actions([spec] if spec else None, [f"map of {visible(result.values.get('scene', ''))}"], "launch.predict")  # type: ignore[list-item]
    with side, st.container(border=True):
        st.markdown(f"**{plain(first.title)}**")
        st.table(
            {
                "Task": first.task, "Classes": plain(", ".join(first.classes)),
                "Bands": plain(", ".join(b.name for b in first.bands)),
                "Units": plain(", ".join(dict.fromkeys(b.unit for b in first.bands))),
                "Pixel": metres(first.gsd_m) if first.gsd_m else "unknown",
                "Trained on": plain(first.trained_on),
            },
            border="horizontal",
        )  # fmt: skip
        st.caption(
            "The scene needs these bands, by name or by the order you give, in this unit. It may be of any size: it is "
            "drawn in overlapping tiles, and what was not observed stays empty."
        )
        for name, problem in problems.items():
            st.caption(f":material/folder_off: …{name[-4:]}: {plain(problem)}")


def prepare_form() -> None:
    entries = {n: e for n, e in data_catalog.entries(workspace()).items() if e.reader}
    main, side = st.columns([5, 3], gap="large")
    with main:
        name = choose("Dataset", list(entries), "dataset", format_func=lambda n: f"{n}  ·  {visible(entries[n].title)}")
        if name is None:
            empty_state(":material/inventory_2:", "No dataset has a reader", "The catalog lists none that can be read.")
            return
        entry = entries[name]
        result = FormResult({"kind": "prepare", "dataset": name})
        layout = Layout(skip=frozenset({"kind", "dataset"}), first=("source", "name", "limit", "on_bad"))
        start, key = defaults_of(PrepareSpec), f"launch.prepare.{name}"
        if copy := copied("prepare", dataset=name):
            start, key = copy.onto(start, PrepareSpec, {}), key + copy.key
        about_copy(copy)
        spec_form(PrepareSpec, start, key, result, layout)
        spec, errors = check(PrepareSpec, result.values)
        explain(result, errors)
        actions([spec] if spec else None, [f"prepare {name}"], "launch.prepare")  # type: ignore[list-item]
    with side, st.container(border=True):
        st.markdown(f"**{plain(entry.title)}**")
        if entry.synthetic:
            st.badge("synthetic", icon=":material/science:", color="violet")
        st.markdown(plain(entry.summary))
        if entry.layout:
            st.caption(f"Expected on disk: {plain(entry.layout)}")
        if entry.reader_options:
            st.caption(
                "Options and their defaults: " + plain(", ".join(f"{k} = {v}" for k, v in entry.reader_options.items()))
            )


heading("Launch", "Describe a job, check it, queue it. It runs in the background, whether or not this page is open.")
job = choose_one_of(
    "Job", list(JOBS), "job", format_func=lambda j: f"{KIND_ICON[j]} {JOBS[j]}", label_visibility="collapsed"
)
if st.session_state.get("launch.job") != job:
    st.session_state["launch.job"] = job
    st.session_state.pop("launch.queued", None)
FORMS = {
    "pretrain": pretrain_form,
    "evaluate": evaluate_form,
    "embed": embed_form,
    "predict": predict_form,
    "prepare": prepare_form,
}
FORMS[job]()
