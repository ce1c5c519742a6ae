"""The entry point: puts the command groups together, and turns every error into one message and an exit code."""

from __future__ import annotations

import os
import sys
import threading
from typing import Annotated

import typer

from cadenza.cli import check, doctor, exit_codes, init, people, run, runs, show, worker
from cadenza.errors import CadenzaError, UsageError

EXIT_CODES = "\n".join(
    ["[bold]Exit codes[/bold]", *(f"[cyan]{code:>3}[/cyan]  {text}" for code, text in exit_codes.TABLE)]
)
STORE_HELP = "The store is [cyan]cadenza.db[/cyan] in the current folder, or what --store or $CADENZA_STORE names."

app = typer.Typer(
    name="cadenza",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    epilog=f"{STORE_HELP}\n\n{EXIT_CODES}",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("init")(init.init)
app.command("run")(run.run)
app.command("runs")(runs.runs)
app.command("show")(show.show)
app.command("resume")(run.resume)
app.command("worker")(worker.worker)
app.command("signal")(people.signal)
app.command("answer")(people.answer)
app.command("cancel")(people.cancel)
app.command("check")(check.check)
app.command("doctor")(doctor.doctor)


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
