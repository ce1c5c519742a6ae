"""The workflow: how the agents work together. Read this first, from top to bottom.

This is ordinary Python with ordinary control flow. What makes it durable is that everything which touches the world
goes through `ctx`: agents, people, steps. Each of their answers is journaled; after a `kill -9` this code runs again
from the top, gets the journaled answers back, and goes on where the work had stopped.
"""

import asyncio
from dataclasses import dataclass, replace

from cadenza import Context, HumanTask, concurrent, map_reduce, workflow

from . import agents  # noqa: F401  (registers the agents by their names)
from .arbiter import Case, Conclusion, agreement
from .documents import Collection, Package
from .model_arbiter import arbitrate_by_model
from .outcome import Outcome, Review, Summary
from .policy import Policy, PolicyCheck
from .report import write_reports

PACKAGES_AT_A_TIME = 10
OPTIONS = ("allow", "forbid")


@dataclass(frozen=True)
class Request:
    site: str  # the folder that holds the distributions
    policy: Policy
    out: str  # the folder for the reports
    pause_s: float = 0.0  # waits so long in each package, to have time for a kill -9
    model: str = ""  # arbitrates; empty: the rules do


@workflow
async def licence_review(ctx: Context, request: Request) -> Summary:
    collection: Collection = await ctx.call("collector", request.site)

    async def review_one(ctx: Context, package: Package) -> Outcome:
        return await review_package(ctx, package, request)

    outcomes = await map_reduce(ctx, collection.packages, review_one, limit=PACKAGES_AT_A_TIME)
    outcomes = await asyncio.gather(*(settle(ctx, outcome) for outcome in outcomes))
    review = Review(
        ctx.run_id,
        request.site,
        request.policy,
        request.out,
        ctx.now().isoformat(timespec="seconds"),
        outcomes,
        request.model,
    )
    return await ctx.step(write_reports, review)


async def review_package(ctx: Context, package: Package, request: Request) -> Outcome:
    declared, found = await concurrent(ctx, ["metadata_classifier", "text_classifier"], package)
    if request.pause_s:
        await asyncio.sleep(request.pause_s)  # a durable timer
    case = Case(package.name, declared, found)
    conclusion = agreement(case) or await settle_disagreement(ctx, case, request.model)
    decision = await ctx.call("policy_check", PolicyCheck(package.name, conclusion, request.policy))
    return Outcome(package, declared, found, conclusion, decision)


async def settle_disagreement(ctx: Context, case: Case, model: str) -> Conclusion:
    """The arbiter's seat: a model where one is configured, the rules otherwise."""
    return await (arbitrate_by_model(ctx, case, model) if model else ctx.call("arbiter", case))


async def settle(ctx: Context, outcome: Outcome) -> Outcome:
    """Ask a person where the policy wants one. All questions are open at once; the run waits without memory."""
    if outcome.decision.verdict != "needs_review":
        return outcome
    return replace(outcome, answer=await ctx.ask(question(outcome)))


def question(outcome: Outcome) -> HumanTask:
    package, conclusion = outcome.package, outcome.conclusion
    return HumanTask(
        title=f"May {package.name} {package.version} be used? ({conclusion.expression or 'licence unresolved'})",
        kind="choose",
        options=OPTIONS,
        details={
            "package": package.name,
            "version": package.version,
            "licence": conclusion.expression or "unresolved",
            "declared": outcome.declared.value or "nothing",
            "found in texts": ", ".join([*outcome.found.own, *outcome.found.bundled]) or "nothing that was recognised",
            "arbiter": f"{conclusion.decider}: {conclusion.reason}",
            "policy": outcome.decision.reason,
        },
    )
