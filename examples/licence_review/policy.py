"""The policy: which licences are allowed, need a person, or are forbidden, and which line of the file says so."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import yaml

from .arbiter import Conclusion
from .expressions import AllOf, AnyOf, Expression, Licence, normalise, parse

Verdict = Literal["allowed", "needs_review", "forbidden"]
VERDICTS: tuple[Verdict, ...] = ("allowed", "needs_review", "forbidden")  # best to worst
SAYS = {"allowed": "is allowed", "needs_review": "needs review", "forbidden": "is forbidden"}


@dataclass(frozen=True)
class Rule:
    """One entry of the policy file. `line` counts from 1."""

    licence: str
    verdict: Verdict
    line: int


@dataclass(frozen=True)
class Policy:
    file: str
    sha256: str
    rules: dict[str, Rule]  # by SPDX id
    unknown: Rule


@dataclass(frozen=True)
class PolicyCheck:
    package: str
    conclusion: Conclusion
    policy: Policy


@dataclass(frozen=True)
class Decision:
    """What the policy says about a package: the verdict, the line that decided it, and why in words."""

    verdict: Verdict
    line: int
    reason: str
    weighed: list[str] = field(default_factory=list[str])  # each licence with its own line
    done_by: str = ""


class PolicyError(Exception):
    """The policy file cannot be used. Says the file, the line, the key, and what is allowed there."""

    def __init__(self, file: str, line: int, problem: str, allowed: str) -> None:
        super().__init__(file, line, problem, allowed)
        self.file, self.line, self.problem, self.allowed = file, line, problem, allowed

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.problem}\n  allowed here: {self.allowed}"


def load_policy(path: Path) -> Policy:
    """Read a policy file. Raises PolicyError where it is missing, not YAML, or says something unknown."""
    file = str(path)
    try:
        content = path.read_text(encoding="utf-8")
        document = yaml.compose(content)
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyError(
            file, 1, f"cannot be read ({getattr(error, 'strerror', None) or error})", "a YAML file"
        ) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = f"is not YAML: {getattr(error, 'problem', error)}"
        raise PolicyError(file, mark.line + 1 if mark else 1, problem, "a YAML mapping") from error
    if not isinstance(document, yaml.MappingNode):
        raise PolicyError(file, 1, "is not a mapping", f"the keys {', '.join(VERDICTS)} and unknown")
    rules: dict[str, Rule] = {}
    unknown = Rule("any other licence", "needs_review", 0)  # line 0: the default of this program
    for key, value in document.value:
        line = key.start_mark.line + 1
        if key.value == "unknown":
            unknown = Rule(unknown.licence, _verdict(file, line, value), line)
        elif key.value in VERDICTS:
            _add_rules(rules, file, key.value, value)
        else:
            raise PolicyError(file, line, f"unknown key {key.value!r}", f"{', '.join(VERDICTS)}, unknown")
    return Policy(file, hashlib.sha256(content.encode()).hexdigest(), rules, unknown)


def check_policy(check: PolicyCheck) -> Decision:
    """Weigh a conclusion. A licence seen in a text only is never a reason to forbid without a person."""
    policy, conclusion = check.policy, check.conclusion
    expression = parse(conclusion.expression or "")
    if expression is None:
        reason = f"The licence could not be resolved ({_line(policy.unknown)})."
        return Decision("needs_review", policy.unknown.line, reason)
    weighed: list[Rule] = []
    rule = _weigh(expression, policy, weighed)
    weighed = list(dict.fromkeys(weighed))
    if len(weighed) > 1 and all(each.verdict == rule.verdict for each in weighed):
        reason = f"Every licence in it {SAYS[rule.verdict]}."
    else:
        reason = f"{rule.licence} {SAYS[rule.verdict]} ({_line(rule)})."
    lines = [f"{each.licence} {SAYS[each.verdict]}, {_line(each)}" for each in weighed]
    if rule.verdict == "forbidden" and not conclusion.sure:
        return Decision("needs_review", rule.line, f"{reason} It was only seen in a text, so a person decides.", lines)
    return Decision(rule.verdict, rule.line, reason, lines)


def _weigh(expression: Expression, policy: Policy, weighed: list[Rule]) -> Rule:
    """The rule that decides an expression: the worst of an AND, the best of an OR."""
    match expression:
        case Licence(id, base):
            default = Rule(id, policy.unknown.verdict, policy.unknown.line)
            rule = policy.rules.get(id) or policy.rules.get(base) or default
            weighed.append(rule)
            return rule
        case AllOf(parts):
            return max((_weigh(part, policy, weighed) for part in parts), key=_badness)
        case AnyOf(parts):
            return min((_weigh(part, policy, weighed) for part in parts), key=_badness)


def _badness(rule: Rule) -> int:
    return VERDICTS.index(rule.verdict)


def _add_rules(rules: dict[str, Rule], file: str, verdict: Verdict, node: yaml.Node) -> None:
    line = node.start_mark.line + 1
    if isinstance(node, yaml.ScalarNode) and node.value in {"", "~", "null"}:
        return
    if not isinstance(node, yaml.SequenceNode):
        raise PolicyError(file, line, f"{verdict} is not a list", "a list of SPDX licence ids, one a line")
    for item in node.value:
        line = item.start_mark.line + 1
        licence = normalise(item.value) if isinstance(item, yaml.ScalarNode) else None
        if licence is None or not isinstance(parse(licence), Licence):
            problem = f"{verdict}: {item.value!r} is no SPDX licence id"
            raise PolicyError(file, line, problem, "one id, for example MIT; see spdx.org/licenses")
        if earlier := rules.get(licence):
            problem = f"{licence} is already {earlier.verdict} in line {earlier.line}"
            raise PolicyError(file, line, problem, "each licence once")
        rules[licence] = Rule(licence, verdict, line)


def _verdict(file: str, line: int, node: yaml.Node) -> Verdict:
    if node.value not in VERDICTS:
        raise PolicyError(file, line, f"unknown: {node.value!r} is not a verdict", ", ".join(VERDICTS))
    return node.value


def _line(rule: Rule) -> str:
    return f"line {rule.line}" if rule.line else "the built-in default"
