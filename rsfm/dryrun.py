"""Check a spec before it is queued: `python -m rsfm.dryrun --workspace DIR < spec.json`.

Prints one line of JSON: {"ok": bool, "remarks": [...], "problem": "..." or null}. Runs in a process of its own, so
that whoever asks needs no torch and survives whatever the check does.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import threading
import time
import traceback
from typing import Any

from rsfm.errors import RsfmError

_GB = 1e9
#: Less free space than this: refused; less than ten times that: remarked.
LEAST_FREE_BYTES = 0.2 * _GB


def check(data: Any, workspace_root: str) -> dict[str, Any]:
    """Everything that can be known before the run: the spec, the disk, and what the job's own dry run says."""
    from rsfm.registry import DRY_RUN_TARGETS, load
    from rsfm.specs import parse_spec
    from rsfm.workspace import Workspace

    workspace = Workspace.resolve(workspace_root)
    try:
        if not isinstance(data, dict):
            raise RsfmError("A spec is a JSON object.")
        spec = parse_spec(data)
        free = workspace.free_bytes()
        if free < LEAST_FREE_BYTES:
            raise RsfmError(f"Only {free / _GB:.2f} GB are free at {workspace.root}: make room first.")
        remarks = [str(r) for r in load(DRY_RUN_TARGETS[spec.kind])(spec, workspace)]
        if free < 10 * LEAST_FREE_BYTES:
            remarks.append(f"Only {free / _GB:.1f} GB are free at {workspace.root}.")
    except RsfmError as error:
        return {"ok": False, "remarks": [], "problem": str(error)}
    except Exception as error:  # noqa: BLE001 - the outermost frame: a crash is an answer too
        traceback.print_exc()
        return {"ok": False, "remarks": [], "problem": f"The dry run failed: {type(error).__name__}: {error}"}
    return {"ok": True, "remarks": remarks, "problem": None}


def _end_with(parent: int) -> None:
    """Whoever asked was killed: the answer is for nobody."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="rsfm.dryrun")
    parser.add_argument("--workspace", required=True)
    parser.add_argument("--parent", type=int, help="end with this parent process")
    parser.add_argument("--threads", type=int, default=1, help="as many as the job will have")
    args = parser.parse_args(argv)
    if args.parent:
        threading.Thread(target=_end_with, args=(args.parent,), daemon=True).start()
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, str(args.threads))
    try:
        data = json.load(sys.stdin)
    except ValueError as error:
        answer = {"ok": False, "remarks": [], "problem": f"The spec is not JSON: {error}."}
    else:
        with contextlib.redirect_stdout(sys.stderr):  # libraries print; the answer stands alone
            answer = check(data, args.workspace)
    print(json.dumps(answer, ensure_ascii=False), flush=True)
    return 0 if answer["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
