"""The arbiter: what holds where the two classifiers do not simply agree, and which rule says so.

The rules are tried in the order of `RULES`; each is a function that concludes or passes. Where a model is configured
(model_arbiter.py), it takes this seat, and the rules stand by.
"""

from collections.abc import Callable
from dataclasses import dataclass

from .expressions import all_of, operands, text_of
from .metadata import Declared
from .texts import Found

READ_MOSTLY = 0.6  # from this share of recognised words on, licence files can contradict the metadata


@dataclass(frozen=True)
class Case:
    package: str
    declared: Declared
    found: Found


@dataclass(frozen=True)
class Conclusion:
    """The licence of a package. `sure` is False where a licence was seen in a text only; None is "unresolved"."""

    expression: str | None
    rule: str
    reason: str
    sure: bool = True
    done_by: str = ""

    @property
    def decider(self) -> str:
        """Who decided: a rule, or a model."""
        return self.rule if self.rule.startswith("model ") else f"rule {self.rule}"


def agreement(case: Case) -> Conclusion | None:
    """Both agents name the same single licence, and nothing else is bundled: no arbiter is needed."""
    declared, found = case.declared.expression, case.found
    if declared is None or found.own != [declared] or found.bundled or found.read_share < READ_MOSTLY:
        return None
    return Conclusion(declared, "agreement", "Both classifiers found the same licence.")


def arbitrate(case: Case) -> Conclusion:
    """Decide a case by the first rule that applies. The last rule, "unresolved", always does."""
    for rule in RULES:
        if (conclusion := rule(case)) is not None:
            return conclusion
    return Conclusion(None, "unresolved", _both_sides(case), sure=False)


def metadata_only(case: Case) -> Conclusion | None:
    """The texts are unknown; the metadata is exact."""
    if not case.declared.expression or case.found.own or case.found.bundled:
        return None
    reason = f"No licence text was recognised; the metadata ({case.declared.source}) is exact."
    return Conclusion(case.declared.expression, "metadata-only", reason)


def text_only(case: Case) -> Conclusion | None:
    """Nothing usable is declared; the texts were recognised almost completely."""
    declared = case.declared.expression or case.declared.candidates
    if declared or not case.found.own or case.found.read_share < READ_MOSTLY:
        return None
    reason = "The metadata declares no licence that can be read; the licence files were recognised."
    return Conclusion(all_of(_seen(case)), "text-only", reason)


def text_is_more_exact(case: Case) -> Conclusion | None:
    """The metadata is vague ("BSD"), and the text is one of the licences that it may mean."""
    matching = [licence for licence in case.found.own if licence in case.declared.candidates]
    if not matching:
        return None
    reason = f"{case.declared.value!r} is vague; the licence file contains {' and '.join(matching)}."
    sure = matching == _seen(case)
    return Conclusion(all_of(_seen(case)), "text-is-more-exact", reason, sure)


def same_licences(case: Case) -> Conclusion | None:
    """The texts are exactly the licences of the expression, which also says how they combine (AND, OR)."""
    expression, seen = case.declared.expression, {text_of(licence) for licence in _seen(case)}
    if not expression or seen != {text_of(licence) for licence in operands(expression)}:
        return None
    reason = "The texts are the licences that the expression names; the expression says how they combine."
    return Conclusion(expression, "same-licences", reason, sure=not case.declared.is_text)


def expression_covers_texts(case: Case) -> Conclusion | None:
    """Every text that was recognised is named by the expression, which names more than `identify` knows."""
    expression = case.declared.expression
    if not expression or not _seen(case) or _beyond(case, expression):
        return None
    reason = "The expression names every licence that was recognised, and more."
    return Conclusion(expression, "expression-covers-texts", reason)


def texts_add_licences(case: Case) -> Conclusion | None:
    """The texts hold the declared licence and others, or were read too little to contradict it: all of them apply."""
    expression = case.declared.expression
    if not expression:
        return None
    named = {text_of(licence) for licence in operands(expression)}
    contradiction = case.found.own and not named & {text_of(licence) for licence in case.found.own}
    if contradiction and case.found.read_share >= READ_MOSTLY:
        return None
    beyond = _beyond(case, expression)
    reason = f"Beyond the declared licence the documents contain {', '.join(beyond)}: all of them apply."
    return Conclusion(all_of([expression, *beyond]), "texts-add-licences", reason, sure=False)


RULES: tuple[Callable[[Case], Conclusion | None], ...] = (
    metadata_only,
    text_only,
    text_is_more_exact,
    same_licences,
    expression_covers_texts,
    texts_add_licences,
)


def _seen(case: Case) -> list[str]:
    return [*case.found.own, *case.found.bundled]


def _beyond(case: Case, expression: str) -> list[str]:
    named = {text_of(licence) for licence in operands(expression)}
    return [licence for licence in _seen(case) if text_of(licence) not in named]


def _both_sides(case: Case) -> str:
    declared = case.declared.expression or " or ".join(case.declared.candidates) or "nothing"
    found = " and ".join(_seen(case)) or "nothing that was recognised"
    return f"The metadata declares {declared}, the documents contain {found}, and no rule settles it."
