"""Going on where an agent fails: other instance, other agent, cheaper mode, person; and outputs that do not pass."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from cadenza import Answer, Context, Engine, EngineOptions, HumanAgent, Retry, agent, as_agent, testing, workflow
from cadenza.agents.files import load_agents
from cadenza.cli.agents import agents_app
from cadenza.durable.events import StepCompleted
from cadenza.errors import AgentFileInvalid, DefinitionError, Exhausted, NoCandidate, OutputRejected, RunFailed
from cadenza.routing.breaker import BreakerOptions
from cadenza.routing.dead_letter import dead_letters, letter_in, redo
from cadenza.routing.degraded import Degraded, degraded
from cadenza.routing.fallback import Mode, OtherInstance, Person
from cadenza.routing.governed import Governed
from cadenza.routing.need import Need
from cadenza.routing.policy import Policy
from cadenza.routing.registry import registry
from cadenza.testing import Environment

asked: list[str] = []
down: set[str] = set()


def answer(name: str, text: str) -> str:
    asked.append(name)
    if name in down:
        raise ConnectionError(f"{name} is down")
    return f"{name}: {text}"


CHAIN = Policy(
    breaker=BreakerOptions(window=100, calls_min=100),
    fallback=("fall_second", Mode("fall_small", loses="its sources"), Person("ann")),
    dead_letter=True,
)


@agent(policy=CHAIN)
async def fall_first(text: str) -> str:
    return answer("first", text)


@agent
async def fall_second(text: str) -> str:
    return answer("second", text)


@agent
async def fall_small(text: str) -> str:
    return answer("small", text)


@agent(policy=Policy(fallback=("fall_second",), dead_letter=True))
async def fall_lonely(text: str) -> str:
    return answer("lonely", text)


@workflow
async def fall(ctx: Context, name: str) -> tuple[str, list[Degraded]]:
    said = await ctx.call(name, "hello")
    return said, list(degraded(ctx))


def lived(work: Callable[[Environment], Awaitable[None]], *broken: str) -> None:
    asked.clear()
    down.clear()
    down.update(broken)

    async def main() -> None:
        async with testing.environment() as env:
            await work(env)

    asyncio.run(main())


def test_an_agent_that_answers_has_no_further_events() -> None:
    async def work(env: Environment) -> None:
        run = await env.start(fall, "fall_first")
        assert await run.result() == ("first: hello", [])
        assert [each.path for each in env.journal(run) if isinstance(each, StepCompleted)] == ["b1/fall_first#1"]

    lived(work)


def test_each_level_is_a_choice_of_its_own_and_the_result_says_what_was_degraded() -> None:
    async def work(env: Environment) -> None:
        run = await env.start(fall, "fall_first")
        said, record = await run.result()
        assert said == "small: hello"
        assert asked == ["first", "second", "small"]
        (how,) = record
        assert (how.agent, how.served_by, how.level, how.loses) == ("fall_first", "fall_small@1/", 2, "its sources")
        assert [who for who, _ in how.tried] == ["fall_first@1/", "fall_second@1/"]
        assert "ConnectionError: first is down" in how.tried[0][1]
        paths = [each.path for each in env.journal(run) if isinstance(each, StepCompleted)]
        made = [path.rpartition("/")[2] for path in paths]
        assert made == ["choose#1", "observe#1", "choose#2", "fall_small#1", "observe#2", "degraded#1"]

    lived(work, "first", "second")


def test_a_person_is_the_last_level() -> None:
    async def work(env: Environment) -> None:
        run = await env.start(fall, "fall_first")
        task = await env.asked(run)
        assert (task.title, task.assignee) == ("fall_first has failed. What is the answer?", "ann")
        await env.restart()
        await env.answer(run, Answer(value="by hand"))
        said, (how,) = await run.result()
        assert said == "by hand"
        assert how.level == 3
        assert asked == ["first", "second", "small"]

    lived(work, "first", "second", "small")


def test_what_nobody_could_do_is_kept_and_can_be_done_again() -> None:
    async def work(env: Environment) -> None:
        run = await env.start(fall, "fall_lonely")
        with pytest.raises(RunFailed) as caught:
            await run.result()
        (letter,) = dead_letters(env.engine.catalogue)
        assert (letter.agent, letter.run_id, letter.tried) == ("fall_lonely", run.run_id, 2)
        assert f"It is kept: cadenza agents dead-letters redo {letter.id}" in str(caught.value)
        assert "fall_second@1/  StepError: fall_second failed" in str(caught.value)
        assert letter_in(env.engine, letter).input == "hello"
        down.clear()
        again = await redo(env.engine, letter.id[:4])
        assert await env.handle(again.run_id).result() == "lonely: hello"
        assert dead_letters(env.engine.catalogue) == []

    lived(work, "lonely", "second")


def test_another_instance_is_asked_with_its_own_breaker_and_no_instance_twice() -> None:
    async def made(text: str) -> str:
        return answer("north", text)

    async def other(text: str) -> str:
        return answer("south", text)

    policy = Policy(breaker=BreakerOptions(window=1, calls_min=1), fallback=(OtherInstance(),))
    north = agent(name="fall_twin", policy=policy)(made)
    south = agent(name="fall_twin_south", policy=policy)(other)
    registry.add(north, instance="north")
    registry.add(south, instance="south", name="fall_twin")

    async def work(env: Environment) -> None:
        @workflow
        async def fall_twins(ctx: Context, times: int) -> list[str]:
            return [await ctx.call(Need(agent="fall_twin"), "hi") for _ in range(times)]

        seen = await env.run(fall_twins, 6)
        assert set(seen) == {"south: hi"}
        assert asked.count("north") <= 2  # it is two instances, and the breaker of each has opened

    lived(work, "north")


def test_a_fallback_keeps_the_constraints_of_the_call() -> None:
    @agent(name="fall_local", placement=("eu",), policy=Policy(fallback=("fall_abroad", "fall_near")))
    async def local(text: str) -> str:
        return answer("local", text)

    @agent(name="fall_abroad", placement=("us",))
    async def abroad(text: str) -> str:
        return answer("abroad", text)

    @agent(name="fall_near", placement=("eu",))
    async def near(text: str) -> str:
        return answer("near", text)

    async def work(env: Environment) -> None:
        @workflow
        async def fall_placed(ctx: Context) -> tuple[str, tuple[Degraded, ...]]:
            return await ctx.call(Need(agent="fall_local", placement=("eu",)), "x"), degraded(ctx)

        said, (how,) = await env.run(fall_placed)
        assert said == "near: x"
        assert asked == ["local", "near"]
        assert NoCandidate.__name__ in how.tried[1][1]

    lived(work, "local")


def test_all_attempts_together_have_a_time_limit() -> None:
    policy = Policy(
        total_timeout_s=10, retry=Retry(attempts=99, delay_s=3, factor=1, jitter=0), fallback=("fall_second",)
    )

    @agent(name="fall_slow", policy=policy)
    async def slow(text: str) -> str:
        await asyncio.sleep(1)
        raise ConnectionError("again")

    async def work(env: Environment) -> None:
        said, (how,) = await env.run(fall, "fall_slow")
        assert said == "second: hello"
        assert how.tried[0][1] == "TimeoutError: fall_slow has not answered within 10 s in all"

    lived(work)


def test_chains_that_name_each_other_end() -> None:
    @agent(name="fall_ping", policy=Policy(fallback=("fall_pong",)))
    async def ping(text: str) -> str:
        return answer("ping", text)

    @agent(name="fall_pong", policy=Policy(fallback=("fall_ping",)))
    async def pong(text: str) -> str:
        return answer("pong", text)

    async def work(env: Environment) -> None:
        with pytest.raises(RunFailed, match="nobody could do it in place of fall_ping"):
            await env.run(fall, "fall_ping")
        assert asked == ["ping", "pong"]

    lived(work, "ping", "pong")


# --- validation -------------------------------------------------------------------------------------------------------


def short(output: str) -> list[str]:
    return [] if len(output) < 20 else [f"{len(output)} characters are too many"]


def test_an_output_that_does_not_pass_is_mended_in_rounds() -> None:
    given: list[str] = []

    @agent(name="fall_wordy", policy=Policy(validate=short, repair_rounds=2))
    async def wordy(text: str) -> str:
        given.append(text)
        return "short enough" if "too many" in text else "x" * 30

    async def work(env: Environment) -> None:
        assert await env.run(fall, "fall_wordy") == ("short enough", [])
        assert len(given) == 2
        assert given[1].endswith("It is not good enough:\n- 30 characters are too many\n\nMend it.")

    lived(work)


def test_a_validator_that_never_passes_ends_clearly() -> None:
    @agent(name="fall_judge")
    async def judge(asked_of: dict[str, Any]) -> list[str]:
        return [f"{asked_of['output']} is not good"]

    @agent(name="fall_judged", policy=Policy(validate=("fall_judge",), repair_rounds=2))
    async def judged(text: str) -> str:
        return answer("judged", "a thing")

    async def work(env: Environment) -> None:
        @workflow
        async def fall_rejected(ctx: Context) -> str:
            try:
                return await ctx.call("fall_judged", "x")
            except OutputRejected as error:
                return str(error)

        said = await env.run(fall_rejected)
        assert said == (
            "the output of fall_judged, which was asked 3 times, is not good enough: judged: a thing is not good"
        )
        assert asked == ["judged"] * 3

    lived(work)


def test_a_schema_is_checked_and_the_fallback_s_output_too() -> None:
    schema = {"type": "object", "required": ["price"], "properties": {"price": {"type": "number"}}}

    @agent(name="fall_priced", policy=Policy(validate=schema, fallback=("fall_dear", "fall_cheap")))
    async def priced(text: str) -> dict[str, Any]:
        return {"cost": 1}

    @agent(name="fall_dear")
    async def dear(text: str) -> dict[str, Any]:
        return {"price": "much"}

    @agent(name="fall_cheap")
    async def cheap(text: str) -> dict[str, Any]:
        return {"price": 2}

    async def work(env: Environment) -> None:
        @workflow
        async def fall_prices(ctx: Context) -> tuple[dict[str, Any], list[str]]:
            value = await ctx.call("fall_priced", "x")
            return value, [why for how in degraded(ctx) for _, why in how.tried]

        value, why = await env.run(fall_prices)
        assert value == {"price": 2}
        assert ["price" in each for each in why] == [True, True]

    lived(work)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: Policy(attempt_timeout_s=9, total_timeout_s=3), "must not be over total_timeout_s"),
        (lambda: Policy(repair_rounds=1), "need validate"),
        (lambda: Policy(fallback=("fall_second",)).on("fall_second"), "its fallback is itself"),
        (lambda: Policy(fallback=(3,)).on("fall_second"), "is no level of a fallback"),  # type: ignore[arg-type]
        (lambda: agent(name="fall_typed", policy=Policy(validate=short, repair_rounds=1))(_typed), "give repair="),
    ],
)
def test_what_makes_no_sense_is_refused(made: Callable[[], Any], said: str) -> None:
    with pytest.raises(DefinitionError, match=said):
        made()


def _typed(number: int) -> str:
    return str(number)


def test_an_exhausted_chain_says_who_was_tried() -> None:
    error = Exhausted("writer", [("writer@1/", "ConnectionError: down"), ("a person", "TimeoutError")], "ab12")
    assert str(error).splitlines() == [
        "nobody could do it in place of writer:",
        "  writer@1/  ConnectionError: down",
        "  a person   TimeoutError",
        "It is kept: cadenza agents dead-letters redo ab12",
    ]


def test_a_policy_on_a_person_may_fall_back_too() -> None:
    policy = Policy(total_timeout_s=3600, fallback=("fall_second",))
    HumanAgent("fall_boss", output=str)

    async def work(env: Environment) -> None:
        @workflow
        async def fall_from_person(ctx: Context) -> str:
            return await ctx.call(policy.on("fall_boss"), "x")

        assert await env.run(fall_from_person) == "second: x"

    lived(work)


def test_dead_letters_survive_the_process(tmp_path: Path) -> None:
    asked.clear()
    down.update(("lonely", "second"))

    async def main() -> None:
        async with Engine.open(tmp_path / "letters.db", EngineOptions(verify_replay=True)) as engine:
            run = await engine.start(fall, "fall_lonely")
            with pytest.raises(RunFailed):
                await run.result()
        async with Engine.open(tmp_path / "letters.db") as engine:
            (letter,) = dead_letters(engine.catalogue)
            assert letter.run_id == run.run_id

    asyncio.run(main())
    down.clear()


def test_the_command_line_lists_dead_letters_and_breakers_and_has_a_call_done_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    down.update(("lonely", "second"))
    store = tmp_path / "letters.db"

    async def fail() -> str:
        async with Engine.open(store) as engine:
            for _ in range(5):
                broken = await engine.start(fall, "fall_breaking")
                with pytest.raises(RunFailed):
                    await broken.result()
            run = await engine.start(fall, "fall_lonely")
            with pytest.raises(RunFailed):
                await run.result()
            return dead_letters(engine.catalogue)[0].id

    id = asyncio.run(fail())
    app = typer.main.get_command(agents_app)
    app(["dead-letters", "list", "--store", str(store)], standalone_mode=False)
    said = capsys.readouterr().out
    assert id in said
    assert "fall_second@1/  StepError: fall_second failed" in said
    with pytest.raises(SystemExit):
        app(["health", "fall_breaking", "--store", str(store)], standalone_mode=True)
    assert "5 of its last 5 calls have failed" in capsys.readouterr().out
    app(["dead-letters", "redo", id, "--store", str(store)], standalone_mode=False)
    down.clear()

    async def finish() -> Any:
        async with Engine.open(store, EngineOptions(adopt_all=True)) as engine:
            (letter,) = dead_letters(engine.catalogue, all=True)
            return await engine.handle(letter.redone_by).result()

    assert asyncio.run(finish()) == "lonely: hello"


@agent(policy=Policy(breaker=BreakerOptions()))
async def fall_breaking(text: str) -> str:
    raise ConnectionError(text)


def test_a_person_and_a_workflow_have_policies_of_their_own() -> None:
    HumanAgent("fall_editor", output=str, policy=Policy(total_timeout_s=3600, fallback=("fall_second",)))

    @workflow
    async def fall_report(ctx: Context, text: str) -> str:
        raise ValueError(text)

    as_agent(fall_report, policy=Policy(fallback=("fall_small",)))

    async def work(env: Environment) -> None:
        assert (await env.run(fall, "fall_editor"))[0] == "second: hello"
        said, (how,) = await env.run(fall, "fall_report")
        assert said == "small: hello"
        assert "ChildError" in how.tried[0][1]

    lived(work)


def test_an_agent_that_is_written_down_names_its_policy(tmp_path: Path) -> None:
    policy = f"{CHAIN_OF_FILE.__class__.__module__}:no_such_policy"
    text = f"model: test\npolicy: {policy}\n"
    (tmp_path / "fall_written.yaml").write_text(text)
    with pytest.raises(AgentFileInvalid, match=r"fall_written.yaml:2: .*has no 'no_such_policy'"):
        load_agents(tmp_path)
    (tmp_path / "fall_written.yaml").write_text(f"model: test\npolicy: {__name__}:CHAIN_OF_FILE\n")
    (made,) = load_agents(tmp_path)
    assert isinstance(made.survivor, Governed)
    assert made.survivor.policy is CHAIN_OF_FILE


CHAIN_OF_FILE = Policy(concurrency=3)


def test_a_chain_comes_to_the_same_end_wherever_the_process_dies() -> None:
    down.clear()
    down.update(("first", "second"))
    report = testing.crash_everywhere(fall, "fall_first")
    assert "every end the same" in str(report)
