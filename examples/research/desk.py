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


# A need with a description is matched by that, so that the words of a page have no say in who reads it.
FACTS = Need(skill="read-facts", description="Read facts about a company on a page")
CHEAP = Rung(replace(FACTS, prefer="cheap", weights={"price": 20.0}), CHEAP_USD)
MODEL = Rung(replace(FACTS, tags=("model",)), STRONG_USD)
STRONG = Rung(replace(FACTS, tags=("prose",), prefer="quality"), STRONG_USD)


class BudgetSpent(Exception):
    """There is not enough left for a call."""


class Desk:
    """What the workers of one run share. ``spent_usd`` is derived by replay, as all that workflow code computes."""

    def __init__(self, budget_usd: float, *, model: bool) -> None:
        self.cap_usd, self.spent_usd = budget_usd, 0.0
        self._ladder = (CHEAP, MODEL, STRONG) if model else (CHEAP, STRONG)

    async def read(self, ctx: Context, page: Page) -> Extract:
        """All facts on a page. Raises Unreadable, BudgetSpent."""
        wrong: list[str] = []
        for rung in self._ladder:
            await self._pay(ctx, rung.price_usd)
            try:
                extract = parsed(await ctx.call(rung.need, Reading(page.url, page.text)))
            except (OutcomeError, Malformed) as error:
                wrong = [reason(error)]
                continue
            if extract.requests > 1:  # its policy had it mend a malformed answer
                await self._pay(ctx, rung.price_usd * (extract.requests - 1))
            if not (wrong := problems(extract, page)):
                return extract
        raise Unreadable(f"no reader could read {page.url}: {'; '.join(wrong)}")

    async def _pay(self, ctx: Context, price_usd: float) -> None:
        """Take the price of a call out of the budget. Raises BudgetSpent."""
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
