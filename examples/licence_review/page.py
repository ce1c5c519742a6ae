"""The report as one self-contained HTML page. Everything that comes from a package is escaped."""

from html import escape
from pathlib import Path
from string import Template

from .outcome import Outcome, Review
from .texts import Finding

TEMPLATE = Path(__file__).with_name("report.html")


def render_page(review: Review, replayed: str) -> str:
    outcomes = review.attention_first()
    attention = [outcome for outcome in outcomes if outcome.answer is not None or not outcome.allowed]
    rest = [outcome for outcome in outcomes if outcome.answer is None and outcome.allowed]
    forbidden = sum(not outcome.allowed for outcome in outcomes)
    asked = sum(outcome.answer is not None for outcome in outcomes)
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=escape(Path(review.site).name),
        site=escape(review.site),
        packages=len(outcomes),
        documents=sum(len(outcome.package.documents) for outcome in outcomes),
        allowed=len(outcomes) - forbidden,
        forbidden=forbidden,
        forbidden_class="bad" if forbidden else "",
        asked=asked,
        asked_class="ask" if asked else "",
        replayed=escape(f"{replayed} {review.arbiters()}"),
        attention=_attention(attention),
        licences="".join(f"<span>{escape(name)} <b>{n}</b></span>" for name, n in review.licences().most_common()),
        rest_title="All other packages" if attention else "Packages",
        rest="\n".join(_package(outcome) for outcome in rest),
        finished_at=escape(review.finished_at),
        run_id=escape(review.run_id),
        policy_file=escape(review.policy.file),
        policy_sha256=review.policy.sha256,
    )


def _attention(outcomes: list[Outcome]) -> str:
    if not outcomes:
        return ""
    packages = "\n".join(_package(outcome) for outcome in outcomes)
    return f'<h2>Forbidden, or needed review</h2>\n<div class="list">\n{packages}\n</div>'


def _package(outcome: Outcome) -> str:
    package = outcome.package
    opened, colour, verdict = ("", "good", "allowed") if outcome.allowed else (" open", "bad", "forbidden")
    return f"""<details class="package"{opened}><summary>
<span class="name">{escape(package.name)} <small>{escape(package.version)}</small></span>
<span class="licence">{escape(outcome.conclusion.expression or "unresolved")}</span>
<span class="badge {colour}">{verdict}</span>
<span class="by{" ask" if outcome.answer else ""}">{escape(outcome.decided_by)}</span></summary>
<div class="evidence">{_trail(outcome)}{_documents(outcome)}</div></details>"""


def _trail(outcome: Outcome) -> str:
    """Who said what, in the order in which it was said."""
    declared, found, conclusion, decision = outcome.declared, outcome.found, outcome.conclusion, outcome.decision
    said = declared.expression or " or ".join(declared.candidates) or "unknown"
    seen = ", ".join([*found.own, *(f"{licence} (bundled)" for licence in found.bundled)]) or "unknown"
    value = f"{declared.source}: “{declared.value}”" if declared.value else declared.source
    unread = f"; {_count(outcome.unread, 'document')} not recognised" if outcome.unread else ""
    weighed = " ".join([decision.reason, *(f"{each}." for each in decision.weighed if len(decision.weighed) > 1)])
    rows = [
        ("metadata classifier", said, "; ".join(filter(None, [value, declared.note])), ""),
        ("text classifier", seen, f"{found.read_share:.0%} of its own licence files recognised{unread}", ""),
        (
            "both agree" if conclusion.rule == "agreement" else "arbiter",
            conclusion.expression or "unresolved",
            f"{conclusion.decider}: {conclusion.reason}",
            "",
        ),
        ("policy check", decision.verdict.replace("_", " "), weighed, ""),
    ]
    if outcome.package.problem:
        rows.insert(0, ("collector", "cannot be read", outcome.package.problem, ""))
    if outcome.answer:
        comment = outcome.answer.comment or "no comment"
        rows.append(("review", outcome.answer.choice, f"{outcome.decided_by}; {comment}", ' class="asked"'))
    cells = (
        f'<dt>{name}</dt><dd{style}><p><b>{escape(answer)}</b></p><p class="soft">{escape(why)}</p></dd>'
        for name, answer, why, style in rows
    )
    return f'<dl class="trail">{"".join(cells)}</dl>'


def _documents(outcome: Outcome) -> str:
    findings: dict[str, list[Finding]] = {}
    for finding in outcome.found.findings:
        findings.setdefault(finding.path, []).append(finding)
    rows = "".join(
        f'<tr><td class="mono">{escape(document.path)}<br><span class="quote">sha256 {document.sha256}</span></td>'
        f"<td>{document.kind}</td>"
        f"<td>{'<br>'.join(map(_finding, findings.get(document.path, []))) or '-'}</td>"
        f'<td class="number">{document.size_bytes:,}</td></tr>'
        for document in outcome.package.documents
    )
    head = "<tr><th>Document</th><th>Kind</th><th>Found</th><th>Bytes</th></tr>"
    title = _count(len(outcome.package.documents), "document")
    return f'<details><summary>{title}</summary><div class="scroll"><table>{head}{rows}</table></div></details>'


def _finding(finding: Finding) -> str:
    label = f"<b>{escape(finding.licence)}</b>, {finding.how}" if finding.licence else escape(finding.how)
    return f'{label}<br><span class="quote">“{escape(finding.excerpt)}”</span>' if finding.excerpt else label


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
