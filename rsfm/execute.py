"""Execute one attempt of one run in this process: `python -m rsfm.execute RUN_FOLDER --attempt N`.

Exit codes: 0 done; 3 stopped on request, everything saved; 1 failed (the reason is the log's last lines).
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from pathlib import Path

EXIT_STOPPED = 3


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="rsfm.execute")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--attempt", type=int, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    args = parser.parse_args(argv)
    # Before anything imports numpy or torch: the slot's share of the cores, no more.
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(args.threads)
    # Threads that wait sleep instead of spinning: when anything else wants a core (the dashboard does), spinning
    # threads wait for each other's turn on the processor, and a training on two cores gets many times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

    from rsfm.errors import RsfmError
    from rsfm.registry import JOB_TARGETS, load
    from rsfm.store.job import JobContext, Stopped
    from rsfm.store.runs import RunFolder
    from rsfm.workspace import Workspace

    folder = RunFolder(args.folder.resolve())
    context = JobContext(
        Workspace(folder.path.parents[1]), folder, args.attempt, threads=args.threads, device=args.device
    )
    try:
        spec = folder.spec()
        load(JOB_TARGETS[spec.kind])(spec, context)
    except Stopped:
        print("Stopped on request; saved.", flush=True)
        return EXIT_STOPPED
    except RsfmError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 1
    except Exception:  # noqa: BLE001 - the outermost frame of a job: the log gets the whole story
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
