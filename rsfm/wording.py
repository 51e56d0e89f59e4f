"""Counts in words: the same on pages, on the command line, in notes and in remarks."""

from __future__ import annotations


def counted(n: int, things: str) -> str:
    """`1, "scenes"` -> "1 scene", `1204, "scenes"` -> "1,204 scenes"; things whose singular only lacks the s."""
    return f"{n:,} {things.removesuffix('s') if n == 1 else things}"


def samples_text(n: int, scenes: int | None, things: str = "test samples") -> str:
    """What a score rests on: "55 test samples of 5 scenes", without the scenes where each sample is its own.

    Args:
        scenes: None where it is not known.
    """
    return counted(n, things) + ("" if scenes is None or scenes == n else f" of {counted(scenes, 'scenes')}")
