"""What a page shows, read without a browser."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
from streamlit.testing.v1 import AppTest

from rsfm.store.runs import RunFolder, list_runs
from rsfm.workspace import Workspace

Open = Callable[..., AppTest]
#: An image, a link or HTML that Markdown would see: its first character is not escaped.
MARKUP = re.compile(r"(?<!\\)(!\[i|<img|</script|\]\(http)")


def run_of(workspace: Workspace, **wanted: object) -> RunFolder:
    """The first run whose state and spec fit."""
    for run in list_runs(workspace):
        facts = {"state": run.state(), **run.envelope()["spec"]}
        if all(facts.get(k) == v for k, v in wanted.items()):
            return run
    raise AssertionError(f"no run with {wanted}")


def texts(test: AppTest) -> str:
    """Everything readable on the page."""
    parts = [e.value for kind in ("title", "subheader", "markdown", "caption", "error", "warning", "info", "success")
             for e in test.get(kind)]  # fmt: skip
    parts += [f"{m.label} {m.value}" for m in test.metric]
    parts += [e.proto.label for e in test.get("page_link")]
    parts += [e.text for e in test.get("progress")]
    return "\n".join(str(p) for p in parts).replace("\\", "").replace("\u2060", "")


def traces(test: AppTest, number: int = 0) -> dict[str, dict[str, Any]]:
    """Lines of a chart by name."""
    figure = json.loads(test.get("plotly_chart")[number].proto.spec)
    return {t["name"]: t for t in figure["data"] if t.get("mode") == "lines+markers"}


def decoded(values: Any) -> list[float]:
    """Plotly's arrays: a list, or base64 of numbers."""
    if not isinstance(values, dict):
        return values
    return np.frombuffer(base64.b64decode(values["bdata"]), values["dtype"]).tolist()


def in_url(test: AppTest, name: str) -> list[str]:
    value = test.query_params.get(name, [])
    return list(value) if isinstance(value, list | tuple) else [value]


def columns(test: AppTest, number: int = 0) -> list[str]:
    return list(test.dataframe[number].proto.column_order)


def labels(test: AppTest) -> list[str]:
    return [w.label for kind in ("selectbox", "multiselect", "segmented_control", "pills", "toggle", "button_group")
            for w in test.get(kind) if getattr(w, "label", None)]  # fmt: skip


def contrast(one: str, other: str) -> float:
    """Of two colours `#RRGGBB`, 1 to 21."""

    def luminance(color: str) -> float:
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)
