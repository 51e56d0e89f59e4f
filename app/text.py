"""Numbers, times and names as people read them; and user text made safe to put into Markdown."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Any

import pandas as pd

from rsfm.registry import METHODS
from rsfm.store.runs import is_run_id

#: Colour and icon of a run's state.
STATE_LOOK: dict[str, tuple[str, str]] = {
    "queued": ("gray", ":material/schedule:"),
    "starting": ("blue", ":material/hourglass_top:"),
    "running": ("blue", ":material/play_circle:"),
    "stopping": ("orange", ":material/front_hand:"),
    "succeeded": ("green", ":material/check_circle:"),
    "failed": ("red", ":material/error:"),
    "cancelled": ("gray", ":material/cancel:"),
    "lost": ("red", ":material/link_off:"),
}
KIND_ICON = {
    "pretrain": ":material/model_training:",
    "evaluate": ":material/analytics:",
    "embed": ":material/scatter_plot:",
    "predict": ":material/map:",
    "prepare": ":material/inventory_2:",
}
#: Direction marks, embeddings, overrides and isolates, zero-width characters, and controls but tab and newline.
_INVISIBLE = re.compile("[\u200b-\u200f\u202a-\u202e\u2060-\u2069\u061c\ufeff\x00-\x08\x0b-\x1f\x7f]")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~$:@&=])")
#: What Streamlit looks for in text even where Markdown is escaped: addresses, icons, arrows and dashes.
_ACTIVE = re.compile(r"(:(?=//|material/|streamlit:)|www(?=\.)|@(?=\S)|-(?=[->])|[<>~](?=[=-]))")
_JOINER = "\u2060"  # invisible, of no width: what stands on its two sides is no longer one token


def visible(text: Any) -> str:
    """Text without the characters that reorder or hide what stands around it."""
    return _INVISIBLE.sub("", str(text))


def plain(text: Any) -> str:
    """User text as a Markdown string that shows exactly these characters: no link, no image, no directive."""
    broken = _ACTIVE.sub(rf"\1{_JOINER}", " ".join(visible(text).split()))
    return _MARKDOWN.sub(r"\\\1", broken)


def plotly_text(text: Any) -> str:
    """User text for a Plotly label, which reads a few HTML tags."""
    return visible(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def missing(value: Any) -> bool:
    """None, NaN or NaT."""
    return value is None or (not isinstance(value, str | list | dict | tuple) and bool(pd.isna(value)))


def number(value: Any, digits: int = 4) -> str:
    """A number with a sensible count of digits: 0.7312, 12,345, 1.5e-05."""
    if missing(value):
        return "–"
    value = float(value)
    if value == 0 or (value.is_integer() and abs(value) < 1e9):
        return f"{value:,.0f}"
    if not math.isfinite(value):
        return str(value)
    if abs(value) >= 1e6 or abs(value) < 1e-3:
        return f"{value:.{max(digits - 2, 1)}g}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value)))) if abs(value) >= 1 else digits
    return f"{value:.{decimals}f}"


def metres(value: Any) -> str:
    """A ground sampling distance: 30 m, 0.5 m, 29.93 m."""
    return "–" if missing(value) else f"{float(value):.4g} m"


def size(count: Any) -> str:
    """Bytes with a decimal prefix."""
    if missing(count):
        return "–"
    value = float(count)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError("unreachable")


def duration(seconds: Any) -> str:
    """42 s, 3 min 05 s, 2 h 10 min, 3 d 4 h."""
    if missing(seconds) or float(seconds) < 0 or not math.isfinite(float(seconds)):
        return "–"
    whole = round(float(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02d} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h"


def as_time(value: Any) -> datetime | None:
    """An ISO 8601 text or a timestamp as an aware time in UTC; None where there is none."""
    if missing(value) or value == "":
        return None
    stamp = pd.to_datetime(value, errors="coerce", utc=True)
    return None if pd.isna(stamp) else stamp.to_pydatetime()


def ago(value: Any, now: datetime | None = None) -> str:
    """How long ago: "just now", "5 min ago", "3 h ago", else the date."""
    when = as_time(value)
    if when is None:
        return "–"
    seconds = ((now or datetime.now(UTC)) - when).total_seconds()
    if seconds < 10:
        return "just now"
    if seconds < 60:
        return f"{int(seconds)} s ago"
    if seconds < 3600:
        return f"{int(seconds // 60)} min ago"
    if seconds < 86_400:
        return f"{int(seconds // 3600)} h ago"
    return f"{when:%Y-%m-%d %H:%M} UTC"


def clock(value: Any) -> str:
    """Date and time in UTC."""
    when = as_time(value)
    return "–" if when is None else f"{when:%Y-%m-%d %H:%M:%S}"


def model_name(model: Any, titles: Mapping[str, str] | None = None) -> str:
    """A model as people call it: its title where one is known, else a baseline's name or the end of a run's id."""
    text = "" if missing(model) else str(model)
    if titles and titles.get(text):
        return visible(titles[text])
    if is_run_id(text):
        return f"run …{text[-4:]}"
    head, sep, tail = text.partition(":")
    if sep and is_run_id(tail):
        known = visible((titles or {}).get(tail) or f"run …{tail[-4:]}")
        return f"Random init of {known}" if head == "random" else f"{head} of {known}"
    return visible(text)


def method_label(method: Any) -> str:
    """A method as charts call it."""
    name = "" if missing(method) else str(method)
    return METHODS[name].label if name in METHODS else visible(name)


def run_title(run: Mapping[str, Any], titles: Mapping[str, str] | None = None) -> str:
    """What a run does, in a few words; the id stays in the background.

    Args:
        run: a row of `Store.runs`.
        titles: model name -> title, for evaluations.
    """
    dataset = "" if missing(run.get("dataset")) else visible(run["dataset"])
    match run.get("kind"):
        case "pretrain":
            return f"{method_label(run.get('method'))} on {dataset}"
        case "evaluate":
            return f"{model_name(run.get('model'), titles)} on {dataset}"
        case "embed":
            return f"Map of {dataset} by {model_name(run.get('model'), titles)}"
        case "predict":
            return f"Map of {scene_name(run)}"
        case "prepare":
            return f"Prepare {dataset}"
    return visible(run.get("run_id") or "run")


def scene_name(run: Mapping[str, Any]) -> str:
    """The file that a prediction is of, without where it lies."""
    try:
        scene = json.loads(str(run.get("spec") or "{}")).get("scene")
    except ValueError:
        scene = None
    if scene:
        return visible(PurePath(str(scene)).name)
    # The table of runs has no request; the id does.
    words = str(run.get("run_id") or "").split("-predict-")
    return visible(words[1].rpartition("-")[0]) if len(words) == 2 else "a scene"


def run_details(run: Mapping[str, Any]) -> str:
    """The rest in one short line: preset and seed where they mean something."""
    parts = []
    if run.get("kind") == "pretrain":
        if not missing(run.get("preset")):
            parts.append(f"{visible(run['preset'])} preset")
        if not missing(run.get("seed")):
            parts.append(f"seed {int(run['seed'])}")
    return " · ".join(parts)


def share(done: Any, total: Any) -> float | None:
    """Progress 0..1, or None where it is unknown."""
    if missing(done) or missing(total) or float(total) <= 0:
        return None
    return min(1.0, max(0.0, float(done) / float(total)))
