"""How a page is read: by the cheapest reader that can, and within the budget.

No reader is named. Each rung of the ladder says what it needs of a reader; who that is, is chosen and journaled.
"""

from dataclasses import dataclass, replace

from cadenza import Context, Need, step
from cadenza.errors import OutcomeError

from .agents import CHEAP_USD, STRONG_USD
from .facts import Extract, Page, Reading
from .reading import Malformed, Unreadable, parsed, problems, reason

WARN_AT = 0.80  # of the budget


@dataclass(frozen=True)
class Rung:
    """A reader that is asked where those before it could not read a page."""

    need: Need
    price_usd: float


CHEAP = Rung(Need(skill="read-facts", prefer="cheap"), CHEAP_USD)
MODEL = Rung(Need(skill="read-facts", tags=("model",)), STRONG_USD)
STRONG = Rung(Need(skill="read-facts", tags=("prose",), prefer="quality"), STRONG_USD)


class BudgetSpent(Exception):
    """There is not enough left for a call."""


class Desk:
    """What the workers of one run share. ``spent_usd`` is derived by replay, as all that workflow code computes."""

    def __init__(self, budget_usd: float, *, model: bool) -> None:
        self.cap_usd, self.spent_usd = budget_usd, 0.0
        self._ladder = (CHEAP, MODEL, STRONG) if model else (CHEAP, STRONG)

    async def read(self, ctx: Context, page: Page) -> Extract:
        """All facts on a page. Raises Unreadable, Malformed, BudgetSpent."""
        wrong: list[str] = []
        for rung in self._ladder:
            try:
                extract = await self._ask(ctx, rung, page)
            except OutcomeError as error:
                wrong = [reason(error)]
                continue
            if not (wrong := problems(extract, page)):
                return extract
        raise Unreadable(f"no reader could read {page.url}: {'; '.join(wrong)}")

    async def _ask(self, ctx: Context, rung: Rung, page: Page) -> Extract:
        """One reader's answer. If it is malformed, the reader is told so and asked once more."""
        reading = Reading(page.url, page.text)
        await self._pay(ctx, rung.price_usd)
        try:
            return parsed(await ctx.call(rung.need, reading))
        except Malformed as malformed:
            await self._pay(ctx, rung.price_usd)
            extract = parsed(await ctx.call(rung.need, replace(reading, problem=str(malformed))))
            return replace(extract, repaired=True)

    async def _pay(self, ctx: Context, price_usd: float) -> None:
        """Reserve the price of a call."""
        before, self.spent_usd = self.spent_usd, self.spent_usd + price_usd
        if self.spent_usd > self.cap_usd:
            self.spent_usd = before
            raise BudgetSpent(f"the budget of ${self.cap_usd:.2f} is used up")
        if before < WARN_AT * self.cap_usd <= self.spent_usd:
            await ctx.step(budget_warning, self.spent_usd, self.cap_usd)


@step
def budget_warning(spent_usd: float, cap_usd: float) -> str:
    """Said once, when it happens; the journal keeps it."""
    return f"${spent_usd:.3f} of ${cap_usd:.2f} are spent: over {WARN_AT:.0%} of the budget"
