"""``cadenza check``: find code in workflows that cannot be replayed, without running it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from cadenza.cli import exit_codes
from cadenza.cli.place import JsonOption
from cadenza.cli.streams import paint, print_json, say, show
from cadenza.errors import UnknownName, UsageError

SKIPPED = {"__pycache__", "node_modules", "site-packages", "build", "dist", "venv", "env"}


def check(
    places: Annotated[list[str] | None, typer.Argument(metavar="FILE|FOLDER", help="This folder by default.")] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Find code in workflows that a replay could not repeat: clocks, randomness, I/O. Nothing is imported or run.

    The agents that are written down in agents/*.yaml are read too.

    Exit code 1 if there are errors; warnings alone are 0.
    """
    from cadenza.cli.agents_beside import agent_files_among, check_agent_file
    from cadenza.durable.lint import Finding, check_source

    findings: list[Finding] = []
    files = list(dict.fromkeys(file for place in places or ["."] for file in _files(Path(place))))
    for file in files:
        findings += check_source(_read(file), str(file))
    written = agent_files_among(files)
    for file in written:
        findings += check_agent_file(file)
    errors = sum(each.severity == "error" for each in findings)
    if as_json:
        fields = ("file", "line", "column", "rule", "severity", "message")
        print_json([{name: getattr(each, name) for name in fields} for each in findings])
    else:
        for each in findings:
            is_error = each.severity == "error"
            rule = paint(each.rule, "red" if is_error else "yellow")
            show(f"{each.file}:{each.line}:{each.column}: {rule} {'' if is_error else 'warning: '}{each.message}")
        _summarise(len(files) + len(written), errors, len(findings) - errors)
    raise typer.Exit(exit_codes.FAILED if errors else exit_codes.OK)


def _summarise(files: int, errors: int, warnings: int) -> None:
    looked = f"{files} file{'s' if files != 1 else ''}"
    if not files:
        say("No Python files here.", "yellow")
    elif not errors and not warnings:
        say(f"{looked}: nothing that a replay could not repeat.", "green")
    else:
        counts = [
            f"{count} {word}{'s' if count != 1 else ''}"
            for count, word in ((errors, "error"), (warnings, "warning"))
            if count
        ]
        say(f"{looked}: {' and '.join(counts)}.", "red" if errors else "yellow")


def _files(place: Path) -> Iterator[Path]:
    """The Python files of a place; a folder without its hidden folders, caches and environments."""
    if place.is_file():
        yield place
    elif not place.is_dir():
        beside = [str(each) for each in place.parent.glob("*")] if place.parent.is_dir() else []
        raise UnknownName("file or folder", str(place), beside)
    else:
        for folder, inner, names in os.walk(place):
            inner[:] = sorted(
                name
                for name in inner
                if name not in SKIPPED and name[0] != "." and not Path(folder, name, "pyvenv.cfg").exists()
            )
            yield from (Path(folder, name) for name in sorted(names) if name.endswith(".py"))


def _read(file: Path) -> str:
    import tokenize

    try:
        with tokenize.open(file) as source:  # heeds the encoding that the file declares
            return source.read()
    except (OSError, SyntaxError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read: {error}") from None
