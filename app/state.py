"""The workspace and its one store, shared by pages and routes."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import streamlit as st

from rsfm.embedding_info import PATH as EMBEDDING_PATH
from rsfm.embedding_info import Embedding, EmbeddingInfo, read_embedding, read_embedding_info
from rsfm.packs import Pack
from rsfm.store.runs import open_run
from rsfm.store.view import Store
from rsfm.workspace import Workspace, is_folder_name


@st.cache_resource(show_spinner=False)
def _store(root: str) -> Store:
    return Store(Workspace(Path(root)))


def store_of(workspace: Workspace) -> Store:
    """The store of a workspace: one per process, so that every session shares its last frames."""
    return _store(str(workspace.root))


def workspace() -> Workspace:
    """The workspace that this dashboard shows (`RSFM_WORKSPACE`)."""
    return Workspace.resolve()


def store() -> Store:
    """The store of this dashboard, brought up to date without ever waiting."""
    current = store_of(workspace())
    current.refresh_if_stale()
    return current


@lru_cache(maxsize=16)
def opened(folder: Path, stamp: int) -> Pack:
    """A pack that stays open between requests; `stamp` changes when it is prepared again."""
    return Pack.open(folder)


def pack_stamp(folder: Path) -> int:
    return (folder / "pack.json").stat().st_mtime_ns


def open_pack(workspace: Workspace, name: str) -> Pack:
    """The pack of that name, opened once.

    Raises:
        RsfmError: no such pack, or not a name.
    """
    folder = workspace.packs / name
    if not is_folder_name(name) or not (folder / "pack.json").is_file():
        return Pack.named(workspace, name)  # says which of these it is
    return opened(folder, pack_stamp(folder))


@lru_cache(maxsize=8)
def _embedding(path: Path, stamp: int) -> Embedding:
    return read_embedding(path)


@lru_cache(maxsize=1024)
def _embedding_info(path: Path, stamp: int) -> EmbeddingInfo:
    return read_embedding_info(path)


def embedding_file(workspace: Workspace, run_id: str) -> tuple[Path, int]:
    """Where an embedding run leaves its map, and a number that changes when it is written anew."""
    path = open_run(workspace, run_id).path / EMBEDDING_PATH
    return path, path.stat().st_mtime_ns if path.is_file() else 0


def open_embedding(workspace: Workspace, run_id: str) -> Embedding:
    """The map that an embedding run left, read once.

    Raises:
        RsfmError: no such run, or it left no map that can be read.
    """
    return _embedding(*embedding_file(workspace, run_id))


def open_embedding_info(workspace: Workspace, run_id: str) -> EmbeddingInfo:
    """What that map shows, without its points.

    Raises:
        RsfmError: as `open_embedding`.
    """
    return _embedding_info(*embedding_file(workspace, run_id))
