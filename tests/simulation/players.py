"""The workflows of the simulation: they play the programs that ``programs`` writes."""

from __future__ import annotations

import asyncio
from typing import Any

from cadenza import ChildError, Context, HumanTask, StepError, workflow
from cadenza.errors import DefinitionError
from tests.simulation import deeds, stage
from tests.simulation.programs import MISTAKE, Scene

PATIENCE_S = 300.0
FAILURES = (StepError, ChildError, deeds.Declined)


class Player:
    """Plays one program. ``seen`` is state that all branches share: what was read last goes into the next effects."""

    def __init__(self, ctx: Context, tag: str) -> None:
        self.ctx, self.tag = ctx, tag
        self.seen: list[str] = []

    async def play(self, scene: Scene) -> Any:
        """The value of a scene."""
        parts = scene.get("parts", [])
        match scene["op"]:
            case "seq":
                return [await self.play(part) for part in parts]
            case "gather":
                return list(await asyncio.gather(*(self.play(part) for part in parts)))
            case "group":
                return await self._group(parts)
            case "race":
                return await self._race(parts)
            case "timeout":
                return await self._limited(scene)
            case "try":
                return await self._tried(scene["part"])
            case "shield":
                return await self.ctx.shield(self.play(scene["part"]))
            case _:
                return await self._leaf(scene, f"{self.tag}/{scene['id']}")

    # --- leaves ---------------------------------------------------------------------------------------------------

    async def _leaf(self, scene: Scene, who: str) -> Any:
        ctx = self.ctx
        match scene["op"]:
            case "doomed":
                return await ctx.step(deeds.doomed, who, scene["declared"])
            case "promise":
                value = self._see(await ctx.step(deeds.put, who, self.seen[-4:]))
                ctx.compensate(deeds.retract, who)
                return value
            case "sleep":
                began = ctx.now()
                await asyncio.sleep(scene["s"])
                self._see(f"slept:{who}")
                return (ctx.now() - began).total_seconds() >= scene["s"] - 1e-5
            case "dice":
                return self._see(f"dice:{ctx.random.randint(1, 1_000_000)}:{ctx.uuid()}")
            case "patched":
                return ctx.patched(f"change-{scene['id']}")
            case "ask":
                answer = await ctx.ask(HumanTask(title=who, kind="respond"))
                return self._see(answer.value)
            case "collect":
                return [await ctx.receive(f"mail-{scene['id']}", int) for _ in range(scene["n"])]
            case "courier":
                return await self._courier(scene, who)
            case "child":
                return await self._child(scene, who)
            case op:
                return self._see(await ctx.step(getattr(deeds, op), who, self.seen[-4:]))

    def _see(self, what: Any) -> Any:
        if isinstance(what, str):
            self.seen.append(what)
        return what

    async def _courier(self, scene: Scene, who: str) -> Any:
        child = self.ctx.start(receiver, {"tag": who, "n": scene["n"]})
        for number in range(scene["n"]):
            await child.send("parcel", number)
        return await child.result()

    async def _child(self, scene: Scene, who: str) -> Any:
        state = {"tag": who, "programs": [scene["part"]], "got": []}
        if scene["detached"]:
            return (await self.ctx.start(play, state).result())[0]
        return (await self.ctx.run(play, state))[0]

    # --- trees ----------------------------------------------------------------------------------------------------

    async def _group(self, parts: list[Scene]) -> Any:
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self.play(part)) for part in parts]
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _race(self, parts: list[Scene]) -> Any:
        tasks = [asyncio.create_task(self.play(part)) for part in parts]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            winner = next(index for index, task in enumerate(tasks) if task.done())
            return [winner, tasks[winner].result()]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _limited(self, scene: Scene) -> Any:
        try:
            async with asyncio.timeout(scene["s"]):
                return await self.play(scene["part"])
        except TimeoutError:
            return "timeout"

    async def _tried(self, part: Scene) -> Any:
        try:
            return await self.play(part)
        except FAILURES:
            return "caught"


@workflow
async def play(ctx: Context, state: dict[str, Any]) -> list[Any]:
    """One program a generation; ``got`` are the values of the generations before."""
    done = len(state["got"])
    value = await Player(ctx, state["tag"]).play(state["programs"][done])
    if state.get("mistake") == done and not stage.deployed():
        raise DefinitionError(MISTAKE)
    got = [*state["got"], value]
    if len(got) < len(state["programs"]):
        ctx.continue_as_new({**state, "got": got})
    return got


@workflow(concurrency=2, concurrency_key=lambda state: state["hall"])
async def play_in_hall(ctx: Context, state: dict[str, Any]) -> list[Any]:
    """A hall has room for two."""
    return [await Player(ctx, state["tag"]).play(state["programs"][0])]


@workflow
async def receiver(ctx: Context, state: dict[str, Any]) -> list[int]:
    """Waits for ``n`` parcels; not for ever, since whoever sends them may be cancelled."""
    got: list[int] = []
    try:
        async with asyncio.timeout(PATIENCE_S):
            for _ in range(state["n"]):
                got.append(await ctx.receive("parcel", int))
    except TimeoutError:
        pass
    return got
