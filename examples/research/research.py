"""The workflow. Read this first, from top to bottom.

Ordinary Python with ordinary control flow. Everything that touches the world goes through `ctx`, and each answer is
journaled: after a `kill -9` this code runs again from the top, gets the answers back, and goes on where it was.
"""

import asyncio
import re
from dataclasses import dataclass, replace

from cadenza import Context, Need, NoCandidate, StepError, map_reduce, step, workflow
from cadenza.errors import OutcomeError

from .agents import CHEAP_USD, STRONG_USD
from .facts import Company, DeepDive, Evidence, Extract, Fetched, Filing, Finding, Page, Reading, Shortlist, Where
from .reading import Malformed, Unreadable, parsed, problems, ranked
from .report import Research, Summary, write_reports

AT_A_TIME = 10
TOLERATED = 0.10  # the share of companies that may remain gaps
WARN_AT = 0.80  # of the budget


@dataclass(frozen=True)
class Request:
    out: str  # the folder for the reports
    budget_usd: float
    pause_s: float = 0.0  # waits so long in each company, to have time for a kill -9
    model: str = ""  # reads what is no table; empty: rules do


@dataclass(frozen=True)
class Rung:
    """A reader that is asked where those before it could not read a page."""

    need: Need
    price_usd: float


CHEAP = Rung(Need(skill="read-facts", prefer="cheap"), CHEAP_USD)
MODEL = Rung(Need(skill="read-facts", tags=("model",)), STRONG_USD)
STRONG = Rung(Need(skill="read-facts", tags=("prose",), prefer="quality"), STRONG_USD)


class TooManyGaps(Exception):
    """More companies could not be researched than is tolerated."""


class BudgetSpent(Exception):
    """There is not enough left for a call."""


@workflow
async def research(ctx: Context, request: Request) -> Summary:
    companies: list[Company] = await ctx.call("company_list", None)
    desk = Desk(request)

    async def one(ctx: Context, company: Company) -> Finding:
        return await desk.look_into(ctx, company)

    findings: list[Finding] = await map_reduce(ctx, companies, one, limit=AT_A_TIME)
    gaps = [finding for finding in findings if finding.gap]
    if len(gaps) > TOLERATED * len(findings):
        names = ", ".join(finding.company.name for finding in gaps)
        raise TooManyGaps(f"{len(gaps)} of {len(findings)} companies could not be researched: {names}")
    result = Research(
        request.out, ranked([each for each in findings if not each.gap]), gaps, desk.spent_usd, desk.cap_usd
    )
    await ctx.step(write_reports, result)
    picks = await picked(ctx, [finding.company for finding in result.done])
    dives = await map_reduce(ctx, picks, dive, limit=AT_A_TIME)
    return await ctx.step(write_reports, replace(result, dives=dives))


class Desk:
    """What the companies of one run share: the budget. Workflow code is deterministic, so this is derived by replay."""

    def __init__(self, request: Request) -> None:
        self.request, self.cap_usd, self.spent_usd = request, request.budget_usd, 0.0
        self.ladder = (CHEAP, MODEL, STRONG) if request.model else (CHEAP, STRONG)

    async def look_into(self, ctx: Context, company: Company) -> Finding:
        """All that the two sources say of a company; or a gap, with its reason."""
        try:
            pages = await map_reduce(ctx, [Where("register", company.slug), Where("profile", company.slug)], fetched)
            if self.request.pause_s:
                await asyncio.sleep(self.request.pause_s)  # a durable timer
            repaired: list[str] = []
            extracts = [await self.read(ctx, page, repaired) for page in pages]
            return await ctx.call("verifier", Evidence(company, pages, extracts, repaired))
        except (OutcomeError, NoCandidate, Malformed, Unreadable, BudgetSpent) as error:
            return await ctx.step(note_gap, company, reason(error))

    async def read(self, ctx: Context, page: Page, repaired: list[str]) -> Extract:
        """The facts on a page. The cheap reader first; one that costs ten times as much where it did not find them."""
        wrong: list[str] = []
        for rung in self.ladder:
            try:
                extract = await self.ask(ctx, rung, page, repaired)
            except OutcomeError as error:
                wrong = [reason(error)]
                continue
            if not (wrong := problems(extract, page)):
                return extract
        raise Unreadable(f"no reader could read {page.url}: {'; '.join(wrong)}")

    async def ask(self, ctx: Context, rung: Rung, page: Page, repaired: list[str]) -> Extract:
        """One reader's answer. If it is malformed, the reader is told so and asked once more."""
        reading = Reading(page.url, page.text)
        await self.pay(ctx, rung.price_usd)
        try:
            return parsed(await ctx.call(rung.need, reading))
        except Malformed as malformed:
            await self.pay(ctx, rung.price_usd)
            extract = parsed(await ctx.call(rung.need, replace(reading, problem=str(malformed))))
            repaired.append(page.url)
            return extract

    async def pay(self, ctx: Context, price_usd: float) -> None:
        """Reserve the price of a call. Raises BudgetSpent."""
        before, self.spent_usd = self.spent_usd, self.spent_usd + price_usd
        if self.spent_usd > self.cap_usd:
            self.spent_usd = before
            raise BudgetSpent(f"the budget of ${self.cap_usd:.2f} is used up")
        if before < WARN_AT * self.cap_usd <= self.spent_usd:
            await ctx.step(budget_warning, self.spent_usd, self.cap_usd)


async def fetched(ctx: Context, where: Where) -> Page:
    """A page as a person would read it. What speaks to machines is cut out before any reader sees the page."""
    try:
        html = await ctx.call("page_fetcher", where)
    except OutcomeError as error:
        raise Unreadable(f"{where.url} {reason(error)}") from None
    return await ctx.call("screener", Fetched(where, html))


async def picked(ctx: Context, companies: list[Company]) -> list[Company]:
    """Those that the analyst wants to know more about. The run waits for the answer without memory."""
    by_name = {company.name: company for company in companies}
    shortlist = Shortlist(list(by_name))
    while True:
        names: list[str] = await ctx.call("analyst", shortlist)
        unknown = [name for name in names if name not in by_name]
        if not unknown and len(set(names)) == len(names):
            return [by_name[name] for name in names]
        problem = f"not among them: {', '.join(unknown)}" if unknown else "each of them once"
        shortlist = replace(shortlist, problem=problem)


async def dive(ctx: Context, company: Company) -> DeepDive:
    return await ctx.call("filing_reader", Filing(company, await fetched(ctx, Where("filing", company.slug))))


@step
def note_gap(company: Company, why: str) -> Finding:
    """A company of which nothing is known, and why."""
    step.heartbeat(company.name)  # for those who watch
    return Finding(company, gap=why)


@step
def budget_warning(spent_usd: float, cap_usd: float) -> str:
    """Said once, when it happens; the journal keeps it."""
    return f"${spent_usd:.3f} of ${cap_usd:.2f} are spent: over {WARN_AT:.0%} of the budget"


def reason(error: Exception) -> str:
    """In one line: what the agent said, not where in the run."""
    said = error.failure.message if isinstance(error, StepError) else str(error)
    return re.sub(r"^\w+: [A-Z]+ \S+ ", "", " ".join(said.split()))  # not the agent and its URL template
