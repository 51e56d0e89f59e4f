"""Errors that are meant for people.

`RsfmError` carries one sentence that says what is wrong, where, and what to do. The command line prints it
on one line and exits with 2; the dashboard shows it in place. Anything else that escapes is a bug.
"""

from __future__ import annotations


class RsfmError(Exception):
    """Something the user can mend: bad input, a missing file, an unknown name."""


class JobFailed(RsfmError):
    """A job that was asked for ran and did not succeed (exit code 1 on the command line)."""
