"""The dependency rule, held by importing every module of the light rooms in a fresh process."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "lightning", "torchgeo.datasets", "umap", "timm")
LIGHT_RSFM = (
    "alarms", "band_statistics", "bands", "cli", "commands", "comparison", "descriptions", "dryrun", "embedding_info",
    "errors", "execute", "geo", "histograms", "metrics", "model_card", "model_info", "model_package", "network_info",
    "pack_arrays", "pack_writer", "packs",
    "prediction_info", "protocols", "rasters", "registry", "scenes", "specs", "stats", "store", "synthetic", "tasks",
    "thumbs", "wording", "workspace",
)  # fmt: skip
#: Pages are scripts: importing one would draw it, so what they import is read from their text.
PAGES = [ROOT / "app" / "streamlit_app.py", *sorted((ROOT / "app" / "app_pages").glob("*.py"))]


def modules_of(*folders: Path) -> list[str]:
    files = [f for folder in folders for f in ([folder] if folder.suffix == ".py" else sorted(folder.rglob("*.py")))]
    names = [".".join(f.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for f in files]
    return [n for n in names if ".app_pages." not in n and n != "app.streamlit_app"]


def light_modules() -> list[str]:
    rsfm = [ROOT / "rsfm" / n if (ROOT / "rsfm" / n).is_dir() else ROOT / "rsfm" / f"{n}.py" for n in LIGHT_RSFM]
    assert all(p.exists() for p in rsfm)
    return modules_of(ROOT / "app", ROOT / "jobs", ROOT / "data_catalog", *rsfm)


def test_light_rooms_import_nothing_heavy() -> None:
    names = light_modules()
    assert len(names) > 40
    code = (
        "import importlib, sys\n"
        f"for name in {names!r}:\n"
        "    importlib.import_module(name)\n"
        f"    heavy = [h for h in {HEAVY!r} if h in sys.modules]\n"
        "    assert not heavy, f'{name} imports {heavy}'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def imported(path: Path, *, top_level_only: bool = False) -> set[str]:
    """Full names of what a file imports: modules, and names from them ("rsfm.packs.Pack")."""
    tree = ast.parse(path.read_text())
    nodes = ast.iter_child_nodes(tree) if top_level_only else ast.walk(tree)
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def imports(path: Path, *, top_level_only: bool) -> set[str]:
    return {name.split(".")[0] for name in imported(path, top_level_only=top_level_only)}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_pages_import_light_rooms_only(page: Path) -> None:
    names = sorted(imported(page))
    assert names or page.stem == "__init__"
    for name in names:  # what is imported from app, jobs and data_catalog is covered above
        top, _, rest = name.partition(".")
        assert not any(f"{name}.".startswith(f"{h}.") for h in HEAVY), f"{page.name} imports {name}"
        if top == "rsfm":
            assert rest.partition(".")[0] in LIGHT_RSFM, f"{page.name} imports {name}, which is not a light room"


def test_every_module_of_the_library_is_light_or_known_to_be_heavy() -> None:
    """A new module beside the others must take a side."""
    heavy = {
        "data", "degrade", "device", "downstream", "embed", "evaluation", "inference", "losses", "masking", "methods",
        "models", "train",
    }  # fmt: skip
    rooms = {p.stem for p in (ROOT / "rsfm").iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
    assert rooms - {"__init__"} - heavy == set(LIGHT_RSFM)


@pytest.mark.parametrize(
    ("room", "forbidden"),
    [
        ("rsfm", {"app", "jobs", "streamlit"}),
        ("jobs", {"app", "streamlit", "torch", "data_catalog"}),
        ("data_catalog", {"app", "jobs", "streamlit"}),
        ("app", {"torch", "lightning", "timm", "umap", "torchgeo"}),
    ],
)
def test_rooms_do_not_reach_into_each_other(room: str, forbidden: set[str]) -> None:
    for path in sorted((ROOT / room).rglob("*.py")):
        # The command line composes all rooms, inside its functions.
        composes = "commands" in path.parts or path.name == "cli.py"
        hit = imports(path, top_level_only=composes) & forbidden
        assert not hit, f"{path.relative_to(ROOT)} imports {hit}"


def test_no_sql_in_the_dashboard_and_leafmap_in_one_place() -> None:
    for path in sorted((ROOT / "app").rglob("*.py")):
        names = imports(path, top_level_only=False)
        assert "duckdb" not in names, f"{path} opens the database itself"
        if "maps" not in path.parts:
            assert "leafmap" not in names, f"{path} imports leafmap outside app/maps"


def test_page_scripts_keep_no_caches_of_their_own() -> None:
    """A page's functions are made anew whenever it runs: what they would keep is forgotten at once."""
    for path in sorted((ROOT / "app" / "app_pages").glob("*.py")):
        assert not re.search(r"^@(functools\.)?(lru_)?cache\b", path.read_text(), re.MULTILINE), path
