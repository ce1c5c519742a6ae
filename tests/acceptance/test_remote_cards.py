"""Agents by the URL of their card: what a card says, how it is called, and what is said of bad ones."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cadenza import Bearer, Context, Engine, workflow
from cadenza.agents import agent as known_agents
from cadenza.errors import CardInvalid, DefinitionError
from cadenza.routing.card_agent import CardAgent
from cadenza.routing.registry import Registry
from cadenza.routing.remote_card import WELL_KNOWN, card_url, read_card
from tests.acceptance.http_world import Answered, Asked, World, serving


def card_of(at: str, /, **changes: Any) -> dict[str, Any]:
    card: dict[str, Any] = {
        "name": "Recipe Agent",
        "description": "Helps with recipes and cooking.",
        "version": "1.2.0",
        "supportedInterfaces": [
            {"url": f"{at}/rpc", "protocolBinding": "JSONRPC", "protocolVersion": "1.0"},
            {"url": f"{at}/a2a/v1", "protocolBinding": "HTTP+JSON", "protocolVersion": "1.0"},
        ],
        "provider": {"organization": "Kitchen Ltd", "url": "https://kitchen.example"},
        "capabilities": {"streaming": True},
        "defaultInputModes": ["text/plain"],
        "defaultOutputModes": ["text/plain"],
        "skills": [
            {
                "id": "recipes",
                "name": "Find recipes",
                "description": "Finds recipes for what is in the fridge.",
                "tags": ["cooking", "food"],
                "examples": ["What can I make of eggs?"],
            }
        ],
        "signatures": [{"protected": "e30", "signature": "bm8"}],
    }
    return {key: each for key, each in (card | changes).items() if each is not None}


@pytest.fixture
def world() -> Iterator[World]:
    before = dict(known_agents.agents), dict(known_agents._defined)
    with serving() as world:
        yield world
    for table, old in zip((known_agents.agents, known_agents._defined), before, strict=True):
        table.clear()
        table.update(old)  # type: ignore[arg-type]


def serve(world: World, card: Any, reply: Any = None, status: int = 200) -> None:
    def answer(asked: Asked) -> Answered:
        if asked.target.startswith(WELL_KNOWN) or asked.target.endswith("agent.json"):
            return Answered(status, card)
        return Answered(200, reply)

    world.answer = answer


@workflow
async def remote_cook(ctx: Context, what: str) -> Any:
    return await ctx.call("remote_cook_agent", what)


def cooked(what: str) -> Any:
    async def main() -> Any:
        async with Engine.open(":memory:") as engine:
            return await (await engine.start(remote_cook, what)).result()

    return asyncio.run(main())


def task(state: str, text: str = "", *parts: Any) -> dict[str, Any]:
    status: dict[str, Any] = {"state": state}
    if text:
        status["message"] = {"messageId": "m", "role": "ROLE_AGENT", "parts": [{"text": text}]}
    return {"task": {"id": "t1", "contextId": "c1", "status": status, "artifacts": [{"parts": list(parts)}]}}


def test_a_card_says_who_the_agent_is(world: World) -> None:
    serve(world, card_of(world.url))
    found = read_card(world.url)
    card = found.card
    assert (found.title, card.name, card.version, card.owner) == (
        "Recipe Agent",
        "recipe_agent",
        "1.2.0",
        "Kitchen Ltd",
    )
    assert [(each.id, each.tags, each.examples) for each in card.skills] == [
        ("recipes", ("cooking", "food"), ("What can I make of eggs?",))
    ]
    assert card.output_schema == {"type": "string"}
    assert found.source == f"{world.url}{WELL_KNOWN}"
    assert found.interface is not None
    assert found.interface.url == f"{world.url}/a2a/v1"


def test_an_agent_with_an_http_interface_is_called_with_one_message(world: World) -> None:
    reply = {"message": {"messageId": "x", "role": "ROLE_AGENT", "parts": [{"text": "Omelette"}, {"text": "Quiche"}]}}
    serve(world, card_of(world.url), reply)
    registry = Registry()
    made = registry.add_card(world.url, name="remote_cook_agent", placement=("eu",), data_classes=("restricted",))
    assert isinstance(made.agent, CardAgent)
    assert made.card.placement == ("eu",)
    assert made.card.may_see("restricted")
    assert [each.key for each in registry.find(skill="recipes")] == ["remote_cook_agent@1.2.0/"]
    assert cooked("eggs") == "Omelette\nQuiche"
    asked = world.asked[-1]
    assert (asked.method, asked.target) == ("POST", "/a2a/v1/message:send")
    message = asked.json["message"]
    assert message["parts"] == [{"text": "eggs"}]
    assert message["role"] == "ROLE_USER"
    assert message["messageId"].endswith("remote_cook_agent#1")
    headers = {name.lower(): value for name, value in asked.headers.items()}
    assert headers["a2a-version"] == "1.0"
    with pytest.raises(DefinitionError, match=r"two agents 'remote_cook_agent' of version '1.2.0'"):
        registry.add_card(world.url, name="remote_cook_agent")


@pytest.mark.parametrize(
    ("reply", "result"),
    [
        (task("TASK_STATE_COMPLETED", "", {"text": "Omelette"}), "Omelette"),
        (task("TASK_STATE_COMPLETED", "", {"data": {"eggs": 3}}), {"eggs": 3}),
        (task("TASK_STATE_COMPLETED", "Done."), "Done."),
    ],
)
def test_a_task_that_is_done_gives_its_artifacts(world: World, reply: Any, result: Any) -> None:
    serve(world, card_of(world.url), reply)
    Registry().add_card(world.url, name="remote_cook_agent")
    assert cooked("eggs") == result


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (task("TASK_STATE_FAILED", "No eggs"), "its task was failed: No eggs"),
        (task("TASK_STATE_REJECTED"), "its task was rejected"),
        (task("TASK_STATE_INPUT_REQUIRED", "How many?"), "its task asks for more: How many?"),
        (task("TASK_STATE_WORKING"), "it answered before its task t1 was done"),
        ({"hello": 1}, "answered with neither a message nor a task"),
        ([], "answered with neither a message nor a task"),
    ],
)
def test_a_task_that_is_not_done_is_a_failure_that_says_why(world: World, reply: Any, said: str) -> None:
    serve(world, card_of(world.url), reply)
    Registry().add_card(world.url, name="remote_cook_agent")
    with pytest.raises(Exception, match=r"remote_cook_agent") as failed:
        cooked("eggs")
    assert said in str(failed.value)


def test_an_agent_that_speaks_something_else_is_known_and_says_so(world: World) -> None:
    interface = {"url": f"{world.url}/rpc", "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}
    serve(world, card_of(world.url, supportedInterfaces=[interface]))
    registry = Registry({})
    made = registry.add_card(world.url)
    assert made.agent is None
    assert made.problem == "it speaks JSONRPC 1.0; what can be called from here is HTTP+JSON 1.x"
    assert not registry.find(skill="recipes")
    assert registry.find(skill="recipes", here=False) == [made]


def test_a_card_of_version_0_3_is_read(world: World) -> None:
    old = card_of(
        world.url, supportedInterfaces=None, url=f"{world.url}/", preferredTransport="GRPC", protocolVersion="0.3.0"
    )
    made = Registry({}).add_card(old)
    assert made.problem.startswith("it speaks GRPC 0.3.0;")


def test_an_agent_that_asks_for_a_credential_gets_one_by_name(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    secured = card_of(
        world.url,
        securitySchemes={"key": {"httpAuthSecurityScheme": {"scheme": "Bearer"}}},
        securityRequirements=[{"schemes": {"key": {"list": []}}}],
    )
    serve(world, secured, task("TASK_STATE_COMPLETED", "Done."))
    made = Registry({}).add_card(world.url, name="remote_locked")
    assert made.problem == "it asks for http bearer: give auth=…, with the name of an environment variable"
    for auth in ("REMOTE_TOKEN", Bearer("REMOTE_TOKEN")):
        monkeypatch.setenv("REMOTE_TOKEN", "s3cret-token")
        Registry().add_card(world.url, name="remote_cook_agent", auth=auth)
        assert cooked("eggs") == "Done."
        headers = {name.lower(): value for name, value in world.asked[-1].headers.items()}
        assert headers["authorization"] == "Bearer s3cret-token"


def test_instances_of_one_remote_agent(world: World) -> None:
    serve(world, card_of(world.url), task("TASK_STATE_COMPLETED", "Done."))
    registry = Registry()
    for place in ("eu", "us"):
        registry.add_card(world.url, name="remote_many", instance=place, placement=(place,))
    mine = [each.key for each in registry.instances() if "remote_many" in each.key]
    assert mine == ["remote_many@1.2.0/eu", "remote_many@1.2.0/us"]


def test_a_card_may_be_a_file(tmp_path: Path) -> None:
    (tmp_path / "card.json").write_text(json.dumps(card_of("https://kitchen.example")))
    assert read_card(tmp_path / "card.json").card.name == "recipe_agent"
    with pytest.raises(
        CardInvalid, match=r"nope.json: no agent card can be read: no such file or directory. Give a URL"
    ):
        read_card(tmp_path / "nope.json")


@pytest.mark.parametrize(
    ("url", "card"),
    [
        ("https://a.example", "https://a.example/.well-known/agent-card.json"),
        ("https://a.example/", "https://a.example/.well-known/agent-card.json"),
        ("https://a.example/agents/cook", "https://a.example/agents/cook/.well-known/agent-card.json"),
        ("https://a.example/cards/cook.json", "https://a.example/cards/cook.json"),
    ],
)
def test_where_a_card_is(url: str, card: str) -> None:
    assert card_url(url) == card


NOTHING = [f"{each}: is missing" for each in ("name", "version", "description", "supportedInterfaces", "skills")]
BAD: list[tuple[Any, list[str]]] = [
    ([1, 2], ["a card is a JSON object, not list"]),
    ({}, NOTHING),
    ({"name": 7}, ["name: a text is needed, not 7"]),
    ({"skills": "all"}, ["skills: a list of objects is needed"]),
    ({"skills": [{"id": "a"}, {"id": "a"}]}, ["skills[1].id: 'a' is the id of another skill too"]),
    ({"skills": [{"name": "no id"}]}, ["skills[0].id: is missing"]),
    ({"skills": [{"id": "a", "tags": "x"}]}, ["skills[0].tags: a list of texts is needed, not 'x'"]),
    ({"supportedInterfaces": []}, ["supportedInterfaces: at least one is needed"]),
    (
        {"supportedInterfaces": [{"url": "/rpc", "protocolBinding": "JSONRPC"}]},
        ["supportedInterfaces[0].url: an absolute URL", "supportedInterfaces[0].protocolVersion: is missing"],
    ),
    ({"name": "厨师"}, ["has no letter that a name can have here; give name="]),
]


@pytest.mark.parametrize(("changes", "problems"), BAD)
def test_a_bad_card_is_answered_with_all_that_is_wrong(world: World, changes: Any, problems: list[str]) -> None:
    serve(world, changes if not changes or isinstance(changes, list) else card_of(world.url, **changes))
    with pytest.raises(CardInvalid) as refused:
        read_card(world.url)
    said = str(refused.value)
    assert said.startswith(f"{world.url}{WELL_KNOWN}: no agent card can be read: ")
    for each in problems:
        assert each in said


def test_what_is_no_card_at_all(world: World) -> None:
    serve(world, b"<html>Not found</html>")
    with pytest.raises(CardInvalid, match=r"it is not JSON .*; it begins with '<html>Not found</html>'"):
        read_card(world.url)
    serve(world, {}, status=404)
    with pytest.raises(CardInvalid, match=r"the server answered 404. Has the agent a card, and is the URL right"):
        read_card(world.url)
    world.answer = lambda _: Answered(302, headers={"Location": "https://elsewhere.example/card.json"})
    with pytest.raises(CardInvalid, match=r"it is at https://elsewhere.example/card.json. Redirects are not followed"):
        read_card(world.url)
    serve(world, b" " * 1_100_000)
    with pytest.raises(CardInvalid, match=r"it has more than 1,000,000 bytes"):
        read_card(world.url)
    with pytest.raises(CardInvalid, match=r"the URL has a user or password in it"):
        read_card(world.url.replace("//", "//me:secret@"))


def test_nobody_answers() -> None:
    with pytest.raises(CardInvalid, match=r"http://127.0.0.1:9/.* no answer .*Is the server up, and the URL right"):
        read_card("http://127.0.0.1:9/")
