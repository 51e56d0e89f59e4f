"""A lab that a supervisor is said to serve, and what the page Now says then."""

from __future__ import annotations

import os
from typing import Any

from streamlit.testing.v1 import AppTest

from jobs.processes import created
from jobs.protocol import host_name, state_path
from rsfm.store.files import utc_now, write_json
from rsfm.workspace import Workspace

GPU = {"name": "gpu-0", "kind": "gpu", "title": "NVIDIA H100", "threads": 8, "memory_bytes": 80_000_000_000}


def texts(test: AppTest) -> str:
    found = [*test.markdown, *test.caption, *test.warning, *test.subheader]
    return "\n".join([str(e.value) for e in found] + [e.proto.label for e in test.get("page_link")])


def supervised(workspace: Workspace, **state: Any) -> None:
    """This process says it is the supervisor."""
    write_json(
        state_path(workspace),
        {
            "pid": os.getpid(), "created": created(os.getpid()), "host": host_name(), "started": utc_now(),
            "time": utc_now(), "slots": [], "queue": [], "live": [], "problems": [], **state,
        },
    )  # fmt: skip
