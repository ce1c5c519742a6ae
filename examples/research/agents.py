"""The cast: each agent with its card. Two of them are endpoints, one is a person, the others are plain functions.

Three readers have the skill "read-facts". The workflow never names one of them: it says what it needs.
"""

import os
from dataclasses import replace
from typing import Annotated

from pydantic import Field

from cadenza import HttpAgent, HumanAgent, Retry, Skill, agent, step
from cadenza.routing.policy import Policy

from .facts import Company, DeepDive, Evidence, Extract, Fetched, Filing, Finding, Page, Reading, Shortlist, Where
from .reading import brought_together, once_more, read_facts, well_formed, years_in
from .screening import screen

SITE = os.environ.get("RESEARCH_SITE", "http://127.0.0.1:8750")
CHEAP_USD, STRONG_USD = 0.002, 0.02  # a page
PICKS = 10

HttpAgent(
    "company_list",
    url=f"{SITE}/companies",
    output=list[Company],
    description="Lists the companies to look into.",
)

# What the web does to a crawler: it is lost, slow, or has had enough of us. A request with 429 is made again when the
# server says so; retries are at most a fifth of the calls, and never more than ten requests are under way.
patient = Policy(attempt_timeout_s=10, retry=Retry(attempts=4, delay_s=0.2), retry_budget=0.2, concurrency=10)

HttpAgent(
    "page_fetcher",
    url=f"{SITE}/{{source}}/{{slug}}",
    input=Where,
    output=str,
    description="Fetches a page about a company.",
    skills=(Skill("fetch-page", tags=("web",)),),
    policy=patient,
)

HttpAgent(
    "table_reader",
    url=f"{SITE}/read",
    method="POST",
    effect="idempotent",  # it is paid for: its answer is on disk before the run goes on
    input=Reading,
    output=str,
    description="A small model behind an endpoint. Reads tables; sloppy at times, and believes what it reads.",
    skills=(Skill("read-facts", tags=("table",)),),
    price_usd=CHEAP_USD,
    # An answer that is no extract goes back to it once, with what is wrong.
    policy=replace(patient, validate=well_formed, repair_rounds=1, repair=once_more),
)


@agent(
    description="Reads facts in tables and in prose.",
    skills=[Skill("read-facts", tags=("table", "prose"))],
    price_usd=STRONG_USD,
)
def prose_reader(reading: Reading) -> Extract:
    return read_facts(reading.text)


@agent(description="Cuts out of a page what speaks to machines instead of people.", effect="read")
def screener(fetched: Fetched) -> Page:
    return screen(fetched)


@agent(description="Brings together what the sources say of a company: the same once, what differs as a conflict.")
def verifier(evidence: Evidence) -> Finding:
    step.heartbeat(evidence.company.name)  # for those who watch
    return brought_together(evidence)


@agent(description="Reads the revenue of each year in a company's filing.")
def filing_reader(filing: Filing) -> DeepDive:
    return years_in(filing)


def question(shortlist: Shortlist) -> str:
    asked = f"Which {PICKS} of {len(shortlist.companies)} companies are worth a deep dive?"
    return f"{asked} ({shortlist.problem})" if shortlist.problem else asked


HumanAgent(
    "analyst",
    input=Shortlist,
    output=Annotated[list[str], Field(min_length=PICKS, max_length=PICKS)],
    question=question,
    description="Picks the companies that are worth a closer look.",
)
