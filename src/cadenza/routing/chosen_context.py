"""What a chosen agent is called with: a Context whose steps count as load of its instance, and look once more, when
they begin, whether the agent may be given the data. Only a real attempt looks: a replay depends on no card."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

from cadenza.agents.turn import Turn
from cadenza.agents.usage import Usage, total
from cadenza.durable.context import Context
from cadenza.durable.define import StepFunction, WorkflowFunction, step
from cadenza.durable.human import Answer, HumanTask
from cadenza.errors import Misplaced
from cadenza.routing.balance import outstanding
from cadenza.routing.candidates import misplaced
from cadenza.routing.instances import instance_of
from cadenza.routing.need import Need
from cadenza.routing.table import need_fields, need_of


def check_placed(need: Need, key: str) -> None:
    """Raise Misplaced if the instance, as it is now, must not be given such data."""
    if (need.placement or need.data_class) and (reason := misplaced(need, instance_of(key).card)):
        raise Misplaced(key, reason)


@step(name="admit", effect="read", raises=(Misplaced,))
async def admit(key: str, constraints: dict[str, Any]) -> None:
    """Look whether an instance may be given such data; before work that is no step of its own."""
    check_placed(need_of(constraints), key)


class ChosenContext(Context):
    """See the module. It is the Context of the run otherwise.

    Attributes:
        key: of the instance that was chosen, for ``need``.
        failed: whether it has failed, and somebody else has answered in its place.
        price_usd: what its model requests have cost; None if it made none, or the price of one is unknown.
    """

    def __init__(self, ctx: Context, need: Need, key: str) -> None:
        super().__init__(ctx._machine)
        self.pins = ctx.pins
        self.need = Need(placement=need.placement, data_class=need.data_class)
        self.key, self.failed = key, False
        self._usages: list[Usage] = []

    @property
    def price_usd(self) -> float | None:
        return total(self._usages).price_usd if self._usages else None

    def step(self, fn: Any, /, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        """See ``Context.step``. Raises Misplaced at the await."""
        if not isinstance(fn, StepFunction):
            return super().step(fn, *args, **kwargs)
        outcome = asyncio.ensure_future(
            super().step(self._watched(cast("StepFunction[..., Any]", fn)), *args, **kwargs)
        )
        outcome.add_done_callback(self._pay)
        return outcome

    def _pay(self, outcome: asyncio.Future[Any]) -> None:
        if not outcome.cancelled() and outcome.exception() is None and isinstance(turn := outcome.result(), Turn):
            self._usages += turn.usage

    def ask(self, task: HumanTask) -> Awaitable[Answer]:
        """See ``Context.ask``. Raises Misplaced at the await."""
        return self._admitted(lambda: Context.ask(self, task))

    def run(self, workflow: WorkflowFunction[..., Any] | str, input: Any = None) -> Awaitable[Any]:
        """See ``Context.run``. Raises Misplaced at the await."""
        return self._admitted(lambda: Context.run(self, workflow, input))

    def _admitted(self, work: Callable[[], Awaitable[Any]]) -> Awaitable[Any]:
        if self.need == Need():
            return work()

        async def after() -> Any:
            await Context.step(self, admit, self.key, need_fields(self.need))
            return await work()

        return asyncio.ensure_future(after())

    def _watched(self, fn: StepFunction[..., Any]) -> StepFunction[..., Any]:
        need, key, inside = self.need, self.key, fn.around

        async def around(attempt: Callable[[], Awaitable[Any]]) -> Any:
            check_placed(need, key)
            with outstanding.calling(key):
                return await (attempt() if inside is None else inside(attempt))

        return fn.options(raises=(*fn.settings.raises, Misplaced)).within(around)
