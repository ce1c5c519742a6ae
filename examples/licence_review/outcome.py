"""What a review produces: an outcome for each package, with all the evidence that led to it."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

from cadenza import Answer

from .arbiter import Conclusion
from .documents import Package
from .expressions import operands
from .metadata import Declared
from .policy import Decision, Policy
from .texts import Found

Origin = Literal["replayed", "continued", "new"]


@dataclass(frozen=True)
class Outcome:
    package: Package
    declared: Declared
    found: Found
    conclusion: Conclusion
    decision: Decision
    answer: Answer | None = None

    @property
    def allowed(self) -> bool:
        return self.decision.verdict == "allowed" if self.answer is None else self.answer.choice == "allow"

    @property
    def licences(self) -> list[str]:
        return sorted(operands(self.conclusion.expression or "")) or ["unresolved"]

    @property
    def decided_by(self) -> str:
        if self.answer is None:
            return f"policy, line {self.decision.line}" if self.decision.line else "policy, built-in default"
        return f"by {self.answer.by or 'a person'}"

    @property
    def unread(self) -> int:
        """How many licence documents nobody recognised."""
        return len({finding.path for finding in self.found.findings if finding.licence is None})

    def origin(self, process: str) -> Origin:
        """Where its agents' answers come from, seen from a process: all, some, or none of them from earlier ones."""
        signatures = {
            each.done_by for each in (self.declared, self.found, self.conclusion, self.decision) if each.done_by
        }
        if process not in signatures:
            return "replayed"
        return "new" if signatures == {process} else "continued"


@dataclass(frozen=True)
class Review:
    run_id: str
    site: str
    policy: Policy
    out: str
    finished_at: str  # ISO 8601, UTC
    outcomes: list[Outcome]
    model: str = ""

    def arbiters(self) -> str:
        """Who settled the disagreements, in one sentence."""
        disputed = [each.conclusion for each in self.outcomes if each.conclusion.rule != "agreement"]
        if not self.model:
            return f"The rules settled {len(disputed)} disagreements; no model was asked."
        by_model = sum(each.rule.startswith("model ") for each in disputed)
        return f"{self.model} settled {by_model} of {len(disputed)} disagreements; the rules settled the others."

    def attention_first(self) -> list[Outcome]:
        """Forbidden packages, then those that needed review, then the others; alphabetical among themselves."""
        return sorted(self.outcomes, key=lambda o: (o.allowed, o.answer is None, o.package.name.lower()))

    def licences(self) -> Counter[str]:
        """How many packages each licence concerns."""
        return Counter(licence for each in self.outcomes for licence in each.licences)

    def origins(self, process: str) -> Counter[Origin]:
        return Counter(outcome.origin(process) for outcome in self.outcomes)


@dataclass(frozen=True)
class Row:
    """One line of the summary table."""

    package: str
    licence: str
    allowed: bool
    decided_by: str


@dataclass(frozen=True)
class Summary:
    """What the workflow returns. The evidence itself is in the report files."""

    packages: int
    documents: int
    forbidden: int
    asked: int
    origins: dict[Origin, int]  # replayed, continued, new: how many packages
    replay: str  # the same as a sentence
    arbiters: str  # who settled the disagreements
    files: list[str]
    attention: list[Row] = field(default_factory=list[Row])  # forbidden, or needed a person's review
    licences: dict[str, int] = field(default_factory=dict[str, int])  # how many packages each concerns
