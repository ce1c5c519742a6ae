"""The agents whose conversations were recorded, built again, and how their runs are told to die.

How the conversations were chosen, from 1,421 exchanges in 13 providers' recordings: those recordings in which each
request is the one before it, its answer, and the results of the tools which that answer called; at least two requests,
or tools called at the same time; tools that a few lines can be again; no pictures or tools of the providers' own. Of
these, per provider, the longest and the one with the most parallel calls:

    openai      weather     3 requests, 2 tools one after the other (the first says what was meant)
    openai      files       2 requests, 2 parallel tools, one of which a person must approve
    anthropic   family      2 requests, 4 parallel tools
    anthropic   capital     3 requests, 2 tools, the second with what the first has said
    google      jokes       5 requests, 3 parallel tools and 3 others, an answer of a type; no tool-call ids of its own
    groq        paris       2 requests, 1 tool that runs in a thread

and two whose answers came as streams of events:

    openai      streamed    2 requests, 1 tool
    google      signed      2 requests, 1 tool, whose call the model has signed
"""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cadenza import Agent, Context, step, tool, workflow
from cadenza.engine import failpoint


@dataclass
class Plan:
    """What a worker's process does to itself.

    Attributes:
        notes: the file in which tools note each call, outside of the journal.
        alone: of the tools that are called at the same time, only this call ends; as soon as it is committed, the
            process is killed. The others begin, and are under way then. Empty: all end, and nothing happens.
    """

    notes: Path = Path()
    alone: str = ""


plan = Plan()


@dataclass(frozen=True)
class Conversation:
    """A recorded one.

    Attributes:
        recording: its name in the data.
        requests: how many.
        tools: calls, in the model's order.
        parallel: those of them which the model asked for at once.
    """

    agent: str
    recording: str
    prompt: str
    output: Any
    requests: int
    tools: tuple[str, ...]
    parallel: tuple[str, ...] = ()


# --- tools ------------------------------------------------------------------------------------------------------------


def note(what: str, call: str) -> None:
    """Add a line to the notes; whole, also if this process is killed."""
    file = os.open(plan.notes, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, json.dumps([what, call, step.key()]).encode() + b"\n")
    finally:
        os.close(file)


def noted(path: Path) -> list[tuple[str, str, str]]:
    """What tools have noted: (begun or ended, call, idempotency key)."""
    return [tuple(json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []


def ended(call: str) -> None:
    note("ended", call)
    if plan.alone == call:
        failpoint.arm("after_commit:1")


async def done(call: str, *, together: bool = False) -> None:
    """The work of a tool. ``together`` says that it was called with others at once."""
    note("begun", call)
    if together and plan.alone not in ("", call):
        await asyncio.Event().wait()  # until this process is killed
    ended(call)


@tool
async def get_weather_in_city(city: str) -> str:
    await done(city)
    return "sunny" if city == "Mexico City" else "Did you mean Mexico City?\n\nFix the errors and try again."


@tool
async def create_file(path: str) -> str:
    await done(path, together=True)
    return "Success"


@tool(needs_approval=True)
async def delete_file(path: str) -> bool:
    await done(path)
    return True


FAMILY = {
    "Alice": "alice is bob's wife",
    "Bob": "bob is alice's husband",
    "Charlie": "charlie is alice's son",
    "Daisy": "daisy is bob's daughter and charlie's younger sister",
}


@tool
async def retrieve_entity_info(name: str) -> str:
    """Get the knowledge about the given entity."""
    await done(name, together=True)
    return FAMILY[name]


@tool
async def country_source() -> str:
    await done("source")
    return "Japan"


@tool
async def capital_lookup(country: str) -> str:
    await done(country)
    return {"Japan": "Tokyo"}[country]


@tool
async def generate_topic() -> str:
    """"""
    keys = list(dict.fromkeys(key for what, _, key in noted(plan.notes) if what == "begun"))
    number = keys.index(step.key()) if step.key() in keys else len(keys)  # the same key has the same topic again
    await done(f"topic {number + 1}", together=number < 3)
    return ("cars", "penguins")[number % 2]


@tool
def get_weather(city: str) -> str:
    """Get the current weather for a city."""
    note("begun", city)
    ended(city)
    return f"Sunny, 22C in {city}"


@tool
async def get_capital(country: str) -> str:
    await done(country)
    return {"UK": "London"}[country]


@tool
async def get_country() -> str:
    await done("country")
    return "Mexico"


# --- agents -----------------------------------------------------------------------------------------------------------

ASKED_AS_RECORDED = {"max_tokens": 4096}

Agent("weather", model="openai-chat:gpt-4o", tools=[get_weather_in_city])
Agent(
    "files",
    model="openai-chat:gpt-4o",
    instructions="Just call tools without asking for confirmation.",
    tools=[create_file, delete_file],
)
Agent(
    "family",
    model="anthropic:claude-haiku-4-5",
    instructions="""
    Use the `retrieve_entity_info` tool to get information about a specific person.
    If you need to use `retrieve_entity_info` to get information about multiple people, try
    to call them in parallel as much as possible.
    Think step by step and then provide a single most probable concise answer.
    """,
    tools=[retrieve_entity_info],
    settings=ASKED_AS_RECORDED,
)
Agent(
    "capital",
    model="anthropic:claude-sonnet-4-5",
    instructions="Always call `country_source` first, then call `capital_lookup` with that result before replying.",
    tools=[country_source, capital_lookup],
    settings=ASKED_AS_RECORDED,
)
Agent(
    "jokes",
    model="google:gemini-3-flash-preview",
    instructions="Tell three jokes. Generate topics with the generate_topic tool.",
    tools=[generate_topic],
    output=list[str],
)
Agent("paris", model="groq:meta-llama/llama-4-scout-17b-16e-instruct", tools=[get_weather])
Agent("streamed", model="openai-chat:gpt-4o-mini", tools=[get_capital], stream=True)
Agent("signed", model="google:gemini-3-pro-preview", tools=[get_country], stream=True)


@dataclass(frozen=True)
class Prompt:
    """What an agent is told."""

    agent: str
    text: str


@workflow
async def converse(ctx: Context, prompt: Prompt) -> Any:
    return await ctx.call(prompt.agent, prompt.text)


CONVERSATIONS = (
    Conversation(
        "weather",
        "test_temporal/test_temporal_agent_with_model_retry.yaml",
        "What is the weather in CDMX?",
        "The weather in Mexico City is currently sunny.",
        3,
        ("CDMX", "Mexico City"),
    ),
    Conversation(
        "files",
        "test_temporal/test_temporal_agent_with_hitl_tool.yaml",
        "Delete the file `.env` and create `test.txt`",
        "The file `.env` has been deleted and `test.txt` has been created successfully.",
        2,
        (".env", "test.txt"),
    ),
    Conversation(
        "family",
        "test_anthropic/test_multiple_parallel_tool_calls.yaml",
        "Alice, Bob, Charlie and Daisy are a family. Who is the youngest?",
        "Based on the retrieved information, we can see the family relationships:\n"
        "- Alice and Bob are married\n- Charlie is their son\n"
        "- Daisy is their daughter and Charlie's younger sister\n\n"
        "Therefore, Daisy is the youngest in the family. She is described as Charlie's younger sister, which indicates "
        "she is the youngest among the four family members.",
        2,
        tuple(FAMILY),
        parallel=tuple(FAMILY),
    ),
    Conversation(
        "capital",
        "test_anthropic/test_anthropic_mixed_strict_tool_run.yaml",
        "Use the registered tools and respond exactly as `Capital: <city>`.",
        "Capital: Tokyo",
        3,
        ("source", "Japan"),
    ),
    Conversation(
        "jokes",
        "test_google/test_google_instructions_only_with_tool_calls.yaml",
        "",
        [
            "What kind of car does a sheep drive? A Lamborghini!",
            "Why don't you see penguins in Great Britain? Because they're afraid of Wales!",
            "What happened when the wheel was invented? It caused a revolution!",
        ],
        5,
        tuple(f"topic {number}" for number in range(1, 7)),
        parallel=("topic 1", "topic 2", "topic 3"),
    ),
    Conversation(
        "paris",
        "test_tool_choice_matrix/test_tool_choice_matrix[auto-groq].yaml",
        "What's the weather in Paris?",
        "The weather in Paris is sunny with a temperature of 22C.",
        2,
        ("Paris",),
    ),
    Conversation(
        "streamed",
        "test_openai/test_run_stream_sync_streams_real_model.yaml",
        "What is the capital of the UK? Use the tool, then answer.",
        "The capital of the UK is London.",
        2,
        ("UK",),
    ),
    Conversation(
        "signed",
        "test_google/test_google_streaming_tool_call_thought_signature.yaml",
        "What is the capital of the user country? Call the tool",
        "The capital of Mexico is Mexico City.",
        2,
        ("country",),
    ),
)
