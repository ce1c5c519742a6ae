"""The workflow. Read this first, from top to bottom.

Ordinary Python with ordinary control flow. Everything that touches the world goes through `ctx`, and each answer is
journaled: after a `kill -9` this code runs again from the top, gets the answers back, and goes on where it was.
"""

import asyncio
from dataclasses import dataclass, replace

from cadenza import Context, NoCandidate, map_reduce, step, workflow
from cadenza.errors import OutcomeError

from . import agents, model_reader  # noqa: F401  (registers the agents by their names)
from .desk import BudgetSpent, Desk
from .facts import Company, DeepDive, Evidence, Fetched, Filing, Finding, Page, Shortlist, Where
from .reading import Unreadable, ranked, reason
from .report import Research, Summary, write_reports

AT_A_TIME = 10
TOLERATED = 0.10  # the share of companies that may remain gaps


@dataclass(frozen=True)
class Request:
    out: str  # the folder for the reports
    budget_usd: float
    pause_s: float = 0.0  # waits so long in each company, to have time for a kill -9
    model: str = ""  # reads what is no table; empty: rules do


class TooManyGaps(Exception):
    """More companies could not be researched than is tolerated."""


@workflow
async def research(ctx: Context, request: Request) -> Summary:
    companies: list[Company] = await ctx.call("company_list", None)
    desk = Desk(request.budget_usd, model=bool(request.model))

    async def worker(ctx: Context, company: Company) -> Finding:
        return await look_into(ctx, company, desk, request.pause_s)

    findings: list[Finding] = await map_reduce(ctx, companies, worker, limit=AT_A_TIME)
    done, gaps = ranked([each for each in findings if not each.gap]), [each for each in findings if each.gap]
    if len(gaps) > TOLERATED * len(findings):
        names = ", ".join(each.company.name for each in gaps)
        raise TooManyGaps(f"{len(gaps)} of {len(findings)} companies could not be researched: {names}")
    result = Research(request.out, done, gaps, desk.spent_usd, desk.cap_usd)
    await ctx.step(write_reports, result)
    picks = await picked(ctx, [each.company for each in done])
    dives = await map_reduce(ctx, picks, deep_dive, limit=AT_A_TIME)
    return await ctx.step(write_reports, replace(result, dives=dives))


async def look_into(ctx: Context, company: Company, desk: Desk, pause_s: float) -> Finding:
    """All that the two sources say of a company; or a gap, with its reason."""
    sources = [Where("register", company.slug), Where("profile", company.slug)]
    try:
        pages: list[Page] = await map_reduce(ctx, sources, fetched)
        if pause_s:
            await asyncio.sleep(pause_s)  # a durable timer
        extracts = [await desk.read(ctx, page) for page in pages]
        return await ctx.call("verifier", Evidence(company, pages, extracts))
    except (OutcomeError, NoCandidate, Unreadable, BudgetSpent) as error:
        return await ctx.step(note_gap, company, reason(error))


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
        if not (problem := shortlist.problem_of(names)):
            return [by_name[name] for name in names]
        shortlist = replace(shortlist, problem=problem)


async def deep_dive(ctx: Context, company: Company) -> DeepDive:
    """The figures of a company's filing; or a gap, with its reason."""
    try:
        page = await fetched(ctx, Where("filing", company.slug))
        return await ctx.call("filing_reader", Filing(company, page))
    except (OutcomeError, Unreadable) as error:
        return DeepDive(company, gap=reason(error))


@step
def note_gap(company: Company, why: str) -> Finding:
    """A company of which nothing is known, and why."""
    step.heartbeat(company.name)  # for those who watch
    return Finding(company, gap=why)
