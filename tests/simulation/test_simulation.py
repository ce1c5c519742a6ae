"""The first seeds of ``make sim`` as a test, and the two properties that make a simulator worth having: a seed replays
exactly, and a planted bug is found."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from cadenza.engine.execution import Execution
from cadenza.engine.memory import MemoryStore
from cadenza.engine.runner import Runner
from tests.simulation.simulate import simulate

SEEDS_A_TEST = 25
ALWAYS_SEEN = ("kill", "stop", "drain", "taken over", "write failed", "effect repeated with its key", "undone")
DIGESTS = "from tests.simulation.simulate import simulate\nfor seed in range(8):\n    print(simulate(seed).digest)"


@pytest.mark.parametrize("first", range(0, 6 * SEEDS_A_TEST, SEEDS_A_TEST))
def test_whatever_fails_nothing_is_lost_and_nothing_happens_twice(first: int) -> None:
    counts: Counter[str] = Counter()
    for seed in range(first, first + SEEDS_A_TEST):
        report = simulate(seed)
        assert not report.problems, f"make sim SEED={seed}\n" + "\n".join([*report.problems, *report.causes])
        counts += report.counts
    missing = [name for name in ALWAYS_SEEN if not counts[name]]
    assert not missing, f"the seeds from {first} on have seen no {', '.join(missing)}"


def test_a_seed_replays_exactly_in_another_process_with_another_hash_seed() -> None:
    first, second = digests("1"), digests("4242")
    assert len(set(first)) == len(first) > 1
    assert first == second


def digests(hash_seed: str) -> list[str]:
    """The digests of a few seeds' traces, from a fresh process."""
    found = subprocess.run(
        [sys.executable, "-c", DIGESTS],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    return found.stdout.split()


@pytest.mark.parametrize(
    "bug", ["no fence", "no read barrier", "no look at ownership", "a second try", "no second look"]
)
def test_a_planted_bug_is_found(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    PLANT[bug](monkeypatch)
    problems = next((found for seed in range(150) if (found := simulate(seed, "memory").problems)), ())
    assert problems, f"150 seeds do not see: {bug}"


def no_fence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes may write: the store believes the epoch and the head that it is told."""
    append = MemoryStore._append

    def unfenced(self: Any, operation: Any) -> None:
        row, journal = self._rows[operation.no], self._journals[operation.no]
        self._rows[operation.no] = type(row)(
            **{**as_dict(row), "epoch": operation.epoch, "owner": row.owner or "anybody"}
        )
        del journal[operation.head :]
        append(self, operation)

    monkeypatch.setattr(MemoryStore, "_append", unfenced)


def no_barrier(monkeypatch: pytest.MonkeyPatch) -> None:
    """Effects start at once, whatever is on disk."""
    monkeypatch.setattr(Runner, "gate", lambda self, path, start, after=0: start())


def no_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Effects start without a look at who owns the run."""
    monkeypatch.setattr(Runner, "still_owner", lambda self, *, strict: True)


def second_try(monkeypatch: pytest.MonkeyPatch) -> None:
    """What may have happened is done again, without finding out."""

    def again(self: Any, reason: str) -> Any:
        self._args = self.step.coerce(self.command.args, self.command.kwargs)
        return self._run()

    monkeypatch.setattr(Execution, "_find_out", again)


def no_second_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run parks without a look at its inbox."""
    change = MemoryStore._change

    def blind(self: Any, no: int, what: Any, now: int) -> None:
        letters, self._inboxes[no] = self._inboxes[no], []
        change(self, no, what, now)
        self._inboxes[no] = letters

    monkeypatch.setattr(MemoryStore, "_change", blind)


def as_dict(row: Any) -> dict[str, Any]:
    return {name: getattr(row, name) for name in row.__struct_fields__}


PLANT = {
    "no fence": no_fence,
    "no read barrier": no_barrier,
    "no look at ownership": no_look,
    "a second try": second_try,
    "no second look": no_second_look,
}
