"""Numbers and names as people read them; user text as text."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.text import ago, duration, model_name, number, plain, plotly_text, run_title, share, size, visible


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "–"), (float("nan"), "–"), (0, "0"), (40_000, "40,000"), (0.7312345, "0.7312"), (1.5e-5, "1.5e-05"),
     (12.3456, "12.35"), (1234.5, "1,234"), (1e9, "1e+09")],
)  # fmt: skip
def test_number(value: float | None, shown: str) -> None:
    assert number(value) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.4, "0 s"), (59.4, "59 s"), (185, "3 min 05 s"), (7800, "2 h 10 min"),
     (300_000, "3 d 11 h"), (None, "–"), (-1, "–")],
)  # fmt: skip
def test_duration(seconds: float | None, shown: str) -> None:
    assert duration(seconds) == shown


def test_size_and_share_and_ago() -> None:
    assert [size(b) for b in (12, 1_500, 812_000_000, None)] == ["12 B", "1.5 kB", "812 MB", "–"]
    assert share(5, 10) == 0.5 and share(5, 0) is None and share(None, 3) is None and share(20, 10) == 1
    now = datetime(2026, 5, 1, 12, tzinfo=UTC)
    assert ago("2026-05-01T11:59:55+00:00", now) == "just now"
    assert ago("2026-05-01T11:30:00+00:00", now) == "30 min ago"
    assert ago("2026-04-01T11:30:00+00:00", now) == "2026-04-01 11:30 UTC"
    assert ago("rubbish", now) == "–"


def test_runs_are_named_by_what_they_do() -> None:
    run = "20261121-093045-mae-eurosat-7f3a"
    assert run_title({"kind": "pretrain", "method": "mae", "dataset": "eurosat"}) == "MAE on eurosat"
    assert run_title({"kind": "evaluate", "model": run, "dataset": "d"}) == "run …7f3a on d"
    assert run_title({"kind": "evaluate", "model": run, "dataset": "d"}, {run: "MAE nano"}) == "MAE nano on d"
    assert model_name(f"random:{run}", {run: "MAE nano"}) == "Random init of MAE nano"
    assert model_name("band-stats") == "band-stats"
    assert run_title({"run_id": run, "kind": None}) == run


@given(st.text(max_size=80))
@settings(deadline=None, max_examples=200)
def test_plain_text_is_never_markdown(text: str) -> None:
    shown = plain(text)
    # Every character that Markdown knows has a backslash before it ...
    assert not re.search(
        r"(?<!\\)(?:\\\\)*[`*_{}\[\]()<>#!|~$&]", re.sub(r"\\[\\`*_{}\[\]()<>#+\-.!|~$:@&=]", "", shown)
    )
    # ... and what remains without the backslashes is what was meant.
    unescaped = re.sub(r"\\([\\`*_{}\[\]()<>#+\-.!|~$:@&=])", r"\1", shown).replace("\u2060", "")
    assert unescaped == " ".join(visible(text).split())


@pytest.mark.parametrize("text", ["http://a.b", "www.b.com", "a@b.c", ":material/home:", ":streamlit:", "a -> b--c"])
def test_addresses_icons_and_arrows_stay_text(text: str) -> None:
    assert "\u2060" in plain(text), "an invisible joiner keeps the pieces apart"


def test_direction_marks_are_left_out() -> None:
    assert visible("a\u202eb\u2066c\u200bd\x00e") == "abcde"
    assert plotly_text("<b>\u202e&") == "&lt;b&gt;&amp;"
