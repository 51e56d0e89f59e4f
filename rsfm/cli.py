"""The command line: `rsfm VERB ...`. Each verb does what one Python function does; see `rsfm/commands/`.

Exit codes: 0 done; 2 bad input, told in one line on standard error; 1 a job failed; 130 interrupted.
"""

from __future__ import annotations

import sys

import typer

from rsfm import __version__
from rsfm.commands import compare, data, demo, experiments, models, predict, protocol, report, runs, server

app = typer.Typer(
    name="rsfm",
    help="RSFM Lab: pretrain, degrade, evaluate and compare remote-sensing foundation models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(data.app, name="data")
app.add_typer(runs.index_app, name="index")
app.add_typer(protocol.app, name="protocol")
for verb, function in (
    ("methods", experiments.methods),
    ("pretrain", experiments.pretrain),
    ("evaluate", experiments.evaluate),
    ("predict", predict.predict),
    ("embed", experiments.embed),
    ("compare", compare.compare),
    ("report", report.report),
    ("export", models.export),
    ("import", models.import_),
    ("runs", runs.runs),
    ("tag", runs.tag),
    ("stop", runs.stop),
    ("resume", runs.resume),
    ("jobs", runs.jobs),
    ("app", server.app),
    ("demo", demo.demo),
):
    app.command(verb)(function)


def _version(value: bool) -> None:
    if value:
        print(__version__)
        raise typer.Exit


@app.callback()
def _root(version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show it.")) -> None:
    pass


def main(argv: list[str] | None = None) -> None:
    """Entry point of the `rsfm` script."""
    from rsfm.errors import JobFailed, RsfmError

    argv = sys.argv[1:] if argv is None else argv
    try:
        code = app(args=argv or ["--help"], standalone_mode=False)
    except BrokenPipeError:  # the reader of our output (head, less) went away
        code = 0
        sys.stderr.close()
    except typer.TyperException as error:
        code = _complain(error.format_message(), 2)
    except JobFailed as error:
        code = _complain(str(error), 1)
    except RsfmError as error:
        code = _complain(str(error), 2)
    except OSError as error:
        code = _complain(f"{error.filename or ''}: {error.strerror or error}".removeprefix(": "), 2)
    except (KeyboardInterrupt, typer.Abort):
        code = _complain("interrupted", 130)
    sys.exit(code or 0)


def _complain(message: str, code: int) -> int:
    # A message may quote a file from elsewhere: no control characters reach the terminal.
    line = "".join(c for c in " ".join(message.split()) if c.isprintable())
    print(f"error: {line}", file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
