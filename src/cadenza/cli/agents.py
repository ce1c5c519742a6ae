"""``cadenza agents``: who there is, what they can do, and whether they are well."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import typer

from cadenza.cli import exit_codes
from cadenza.cli.agents_beside import agent_files_in
from cadenza.cli.agents_view import as_dict, key_of, print_instances, print_one
from cadenza.cli.dead_letters import dead_letters_app
from cadenza.cli.place import MEMORY, JsonOption, StoreOption, existing, location, reading
from cadenza.cli.streams import paint, print_json, say, show
from cadenza.engine.catalogue import Catalogue
from cadenza.errors import UnknownName, UsageError
from cadenza.routing.instance import Instance
from cadenza.routing.registry import registry

USUAL = "workflows.py"
MARKS = {"well": ("✓", "green"), "ill": ("✗", "bold red"), "unknown": ("?", "dim")}

agents_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Who there is, what they can do, and whether they are well.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
agents_app.add_typer(dead_letters_app, name="dead-letters", short_help="Calls that nobody could do.")

CodeOption = Annotated[
    str,
    typer.Option(
        "--code",
        metavar="FILE",
        help="The file or module that defines agents; by default workflows.py and agents/ of this folder.",
    ),
]
NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="An agent's name, or one of its instances: NAME@VERSION/INSTANCE.")
]


@agents_app.command("list", short_help="List agents, or find them.")
def list_(
    *,
    skill: Annotated[str, typer.Option("--skill", help="Only those with this skill.")] = "",
    tag: Annotated[list[str] | None, typer.Option("--tag", help="Only those with this tag; may be repeated.")] = None,
    label: Annotated[
        list[str] | None, typer.Option("--label", help="Only those with this placement label; may be repeated.")
    ] = None,
    text: Annotated[str, typer.Option("--text", help="Only those whose card has these words, best first.")] = "",
    all_: Annotated[bool, typer.Option("--all", help="Old versions that nobody runs, too.")] = False,
    code: CodeOption = "",
    store: StoreOption = "cadenza.db",
    as_json: JsonOption = False,
) -> None:
    """List the agents of this project, and those that the store knows of: of other processes, and by their card."""

    async def main() -> None:
        async with _catalogue(code, store) as catalogue:
            found = registry.find(
                skill=skill, tags=tag or (), placement=label or (), text=text, here=False, catalogue=catalogue
            )
        shown = found if all_ else _current(found)
        if as_json:
            print_json([as_dict(each) for each in shown])
            return
        print_instances(shown)
        if not shown:
            asked = skill or tag or label or text
            say(
                "No agent fits." if asked else "No agents. Decorate a function with @agent, or name a file: --code FILE"
            )
        if hidden := len(found) - len(shown):
            say(f"{hidden} old versions that nobody runs are not listed: --all", "dim")

    asyncio.run(main())


@agents_app.command("show", short_help="Show an agent's card and instances.")
def show_(
    name: NameArgument, *, code: CodeOption = "", store: StoreOption = "cadenza.db", as_json: JsonOption = False
) -> None:
    """Show what is known of an agent: its card, its instances, who runs it, and its health."""

    async def main() -> None:
        async with _catalogue(code, store) as catalogue:
            found = _named(name, registry.instances(catalogue))
        if as_json:
            print_json([as_dict(each) for each in found])
        else:
            for number, each in enumerate(found):
                if number:
                    show()
                print_one(each)

    asyncio.run(main())


@agents_app.command("health", short_help="Ask agents whether they are well.")
def health(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Only this agent, or this instance.")] = "",
    *,
    code: CodeOption = "",
    store: StoreOption = "cadenza.db",
    as_json: JsonOption = False,
) -> None:
    """Ask agents whether they are well: HTTP ones at their health URL or host, models by name, others by heartbeat.

    What was found is kept in the store, if there is one. Exit code 1 if one is not well.
    """
    from cadenza.cli.agents_health import Checked, checked

    async def main() -> list[Checked]:
        async with _catalogue(code, store) as catalogue:
            instances = registry.instances(catalogue)
            return await checked(_named(name, instances) if name else _current(instances), catalogue)

    found = asyncio.run(main())
    if as_json:
        print_json([each.as_dict() for each in found])
    else:
        width = max((len(key_of(each.instance)) for each in found), default=0)
        for each in found:
            mark, style = MARKS[each.state]
            show(f"{paint(mark, style)} {key_of(each.instance):<{width}}  {each.shown}".rstrip())
        if not found:
            say("No agents.")
    raise typer.Exit(exit_codes.FAILED if any(each.state == "ill" for each in found) else exit_codes.OK)


@agents_app.command("test", short_help="Call one agent once.")
def call(
    name: NameArgument,
    input: Annotated[
        str | None, typer.Argument(metavar="INPUT", help="JSON, @file.json, or -; mere text for who takes text.")
    ] = None,
    *,
    code: CodeOption = "",
    store: StoreOption = "cadenza.db",
    as_json: JsonOption = False,
) -> None:
    """Call one agent once, as a run of the store, and show what it gives, how long it took, and its price."""
    from cadenza.cli.agents_trial import call_once, read_input

    async def known() -> list[Instance]:
        async with _catalogue(code, store) as catalogue:
            return _named(name, registry.instances(catalogue))

    instances = asyncio.run(known())
    found = [each for each in instances if each.agent is not None]
    if not found:
        why = instances[0].problem or "other processes run it; name the file that defines it: --code FILE"
        raise UsageError(f"{name} cannot be called from here: {why}")
    value = read_input(input, found[0])
    raise typer.Exit(call_once(found[0], value, store, code or USUAL, as_json=as_json))


@agents_app.command("add", short_help="Add an agent by the URL of its card.")
def add(
    url: Annotated[str, typer.Argument(metavar="URL", help="Of the agent, of its A2A card, or a file with the card.")],
    *,
    name: Annotated[str, typer.Option("--name", help="What it is called here.")] = "",
    store: StoreOption = "cadenza.db",
    as_json: JsonOption = False,
) -> None:
    """Let the store know of an agent by its A2A card. To call it, add it in code as well: registry.add_card(URL)."""
    from cadenza.routing import kept
    from cadenza.routing.remote_card import read_card

    card = read_card(url, name)
    problem = card.obstacle(None) or "known by its card; to call it, add it in code: registry.add_card(…)"
    health_url = card.source if card.source.startswith(("http://", "https://")) else ""
    made = Instance(None, card.card, health_url=health_url, source=card.source, owner=card.card.owner, problem=problem)

    async def main() -> None:
        from cadenza.engine.engine import Engine
        from cadenza.engine.options import EngineOptions

        async with Engine.open(location(store), EngineOptions(worker=False)) as engine:
            kept.write_rows(engine.catalogue, [made], registry.now())

    asyncio.run(main())
    if as_json:
        print_json(as_dict(made))
    else:
        say(f"Added {key_of(made)} ({card.title}).", "green")
        print_one(made)


@agents_app.command("forget", short_help="Forget an agent that the store knows of.")
def forget(name: NameArgument, *, store: StoreOption = "cadenza.db") -> None:
    """Forget an instance, or all of an agent. Who runs it makes it known again with the next heartbeat."""
    from cadenza.routing import kept

    async def main() -> None:
        async with reading(store) as engine:
            for each in _named(name, registry.instances(engine.catalogue)):
                kept.forget(engine.catalogue, each.key)
                say(f"Forgot {key_of(each)}.", "green")

    existing(store)
    asyncio.run(main())


# --- what the commands share ------------------------------------------------------------------------------------------


def load_code(code: str) -> None:
    """Import what defines agents. Raises UnknownName, UsageError, UserCodeError."""
    from cadenza.cli import target

    here = Path.cwd()
    if code:
        target.load(code)
    elif (here / USUAL).is_file():
        target.load(USUAL)
    elif agent_files_in(here):
        from cadenza.agents.files import load_agents

        sys.path.insert(0, str(here))
        load_agents(here / "agents")


@asynccontextmanager
async def _catalogue(code: str, store: str) -> AsyncGenerator[Catalogue | None]:
    """Loads the code, and opens the store if there is one: a list needs none."""
    load_code(code)
    if not _is_there(store):
        yield None
        return
    async with reading(store) as engine:
        yield engine.catalogue


def _is_there(store: str) -> bool:
    return store != MEMORY and Path(store).expanduser().exists()


def _named(name: str, instances: Sequence[Instance]) -> list[Instance]:
    """Those of an agent, or the one of a key. Raises UnknownName with the nearest."""
    found = [each for each in instances if name in (each.card.name, each.key, key_of(each))]
    if not found:
        known = {each.card.name for each in instances}
        raise UnknownName("agent", name, known, "" if known else "Name the file that defines it: --code FILE")
    return found


def _current(instances: Sequence[Instance]) -> list[Instance]:
    """Without versions that nobody runs, of agents that have another one that somebody does."""
    alive = {each.card.name for each in instances if each.healthy}
    return [each for each in instances if each.healthy or each.agent is not None or each.card.name not in alive]
