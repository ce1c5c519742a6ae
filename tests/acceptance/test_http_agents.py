"""HTTP agents against a real server: endpoints, OpenAPI operations, retries, secrets, answers that make no sense."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from cadenza import (
    ApiKey,
    Basic,
    Bearer,
    Context,
    Engine,
    EngineOptions,
    HttpAgent,
    PeerRefused,
    Retry,
    RunFailed,
    UnknownName,
    map_reduce,
    workflow,
)
from cadenza.agents.agent import agents
from cadenza.errors import DefinitionError
from tests.acceptance.commands import until
from tests.acceptance.http_world import Answered, World, serving

PATIENCE_S = 30
SECRET = "s3cr3t/of mine&co"
SOON = Retry(attempts=4, delay_s=0.001)


class City(BaseModel):
    city: str
    days: int | None = None


class Weather(BaseModel):
    celsius: float
    sunny: bool


@workflow
async def asking(ctx: Context, given: dict[str, Any]) -> Any:
    return await ctx.call(given["agent"], given["input"])


@workflow
async def mapping(ctx: Context, given: dict[str, Any]) -> list[Any]:
    return await map_reduce(ctx, given["inputs"], given["agent"], limit=3)


@workflow
async def refusable(ctx: Context, given: dict[str, Any]) -> Any:
    try:
        return await ctx.call(given["agent"], given["input"])
    except PeerRefused as refused:
        return [refused.status, str(refused)]


@pytest.fixture
def world() -> Iterator[World]:
    with serving() as made:
        yield made


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("THE_KEY", SECRET)
    return SECRET


def play(agent: HttpAgent, input: Any = None, flow: Any = asking, store: str | Path = ":memory:", **given: Any) -> Any:
    async def main() -> Any:
        async with Engine.open(store, EngineOptions(verify_replay=True)) as engine, asyncio.timeout(PATIENCE_S):
            return await (await engine.start(flow, {"agent": agent.name, "input": input, **given})).result()

    return asyncio.run(main())


def failure(agent: HttpAgent, input: Any = None, store: str | Path = ":memory:") -> str:
    with pytest.raises(RunFailed) as failed:
        play(agent, input, store=store)
    return str(failed.value)


# --- endpoints --------------------------------------------------------------------------------------------------------


def test_an_endpoint_is_an_agent(world: World) -> None:
    world.queue(Answered(body={"celsius": 21, "sunny": True}))
    agent = HttpAgent("city_weather", url=f"{world.url}/v1/{{city}}?units=si", input=City, output=Weather)
    assert play(agent, {"city": "São Paulo/x", "days": 3}) == {"celsius": 21.0, "sunny": True}
    assert world.asked[0].target == "/v1/S%C3%A3o%20Paulo%2Fx?units=si&days=3"
    assert "idempotency-key" not in world.asked[0].headers, "what only reads needs none"
    assert agent.step.settings.effect == "read"
    assert agent.card.input_schema == City.model_json_schema()
    assert agent.card.output_schema is not None
    assert set(agent.card.output_schema["properties"]) == {"celsius", "sunny"}


def test_a_post_sends_the_rest_as_json_and_the_calls_key(world: World) -> None:
    world.queue(Answered(201, {"done": True}))
    agent = HttpAgent("poster", url=f"{world.url}/{{city}}", method="POST", effect="idempotent", input=City)
    assert play(agent, {"city": "Rome", "days": 2}) == {"done": True}
    (asked,) = world.asked
    assert (asked.method, asked.target, asked.json) == ("POST", "/Rome", {"days": 2})
    assert asked.headers["idempotency-key"].endswith(":0:poster#1")


def test_a_pattern_takes_http_agents(world: World) -> None:
    world.answer = lambda asked: Answered(body=asked.target)
    agent = HttpAgent("mapped", url=f"{world.url}/{{n}}", output=str)
    assert play(agent, flow=mapping, inputs=[1, 2, 3, 4]) == ["/1", "/2", "/3", "/4"]


def test_options_of_one_call_leave_the_agent_as_it_is(world: World) -> None:
    world.queue(Answered(503), Answered(body=1))
    agent = HttpAgent("optional", url=world.url, retry=None)
    twin = agent.options(retry=SOON)

    @workflow
    async def calling(ctx: Context, given: Any) -> Any:
        return await ctx.call(twin, None)

    assert play(agent, flow=calling) == 1
    assert agent.step.settings.retry is None
    assert twin.card == agent.card
    with pytest.raises(DefinitionError, match="effect belongs to the definition"):
        agent.options(effect="irreversible")


def test_fixed_headers_go_with_each_request(world: World) -> None:
    world.queue(Answered(body=1))
    play(HttpAgent("fixed", url=world.url, headers={"accept": "application/vnd.x+json", "X-Team": "a"}))
    assert world.asked[0].headers["accept"] == "application/vnd.x+json"
    assert world.asked[0].headers["x-team"] == "a"


@pytest.mark.parametrize(
    ("answered", "value"),
    [
        (Answered(204), None),
        (Answered(200, b"plain words", "text/plain; charset=utf-8"), "plain words"),
        (Answered(200, "na\u00efve".encode("latin-1"), "text/plain; charset=latin-1"), "na\u00efve"),
        (Answered(200, b"[1]", "application/problem+json"), [1]),
    ],
    ids=["nothing", "text", "latin-1", "json"],
)
def test_an_answer_becomes_a_value(world: World, answered: Answered, value: Any) -> None:
    world.queue(answered)
    assert play(HttpAgent("valued", url=world.url)) == value


# --- OpenAPI ----------------------------------------------------------------------------------------------------------

SHOP_30 = """
openapi: 3.0.3
info: {title: Shop, version: "1"}
servers: [{url: "URL/{stage}", variables: {stage: {default: v2}}}]
security: [{key: []}]
components:
  securitySchemes:
    key: {type: apiKey, in: header, name: X-Shop-Key}
  parameters:
    Trace: {name: X-Trace, in: header, schema: {type: string}}
  schemas:
    Item:
      type: object
      required: [id, name]
      properties:
        id: {type: integer, readOnly: true}
        name: {type: string, minLength: 1}
        note: {type: string, nullable: true}
        price: {type: number, minimum: 0, exclusiveMinimum: true}
        parts: {type: array, items: {$ref: "#/components/schemas/Item"}}
        since: {type: string, format: date, example: 2020-01-01}
        kind: {type: string, enum: [on, off]}
  responses:
    Item: {description: one, content: {application/json: {schema: {$ref: "#/components/schemas/Item"}}}}
paths:
  /items/{id}:
    parameters: [{name: id, in: path, required: true, schema: {type: integer}}]
    get:
      operationId: getItem
      summary: Reads an item.
      parameters:
        - $ref: "#/components/parameters/Trace"
        - {name: fields, in: query, explode: false, schema: {type: array, items: {type: string}}}
        - {name: tag, in: query, schema: {type: array, items: {type: string}}}
        - {name: filter, in: query, style: deepObject, schema: {type: object}}
      responses:
        200: {$ref: "#/components/responses/Item"}
        404: {description: none}
    put:
      operationId: putItem
      requestBody: {required: true, content: {application/json: {schema: {$ref: "#/components/schemas/Item"}}}}
      responses: {"204": {description: done}}
  /items:
    post:
      operationId: addItem
      requestBody: {required: true, content: {application/json: {schema: {$ref: "#/components/schemas/Item"}}}}
      responses: {"2XX": {$ref: "#/components/responses/Item"}}
  /upload:
    post:
      operationId: upload
      requestBody: {content: {image/png: {}}}
      responses: {}
"""


@pytest.fixture
def shop(world: World, tmp_path: Path) -> str:
    (tmp_path / "shop.yaml").write_text(SHOP_30.replace("URL", world.url), encoding="utf-8")
    return str(tmp_path / "shop.yaml")


def test_an_operation_maps_its_parameters(world: World, shop: str, secret: str) -> None:
    world.queue(Answered(body={"id": 7, "name": "cup", "note": None, "parts": [{"id": 8, "name": "ear"}], "new": 1}))
    agent = HttpAgent("get_item", openapi=shop, operation="getItem", auth="THE_KEY")
    given = {"id": 7, "fields": ["a", "b"], "tag": ["x", "y z"], "filter": {"min": 1}, "X-Trace": "t"}
    assert play(agent, given)["parts"] == [{"id": 8, "name": "ear"}]
    (asked,) = world.asked
    assert asked.target == "/v2/items/7?fields=a%2Cb&tag=x&tag=y%20z&filter%5Bmin%5D=1"
    assert (asked.headers["x-trace"], asked.headers["x-shop-key"]) == ("t", secret)
    assert agent.card.description == "Reads an item."


def test_the_card_of_an_operation_has_plain_json_schemas(shop: str) -> None:
    agent = HttpAgent("put_item", openapi=shop, operation="PUT /items/{id}")
    given, made = agent.card.input_schema, agent.card.output_schema
    assert given is not None
    assert given["required"] == ["id", "body"]
    item = given["$defs"]["Item"]
    assert item["required"] == ["name"], "what is read-only need not be sent"
    assert item["properties"]["note"] == {"type": ["string", "null"]}
    assert item["properties"]["price"] == {"type": "number", "exclusiveMinimum": 0}
    assert item["properties"]["parts"]["items"] == {"$ref": "#/$defs/Item"}
    assert item["properties"]["kind"]["enum"] == ["on", "off"], "they are words, not booleans"
    assert made == {"type": "null"}
    assert agent.step.settings.effect == "idempotent"


def test_the_whole_input_is_the_body_where_there_are_no_parameters(world: World, shop: str) -> None:
    world.queue(Answered(201, {"id": 1, "name": "cup"}))
    agent = HttpAgent("add_item", openapi=shop, operation="addItem", effect="idempotent")
    assert play(agent, {"name": "cup"}) == {"id": 1, "name": "cup"}
    assert world.asked[0].json == {"name": "cup"}


@pytest.mark.parametrize(
    ("given", "field"),
    [({}, "id"), ({"id": "7"}, "id"), ({"id": 7, "colour": "red"}, "colour"), ({"id": 7, "tag": "x"}, "tag")],
)
def test_input_that_does_not_fit_the_document_is_never_sent(world: World, shop: str, given: Any, field: str) -> None:
    message = failure(HttpAgent("strict_get", openapi=shop, operation="getItem"), given)
    assert "input of strict_get does not fit its type" in message
    assert f"\n  {field} " in message
    assert not world.asked


def test_a_response_that_does_not_fit_the_schema_names_field_problem_and_what_was_given(
    world: World, shop: str
) -> None:
    world.queue(Answered(body={"id": 7, "name": "cup", "parts": [{"id": "eight", "name": "ear"}]}))
    message = failure(HttpAgent("loose_get", openapi=shop, operation="getItem"), {"id": 7})
    assert "the result of loose_get does not fit its type" in message
    assert "parts.0.id  Input should be a valid integer  'eight'" in message
    assert len(world.asked) == 1, "no retry would help"


def test_a_document_of_3_1_is_read_from_a_url(world: World) -> None:
    document = {
        "openapi": "3.1.0",
        "servers": [{"url": "/api"}],
        "paths": {
            "/echo": {
                "post": {
                    "operationId": "echo",
                    "requestBody": {
                        "content": {"application/x-www-form-urlencoded": {"schema": {"$ref": "#/$defs/Text"}}}
                    },
                    "responses": {"200": {"description": "ok", "content": {"application/json": {"schema": True}}}},
                }
            }
        },
        "$defs": {"Text": {"type": "object", "properties": {"text": {"type": ["string", "null"]}}}},
    }
    world.answer = lambda asked: Answered(body=document if asked.method == "GET" else asked.body.decode())
    agent = HttpAgent("echo", openapi=f"{world.url}/docs/openapi.json", operation="echo", effect="read")
    assert play(agent, {"text": "a b&c"}) == "text=a+b%26c"
    assert world.asked[1].target == "/api/echo"


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ({"swagger": "2.0"}, "OpenAPI 3.0 or later is needed, this is Swagger 2.0"),
        ({}, "this is openapi: (nothing)"),
        ({"openapi": "3.1.0", "paths": {"/x": {"get": {"operationId": "it"}}}}, "not a whole URL. Give url=…"),
        (
            {
                "openapi": "3.1.0",
                "servers": [{"url": "http://h"}],
                "paths": {"/x": {"get": {"operationId": "it", "parameters": [{"$ref": "other.yaml#/p"}]}}},
            },
            "is in another document. Bundle them",
        ),
        (
            {
                "openapi": "3.1.0",
                "servers": [{"url": "http://h"}],
                "paths": {"/x": {"get": {"operationId": "it", "parameters": [{"in": "query"}]}}},
            },
            "GET /x is not as OpenAPI wants it: KeyError: 'name'",
        ),
        (
            {"openapi": "3.1.0", "servers": [{"url": "http://h"}], "paths": {"/{x}": {"get": {"operationId": "it"}}}},
            "{x} is in http://h/{x}, and no parameter has this name",
        ),
    ],
)
def test_a_document_that_cannot_be_used_is_refused(document: Any, problem: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        HttpAgent("unusable", openapi=document, operation="it")
    assert problem in str(refused.value)
    assert "unusable" not in agents


def test_an_unknown_operation_or_document_is_refused_with_what_there_is(shop: str, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match=r"no operation is named 'getItems'. Did you mean 'getItem'"):
        HttpAgent("unknown", openapi=shop, operation="getItems")
    with pytest.raises(DefinitionError, match="the body is image/png; JSON, form fields and text can be sent"):
        HttpAgent("unknown", openapi=shop, operation="upload", effect="idempotent")
    with pytest.raises(DefinitionError, match="cannot be read"):
        HttpAgent("unknown", openapi=str(tmp_path / "none.yaml"), operation="x")
    (tmp_path / "bad.yaml").write_text("a: [1", encoding="utf-8")
    with pytest.raises(DefinitionError, match="neither JSON nor YAML"):
        HttpAgent("unknown", openapi=str(tmp_path / "bad.yaml"), operation="x")


# --- when it fails ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_server_that_is_busy_is_asked_again_under_the_same_key(world: World, status: int) -> None:
    world.queue(Answered(status), Answered(drop=True), Answered(body="done"))
    agent = HttpAgent("again", url=world.url, method="POST", effect="idempotent", retry=SOON)
    assert play(agent, {}) == "done"
    assert len(world.asked) == 3
    assert len({each.headers["idempotency-key"] for each in world.asked}) == 1


@pytest.mark.parametrize("status", [400, 404, 408, 409, 422, 500, 501])
def test_no_other_answer_is_asked_for_again(world: World, status: int) -> None:
    world.queue(Answered(status, {"detail": "what is wrong"}))
    message = failure(HttpAgent("once", url=world.url, retry=SOON))
    assert f"once: GET {world.url} answered {status}: " in message
    assert "what is wrong" in message
    assert len(world.asked) == 1


def test_retry_after_is_honoured_and_survives_the_process(world: World, tmp_path: Path) -> None:
    world.queue(Answered(429, headers={"Retry-After": "1800"}), Answered(body="done"))
    agent = HttpAgent("patient", url=world.url, retry=SOON)

    async def main() -> None:
        async with Engine.open(tmp_path / "wait.db") as engine, asyncio.timeout(PATIENCE_S):
            handle = await engine.start(asking, {"agent": agent.name, "input": None})
            while not any(type(event).__name__ == "AttemptFailed" for event in engine.journal(handle.run_id)):
                await asyncio.sleep(0.01)
            (failed,) = [each for each in engine.journal(handle.run_id) if type(each).__name__ == "AttemptFailed"]
            assert round((failed.retry_at - failed.at) / 1_000_000) == 1800  # pyright: ignore[reportAttributeAccessIssue]
            await engine.cancel(handle.run_id)

    asyncio.run(main())
    assert len(world.asked) == 1
    world.queue(Answered(503, headers={"Retry-After": "86400"}))
    assert "asks to be left alone for 86,400 s" in failure(HttpAgent("hopeless", url=world.url, retry=SOON))
    assert len(world.asked) == 2


def test_a_server_that_is_not_there_is_named(world: World) -> None:
    agent = HttpAgent("nowhere", url="http://127.0.0.1:9/x", retry=Retry(attempts=2, delay_s=0.001))
    message = failure(agent)
    assert "nowhere failed after 2 attempts" in message
    assert "GET http://127.0.0.1:9/x: no connection" in message


def test_a_server_that_does_not_answer_in_time_is_given_up(world: World) -> None:
    never = threading.Event()
    world.queue(Answered(hold=never))
    try:
        message = failure(HttpAgent("slow", url=world.url, timeout_s=0.2, retry=None))
        assert "slow took longer than 0.2 s" in message
    finally:
        never.set()


def test_an_answer_is_bounded(world: World) -> None:
    world.queue(Answered(body="x" * 10_000))
    message = failure(HttpAgent("large", url=world.url, bytes_max=1_000, retry=SOON))
    assert "answered with over 1,000 bytes. Ask for less, or raise bytes_max." in message
    assert len(world.asked) == 1


@pytest.mark.parametrize(
    ("answered", "problem"),
    [
        (Answered(200, b'{"a": ', "application/json"), 'with application/json, which is not JSON: {"a":'),
        (Answered(200, b'"\\ud800"', "application/json"), "which is not JSON"),
        (Answered(200, b"[" * 100_000, "application/json"), "which is not JSON"),
        (Answered(200, b"\x89PNG", "image/png"), "with image/png, which is not JSON"),
        (Answered(302, headers={"Location": "https://elsewhere/"}), "it is at https://elsewhere/. Redirects are not"),
        (Answered(401, {"error": "who?"}), "Give auth=Bearer"),
    ],
    ids=["truncated", "surrogate", "deep", "image", "redirect", "unauthorised"],
)
def test_an_answer_that_makes_no_sense_has_one_clear_message(world: World, answered: Answered, problem: str) -> None:
    world.queue(answered)
    assert problem in failure(HttpAgent("senseless", url=world.url, retry=SOON))
    assert len(world.asked) == 1


def test_a_refusal_reaches_the_workflow_as_itself(world: World) -> None:
    world.queue(Answered(404, {"detail": "no such thing"}))
    agent = HttpAgent("refusing", url=world.url, method="POST", effect="irreversible")
    status, message = play(agent, {}, refusable)
    assert status == 404
    assert "no such thing" in message


def test_an_irreversible_call_that_lost_its_connection_is_in_doubt_and_never_repeated(world: World) -> None:
    world.queue(Answered(drop=True))
    agent = HttpAgent("payment", url=world.url, method="POST", effect="irreversible")

    async def main() -> None:
        async with Engine.open(":memory:") as engine, asyncio.timeout(PATIENCE_S):
            handle = await engine.start(asking, {"agent": agent.name, "input": {"cents": 5}})
            await handle.settled()
            ((_, task),) = engine.tasks(handle.run_id)
            assert "the connection was lost" in task.details["reason"]

    asyncio.run(main())
    assert len(world.asked) == 1


@pytest.mark.parametrize("value", ["..", ".", ""])
def test_a_value_cannot_lead_to_another_path(world: World, value: str) -> None:
    agent = HttpAgent("pathed", url=f"{world.url}/a/{{part}}/b")
    assert "cannot be part of a path" in failure(agent, {"part": value})
    assert "has no 'part'" in failure(agent, {})
    assert not world.asked


# --- secrets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("auth", "carried"),
    [
        (Bearer("THE_KEY"), ("authorization", f"Bearer {SECRET}")),
        (Basic("THE_KEY"), ("authorization", "Basic czNjcjN0L29mIG1pbmUmY28=")),
        (ApiKey("THE_KEY", "X-Mine"), ("x-mine", SECRET)),
        (ApiKey("THE_KEY", "key", "query"), ("", "")),
    ],
    ids=["bearer", "basic", "header", "query"],
)
def test_a_secret_travels_and_is_written_down_nowhere(
    world: World, secret: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, auth: Any, carried: tuple[str, str]
) -> None:
    """Not even by a server that repeats all that it is sent."""
    caplog.set_level(logging.DEBUG)
    world.answer = lambda asked: Answered(
        200 if asked.target.startswith("/ok") else 500, {"url": asked.target, "headers": asked.headers}
    )
    store = tmp_path / "secrets.db"
    good = HttpAgent("echoing", url=f"{world.url}/ok?page=1", auth=auth)
    bad = HttpAgent("echoing_badly", url=f"{world.url}/bad", auth=auth)
    echoed = json.dumps(play(good, store=store))
    message = failure(bad, store=store)
    if carried[0]:
        assert world.asked[0].headers[carried[0]] == carried[1]
    else:
        assert world.asked[0].target == "/ok?page=1&key=s3cr3t%2Fof+mine%26co"
    assert "[secret]" in echoed
    assert "[secret]" in message
    everything = echoed + message + caplog.text
    for file in filter(Path.is_file, tmp_path.rglob("*")):
        everything += file.read_bytes().decode("latin-1")
    assert "s3cr3t" not in everything
    assert "czNjcjN0" not in everything


def test_without_its_secret_nothing_is_sent(world: World) -> None:
    agent = HttpAgent("keyless_endpoint", url=world.url, auth=Bearer("NO_SUCH_VARIABLE"))
    assert "the environment variable NO_SUCH_VARIABLE is not set. Export NO_SUCH_VARIABLE" in failure(agent)
    assert not world.asked


def test_a_wrong_secret_says_which_variable_to_look_at(world: World, secret: str) -> None:
    world.queue(Answered(403, {"error": f"bad key {secret}"}))
    message = failure(HttpAgent("wrong_key", url=world.url, auth=Bearer("THE_KEY")))
    assert "Check what the environment variable THE_KEY holds." in message
    assert "bad key [secret]" in message


# --- definitions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({}, "needs url=…, or openapi=…"),
        ({"url": "/relative"}, "an absolute http:// or https:// URL is needed"),
        ({"url": "ftp://h/x"}, "an absolute http:// or https:// URL is needed"),
        ({"url": "http://ann:pw@h/"}, "has a user or password in it"),
        ({"url": "http://h", "method": "POST"}, "say effect='idempotent'"),
        ({"url": "http://h", "headers": {"Authorization": "Bearer x"}}, "holds a secret"),
        ({"url": "http://h", "auth": "THE_KEY"}, "nothing says how to authenticate"),
    ],
)
def test_definitions_that_make_no_sense_are_refused(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        HttpAgent("senseless_definition", **fields)
    assert problem in str(refused.value)
    assert "senseless_definition" not in agents


def test_a_secret_in_place_of_a_variables_name_is_refused_and_not_repeated() -> None:
    with pytest.raises(DefinitionError) as refused:
        Bearer("sk-live-0123456789")
    assert "sk-live" not in str(refused.value)


# --- kill -9 ----------------------------------------------------------------------------------------------------------


@pytest.mark.sigkill
def test_after_kill_9_in_the_middle_the_same_request_is_sent_with_the_same_key(world: World, tmp_path: Path) -> None:
    never = threading.Event()
    world.queue(Answered(hold=never), Answered(body=42))
    (tmp_path / "flow.py").write_text(
        textwrap.dedent(f"""
            import cadenza
            from cadenza import Context, HttpAgent, workflow

            HttpAgent("slow_post", url="{world.url}/n", method="POST", effect="idempotent", output=int)

            @workflow
            async def posting(ctx: Context, n: int) -> int:
                return await ctx.call("slow_post", {{"n": n}})

            if __name__ == "__main__":
                print(cadenza.run(posting, 21, id="p", store="kill.db"))
        """),
        encoding="utf-8",
    )
    command = [sys.executable, "-W", "error", "flow.py"]
    with subprocess.Popen(command, cwd=tmp_path) as process:
        until(lambda: bool(world.asked), "nothing was ever sent")
        process.kill()
    never.set()
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert (done.stdout, done.stderr) == ("42\n", "")
    first, second = world.asked
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
    assert first.body == second.body
