"""What the agents do: plain functions that read pages, and judge what others have read. Nothing here runs anything."""

import json
import re
from dataclasses import replace
from typing import Any

from pydantic import TypeAdapter, ValidationError

from cadenza import StepError

from .facts import FIELDS, Claim, DeepDive, Evidence, Extract, Fact, Field, Filing, Finding, Page, Reading, Source, Year

PATTERNS: dict[Field, str] = {
    "founded": r"founded in (\d{4})|Founded: (\d{4})",
    "headquarters": r"headquarters are in ([\w ]+)|Headquarters: ([\w ]+)",
    "employees": r"(\d+) employees|Employees: (\d+)",
    "revenue": r"revenue of (\d+) million|Revenue: (\d+)",
}


class Malformed(ValueError):
    """A reader's answer is no extract."""


class Unreadable(Exception):
    """A page cannot be fetched, or no reader found all facts on it."""


def parsed(said: Any) -> Extract:
    """A reader's answer as an extract. Raises Malformed."""
    try:
        return TypeAdapter(Extract).validate_python(json.loads(said) if isinstance(said, str) else said)
    except ValidationError as error:
        first = error.errors()[0]
        raise Malformed(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except ValueError as error:
        raise Malformed(f"this is not JSON: {error}") from None


def well_formed(said: Any) -> None:
    """The rule for a reader's answers. Raises Malformed."""
    parsed(said)


def once_more(reading: Reading, said: Any, wrong: list[str]) -> Reading:
    """What a reader is asked after an answer that was malformed."""
    return replace(reading, problem="; ".join(wrong))


def problems(extract: Extract, page: Page) -> list[str]:
    """Why an extract does not stand: a field is missing, or a claim is not backed by the words of the page."""
    missing = [f"{name} is missing" for name in FIELDS if name not in {claim.field for claim in extract.claims}]
    for claim in extract.claims:
        if claim.quote not in page.text:
            missing.append(f"{claim.field}: its quote is not on the page")
        elif claim.value not in claim.quote:
            missing.append(f"{claim.field}: {claim.value!r} is not in its quote")
        elif claim.field != "headquarters" and not claim.value.isdecimal():
            missing.append(f"{claim.field}: {claim.value!r} is no number")
    return missing


def ranked(findings: list[Finding]) -> list[Finding]:
    """Largest revenue first; by name where it is the same, so that the order is always the same."""
    return sorted(findings, key=lambda each: (-each.revenue, each.company.name))


def read_facts(text: str) -> Extract:
    """What is said in tables and in prose."""
    claims: list[Claim] = []
    for name in FIELDS:
        if match := re.search(PATTERNS[name], text):
            claims.append(Claim(name, match[1] or match[2], match[0]))
    return Extract(claims)


def brought_together(evidence: Evidence) -> Finding:
    """What the sources say of a company: the same once, what differs beside each other."""
    facts: dict[str, Fact] = {}
    for name in FIELDS:
        values: dict[str, list[Source]] = {}
        for page, extract in zip(evidence.pages, evidence.extracts, strict=True):
            for claim in extract.claims:
                if claim.field == name:
                    values.setdefault(claim.value, []).append(Source(page.url, page.sha256, claim.quote))
        facts[name] = Fact(name, values)
    flagged = [page.url for page in evidence.pages if page.cut]
    repaired = [page.url for page, said in zip(evidence.pages, evidence.extracts, strict=True) if said.requests > 1]
    return Finding(evidence.company, facts, flagged=flagged, repaired=repaired)


def years_in(filing: Filing) -> DeepDive:
    page = filing.page
    rows = re.finditer(r"^Revenue (\d{4}): (\d+)$", page.text, re.MULTILINE)
    years = [Year(int(row[1]), int(row[2]), Source(page.url, page.sha256, row[0])) for row in rows]
    return DeepDive(filing.company, years)


def reason(error: Exception) -> str:
    """Why something failed, in one line: what the agent said, not where in the run."""
    said = error.failure.message if isinstance(error, StepError) else str(error)
    return re.sub(r"^\w+: [A-Z]+ \S+ ", "", " ".join(said.split()))  # not the agent and its URL template
