"""An LLM agent from the shell: it asks, a person changes the arguments, and ``show`` says what it used."""

from __future__ import annotations

from pathlib import Path

from tests.acceptance.commands import Project

FLOW = '''
from cadenza import Agent, Context, tool, workflow


@tool(effect="irreversible", needs_approval=True)
def pay(account: str, amount: int) -> str:
    """Pay."""
    return f"paid {amount} to {account}"


Agent("clerk", model="test", tools=[pay])


@workflow
async def invoice(ctx: Context, text: str) -> str:
    return await ctx.call("clerk", text)
'''


def test_a_person_changes_the_arguments_of_a_tool_and_approves(tmp_path: Path) -> None:
    cadenza = Project(tmp_path)
    (cadenza.folder / "paying.py").write_text(FLOW, encoding="utf-8")
    asked = cadenza("run", "paying.py:invoice", '"Pay Ann"')
    run_id = cadenza.run_id()
    assert (asked.code, "May clerk call pay?" in asked.err) == (3, True)
    assert "--approve --value JSON to change it" in cadenza("answer", "--list").out

    refused = cadenza("answer", run_id, "--reject", "--value", "{}")
    assert (refused.code, "go with neither" in refused.err) == (2, True)

    assert cadenza("answer", run_id, "--approve", "--value", '{"account": "ann", "amount": "much"}').code == 0
    again = cadenza("resume", run_id)
    assert (again.code, "May clerk call pay?" in again.err) == (3, True)
    assert "the arguments do not fit pay: amount" in cadenza("answer", "--list").out

    assert cadenza("answer", run_id, "--approve", "--value", '{"account": "ann", "amount": 30}').code == 0
    assert "paid 30 to ann" in cadenza("resume", run_id).out
    shown = cadenza("show", run_id).out
    assert "2 requests, " in shown
    assert "price unknown" in shown
    assert "approved, with changes by " in shown
