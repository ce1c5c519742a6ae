"""``cadenza explain``: tables for people and machines, other weights, and what it says where there is nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cadenza import Need, UnknownName, UsageError
from cadenza.routing.choice import Choice, Row, Score
from cadenza.routing.explain import lines_of, parse_weights, rescored, verdict

DESK = """
from cadenza import Context, Need, Skill, agent, workflow

SKILLS = (Skill("translate", "Translate a letter"),)


@agent(skills=SKILLS, price_usd=0.001, latency_s=4.0, placement=("us",))
async def quick(text: str) -> str:
    return f"[quick] {text}"


@agent(skills=SKILLS, price_usd=0.004, latency_s=6.0, placement=("eu",))
async def careful(text: str) -> str:
    return f"[careful] {text}"


@agent(skills=SKILLS, price_usd=0.02, latency_s=2.0, placement=("eu",))
async def fast(text: str) -> str:
    return f"[fast] {text}"


@workflow
async def letter(ctx: Context, text: str) -> str:
    return await ctx.call(Need(skill="translate", placement=("eu",), prefer="cheap"), text)


@workflow
async def two(ctx: Context, text: str) -> str:
    await ctx.call(Need(skill="translate"), text)
    return await ctx.call(Need(skill="translate", prefer="fast"), text)


@workflow
async def plain(ctx: Context, text: str) -> str:
    return await ctx.call("quick", text)
"""


def cadenza(folder: Path, *arguments: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "cadenza", *arguments], cwd=folder, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def ran(folder: Path, name: str) -> str:
    (folder / "explained_desk.py").write_text(DESK, encoding="utf-8")
    code, _, said = cadenza(folder, "run", f"explained_desk.py:{name}", '"Dear Ann"')
    assert code == 0, said
    _, listed, _ = cadenza(folder, "runs", "--json")
    rows: Any = json.loads(listed)
    return str((rows["runs"] if isinstance(rows, dict) else rows)[0]["run_id"])


def test_one_choice_is_shown_with_its_winner_its_scores_and_who_was_refused(tmp_path: Path) -> None:
    run_id = ran(tmp_path, "letter")
    code, text, _ = cadenza(tmp_path, "explain", run_id)
    assert code == 0
    assert "▸ careful@1/" in text
    assert "placement: it has us, eu is needed\n      quick@1/" in text
    assert "then b1/careful#1 completed" in text
    assert all(len(line) <= 80 for line in text.splitlines())
    _, text, _ = cadenza(tmp_path, "explain", run_id, "b1/careful#1", "--prefer", "fast")
    assert "The winner would be fast@1/, in place of careful@1/." in text
    _, text, _ = cadenza(tmp_path, "explain", run_id, "--what-if", "latency=0", "--json")
    (found,) = json.loads(text)
    assert found["winner"] == "careful@1/"
    assert found["what_if"]["changes"] is False
    assert {row["key"]: row["refused"] for row in found["rows"]}["quick@1/"] == "placement: it has us, eu is needed"
    code, text, said = cadenza(tmp_path, "explain", run_id, "--what-if", "beauty=2")
    assert (code, text) == (2, "")
    assert "no score of this choice is named 'beauty'. Known: latency, load" in said


def test_several_choices_are_listed_first(tmp_path: Path) -> None:
    run_id = ran(tmp_path, "two")
    _, text, said = cadenza(tmp_path, "explain", run_id)
    assert [line.split()[0] for line in text.splitlines()] == ["b1/choose#1", "b2/choose#1"]
    assert "cadenza explain RUN STEP" in said
    code, _, said = cadenza(tmp_path, "explain", run_id, "b7/choose#1")
    assert code == 2
    assert "no choice is named 'b7/choose#1'" in said


def test_a_run_without_choices_says_so(tmp_path: Path) -> None:
    code, _, said = cadenza(tmp_path, "explain", ran(tmp_path, "plain"))
    assert code == 2
    assert "has chosen no agent" in said


def table() -> Choice:
    rows = (
        Row("a@1/", "", {"price": Score(0.9, {"price_usd": 0.1}), "semantic": Score(0.2)}, 0.55),
        Row("b@1/", "", {"price": Score(None), "semantic": Score(0.5)}, 0.5),
        Row("c@1/", "health: it is down"),
    )
    weights = {"price": 1.0, "semantic": 1.0}
    return Choice(Need(), rows, "a@1/", "scored/1", weights, {"price": "1", "semantic": "1"})


def test_other_weights_change_the_mean_of_those_that_have_something_to_say() -> None:
    after = rescored(table(), {"semantic": 9.0})
    assert after.winner == "b@1/"
    assert [row.total for row in after.rows[:2]] == [0.5, 0.27]
    assert verdict(table(), after) == "The winner would be b@1/, in place of a@1/."
    assert rescored(table(), {}).rows == table().rows


def test_weights_that_make_no_sense_are_refused() -> None:
    assert parse_weights(" price=2, semantic=0 ") == {"price": 2.0, "semantic": 0.0}
    for text in ("price", "price=cheap", "price=-1", "price=inf"):
        with pytest.raises(UsageError):
            parse_weights(text)
    with pytest.raises(UnknownName, match="price"):
        rescored(table(), {"prize": 1.0})


def test_long_tables_say_what_they_leave_out() -> None:
    rows = tuple(Row(f"agent{n}@1/", "", {"price": Score(0.5)}, 0.5) for n in range(30))
    refused = tuple(Row(f"other{n}@1/", "fit: it has no skill 'x'") for n in range(30))
    made = Choice(Need(), (*rows, *refused), "agent0@1/", "scored/1", {"price": 1.0}, {"price": "1"}, left_out=9)
    text = "\n".join(lines_of(made))
    assert "… and 20 candidates more" in text
    assert "other0@1/, other1@1/, other2@1/ and 27 more" in text
    assert "… and 9 more, which the table does not keep" in text
