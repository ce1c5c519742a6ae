"""What is passed between the agents: plain data."""

from dataclasses import dataclass, field
from typing import Literal, get_args

Field = Literal["founded", "headquarters", "employees", "revenue"]
FIELDS: tuple[Field, ...] = get_args(Field)


@dataclass(frozen=True)
class Company:
    slug: str
    name: str


@dataclass(frozen=True)
class Where:
    """A page: ``/register/alder-freight``."""

    source: Literal["register", "profile", "filing"]
    slug: str

    @property
    def url(self) -> str:
        return f"/{self.source}/{self.slug}"


@dataclass(frozen=True)
class Fetched:
    where: Where
    html: str


@dataclass(frozen=True)
class Page:
    """What a person would read on a page, line by line, without the lines that speak to machines (`cut`)."""

    url: str
    sha256: str  # of the page as it was fetched
    text: str
    cut: int = 0


@dataclass(frozen=True)
class Reading:
    """What a reader is given. ``problem`` is what was wrong with its last answer."""

    url: str
    text: str
    problem: str = ""


@dataclass(frozen=True)
class Claim:
    """A value, and the words of the page that say so."""

    field: Field
    value: str
    quote: str


@dataclass(frozen=True)
class Extract:
    """What a reader found on a page. ``requests`` is how often it was asked, as it says itself."""

    claims: list[Claim]
    requests: int = 1


@dataclass(frozen=True)
class Source:
    url: str
    sha256: str
    quote: str


@dataclass(frozen=True)
class Fact:
    """What the sources say of a field: one value, or several, each with those who say so. Several are a conflict."""

    field: str
    values: dict[str, list[Source]]

    @property
    def conflict(self) -> bool:
        return len(self.values) > 1


@dataclass(frozen=True)
class Finding:
    """All that is known of a company; or the reason why nothing is."""

    company: Company
    facts: dict[str, Fact] = field(default_factory=dict[str, Fact])
    gap: str = ""
    flagged: list[str] = field(default_factory=list[str])  # pages with lines that speak to machines
    repaired: list[str] = field(default_factory=list[str])  # pages whose first reading was malformed

    @property
    def revenue(self) -> int:
        """The lowest that a source states: what is in doubt does not lift a company."""
        return min(int(value) for value in self.facts["revenue"].values)


@dataclass(frozen=True)
class Evidence:
    company: Company
    pages: list[Page]
    extracts: list[Extract]


@dataclass(frozen=True)
class Shortlist:
    """What the analyst is shown. ``problem`` is what was wrong with the last answer."""

    companies: list[str]  # best first
    problem: str = ""

    def problem_of(self, names: list[str]) -> str:
        """What is wrong with an answer; empty if nothing is."""
        if unknown := [name for name in names if name not in self.companies]:
            return f"not among them: {', '.join(unknown)}"
        return "each of them once" if len(set(names)) < len(names) else ""


@dataclass(frozen=True)
class Filing:
    company: Company
    page: Page


@dataclass(frozen=True)
class Year:
    year: int
    revenue: int
    source: Source


@dataclass(frozen=True)
class DeepDive:
    """What a company's filing says; or a gap, with its reason."""

    company: Company
    years: list[Year] = field(default_factory=list[Year])
    gap: str = ""

    @property
    def growth(self) -> float | None:
        """Of the revenue, from the first year to the last."""
        return self.years[-1].revenue / self.years[0].revenue - 1 if self.years else None
