"""The entry point: puts the command groups together, and turns every error into one message and an exit code."""

from __future__ import annotations

import os
import sys
import threading
from typing import Annotated

import typer

from cadenza.cli import (
    agents,
    agents_train,
    archive,
    backup,
    check,
    check_deploy,
    dev,
    doctor,
    exit_codes,
    explain,
    fork,
    init,
    people,
    purge,
    query,
    record,
    rotate_key,
    run,
    runs,
    show,
    update,
    worker,
)
from cadenza.errors import CadenzaError, UsageError

# "\b" keeps the lines of a paragraph as they are.
EXIT_CODES = "\n".join(["\b", "Exit codes:", *(f"{code:>5}  {text}" for code, text in exit_codes.TABLE)])
EPILOG = f"""The store is cadenza.db in the current folder, or what --store or $CADENZA_STORE names.

{EXIT_CODES}"""

app = typer.Typer(
    name="cadenza",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its help costs a quarter of a second to import
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for name, function, summary in (
    ("init", init.init, "Make a project that runs."),
    ("run", run.run, "Start a run and watch it."),
    ("dev", dev.dev, "Run a workflow again at every save."),
    ("runs", runs.runs, "List runs."),
    ("show", show.show, "Show one run: tree, timeline, events, or a page."),
    ("explain", explain.explain, "Show why an agent was chosen."),
    ("resume", run.resume, "Go on with a parked or blocked run."),
    ("worker", worker.worker, "Run whatever is ready."),
    ("query", query.query, "Read what a run shows of itself."),
    ("update", update.update, "Send a run a message and wait for its answer."),
    ("signal", people.signal, "Send a run a message."),
    ("answer", people.answer, "Answer what a run asks."),
    ("cancel", people.cancel, "Ask a run to stop, clean up and undo."),
    ("backup", backup.backup, "Copy the store while workers go on."),
    ("rotate-key", rotate_key.rotate_key, "Encrypt everything with the newest key."),
    ("record", record.record, "Turn a run into a regression test."),
    ("export", archive.export, "Write a run as a file."),
    ("import", archive.import_, "Take in an exported run."),
    ("purge", purge.purge, "Delete ended runs."),
    ("vacuum", purge.vacuum, "Make the store's file smaller."),
    ("fork", fork.fork, "Start a new run from the middle of another."),
    ("retry", fork.retry, "Go on with a failed run, as a new one."),
    ("reset", fork.reset, "Go on from an earlier place, as a new run."),
    ("check", check.check, "Find workflow code that cannot be replayed."),
    ("check-deploy", check_deploy.check_deploy, "Find runs that would block on this code."),
    ("doctor", doctor.doctor, "Look over this machine and the store."),
):
    app.command(name, short_help=summary)(function)
agents.agents_app.command("train", short_help="Learn which skill a request asks for.")(agents_train.train)
app.add_typer(agents.agents_app, name="agents", short_help="List, show, call and look after agents.")


@app.callback(invoke_without_command=True)
def cadenza(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Durable orchestration of agents: runs that never lose their place."""
    if version:
        from cadenza import __version__

        typer.echo(f"cadenza {__version__}")
        raise typer.Exit(exit_codes.OK)


def main() -> None:
    """Run the command line and leave the process; a thread that is stuck in a step does not hold it."""
    code = invoke()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):  # whoever read it is gone
            code = code or exit_codes.FAILED
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    if threading.active_count() > 1:
        os._exit(code)
    sys.exit(code)


def invoke() -> int:
    """The exit code of the command in ``sys.argv``."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")  # a terminal without UTF-8 gets '?' for a '✓', not a crash
    try:
        _check_encoding(sys.argv)
        app(prog_name="cadenza")
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else exit_codes.OK if left.code is None else exit_codes.FAILED
    except CadenzaError as error:
        from cadenza.cli.failures import report

        return report(error)
    except KeyboardInterrupt:
        return exit_codes.INTERRUPTED
    except BrokenPipeError:
        return exit_codes.OK
    except Exception:
        return _bug()
    return exit_codes.OK


def _check_encoding(arguments: list[str]) -> None:
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise UsageError(
                f"the argument {argument!r} is not valid text in this terminal's encoding (UTF-8)"
            ) from None


def _bug() -> int:
    import traceback

    traceback.print_exc(limit=-6)
    sys.stderr.write("\nThis is a bug in Cadenza. No accepted work is lost. Please report it with the lines above.\n")
    return exit_codes.BUG


if __name__ == "__main__":
    main()
