"""Agents of four providers, with their real clients, against what the real models have said; killed, and continued.

The providers are an HTTP server that answers recorded requests and counts them (recorded_models.py); how the
conversations were chosen, and the agents built again, is told in recorded_agents.py. A worker is a real process; it is
killed with SIGKILL in the middle of every answer that it gets, between any two tools that were called at the same time,
and (one conversation of each provider) after every commit to its database. Another process goes on, and in the end

- the output is the one that was recorded,
- no request that had been answered and noted was sent again, as the server counts,
- no tool call that had ended and was noted was made again, as the tools' own file counts.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue

import pytest

from cadenza.durable import events
from cadenza.engine.sqlite.store import SQLiteStore
from cadenza.engine.store import Filter
from tests.acceptance.failpoint_worker import Workers
from tests.acceptance.recorded_agents import CONVERSATIONS, Conversation, noted
from tests.acceptance.recorded_models import Providers, recording
from tests.acceptance.recorded_worker import Task

ENDED, KILLED = ("exited", 0), ("killed", signal.SIGKILL)
COMMITS_MAX = 60

pytestmark = pytest.mark.sigkill
every_conversation = pytest.mark.parametrize("conversation", CONVERSATIONS, ids=lambda each: each.agent)


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    recording(CONVERSATIONS[0].recording)  # skips where there is none
    with Workers.open("tests.acceptance.recorded_worker") as opened:
        yield opened


class Trial:
    """One conversation in one folder, driven by one process after another."""

    def __init__(self, workers: Workers, conversation: Conversation, folder: Path, providers: Providers) -> None:
        self.workers, self.conversation, self.folder, self.providers = workers, conversation, folder, providers
        folder.mkdir(exist_ok=True)

    def worker(self, failpoint: str = "", alone: str = "") -> int:
        """The process id of one that has set out."""
        conversation = self.conversation
        task = Task(
            str(self.folder), self.providers.port, conversation.agent, conversation.prompt, failpoint, alone=alone
        )
        return self.workers.spawn(task)

    def driven(self, failpoint: str = "", alone: str = "") -> tuple[str, int]:
        """How a process ended that has set out."""
        end = self.workers.wait(self.worker(failpoint, alone))
        assert end in (ENDED, KILLED), self.errors()
        return end

    def killed_in(self, request: int) -> None:
        """A process sets out, and is killed when it has got half of the answer to this request."""
        pid: SimpleQueue[int] = SimpleQueue()

        def kill() -> None:
            os.kill(pid.get(), signal.SIGKILL)

        self.providers.in_answer = lambda number: kill if number == request else None
        pid.put(worker := self.worker())
        assert self.workers.wait(worker) == KILLED, self.errors()
        self.providers.in_answer = lambda _: None

    def tools(self, what: str = "ended") -> Counter[str]:
        """How often each tool call has begun, or ended."""
        return Counter(call for did, call, _ in noted(self.folder / "notes") if did == what)

    def saved(self) -> list[str]:
        """The requests and tool calls whose results the journal holds."""
        store = SQLiteStore(self.folder / "cadenza.db")
        try:
            journal = [event for row in store.runs(Filter(limit=10)) for event in store.events(row.no)]
        finally:
            store.close()
        return [event.key for event in journal if isinstance(event, events.MemoSaved)]

    def times(self, saved: list[str]) -> list[int]:
        """How often each of these was asked of the providers, or begun by a tool, as those have counted."""
        asked = self.providers.times()
        begun = [key for did, _, key in noted(self.folder / "notes") if did == "begun"]
        numbers = itertools.count(1)  # requests of a conversation come one after the other
        return [
            asked[next(numbers)] if key.startswith("request/") else sum(each.endswith(key) for each in begun)
            for key in saved
        ]

    def check(self) -> None:
        """The output; that nothing strange was asked, no tool forgotten, and each call made under one key."""
        assert self.providers.strange == []
        assert json.loads((self.folder / "result.json").read_text()) == self.conversation.output, self.errors()
        assert set(self.tools()) == set(self.conversation.tools)
        keys = {(call, key) for _, call, key in noted(self.folder / "notes")}
        assert len(keys) == len(self.conversation.tools)

    def errors(self) -> str:
        path = self.folder / "errors"
        return "\n".join([*self.providers.strange, path.read_text() if path.exists() else ""])


@pytest.fixture
def trial(workers: Workers, tmp_path: Path) -> Iterator[Callable[[Conversation], Trial]]:
    """Makes a trial in a folder of its own, with providers that have been asked nothing."""
    with Providers().serving() as providers:

        def make(conversation: Conversation) -> Trial:
            providers.play(recording(conversation.recording))
            return Trial(workers, conversation, tmp_path / str(len(list(tmp_path.iterdir()))), providers)

        yield make


@every_conversation
def test_a_recorded_conversation_is_had_again(
    conversation: Conversation, trial: Callable[[Conversation], Trial]
) -> None:
    one = trial(conversation)
    assert one.driven() == ENDED
    one.check()
    assert one.providers.asked == list(range(1, conversation.requests + 1))
    assert one.tools("begun") == Counter(conversation.tools)


@every_conversation
def test_no_finished_request_is_sent_again_by_a_process_killed_in_any_answer(
    conversation: Conversation, trial: Callable[[Conversation], Trial]
) -> None:
    for request in range(1, conversation.requests + 1):
        one = trial(conversation)
        one.killed_in(request)
        assert one.driven() == ENDED
        one.check()
        once = Counter(range(1, conversation.requests + 1))
        assert one.providers.times() == once + Counter([request])
        assert one.tools("begun") == Counter(conversation.tools)


@pytest.mark.parametrize("backwards", [False, True], ids=["in order", "backwards"])
@pytest.mark.parametrize("conversation", [each for each in CONVERSATIONS if each.parallel], ids=lambda each: each.agent)
def test_no_finished_tool_runs_again_in_processes_killed_between_any_two_parallel_tools(
    conversation: Conversation, backwards: bool, trial: Callable[[Conversation], Trial]
) -> None:
    """One tool of those called at once ends, and the process is killed; then the next in another; and so on."""
    one = trial(conversation)
    for call in reversed(conversation.parallel) if backwards else conversation.parallel:
        assert one.driven(alone=call) == KILLED
    assert one.driven() == ENDED
    one.check()
    assert one.tools() == Counter(conversation.tools)
    assert one.providers.asked == list(range(1, conversation.requests + 1))


@pytest.mark.parametrize(
    "conversation",
    [each for each in CONVERSATIONS if each.agent in ("files", "family", "jokes", "paris")],
    ids=lambda each: each.agent,
)
def test_nothing_that_is_noted_is_done_again_by_processes_killed_after_any_commit(
    conversation: Conversation,
    trial: Callable[[Conversation], Trial],
    record_property: Callable[[str, object], None],
) -> None:
    """What was under way, and not noted, may be done again: a tool then has the key that it had before."""
    kills = 0
    while (one := trial(conversation)).driven(f"after_commit:{kills + 1}") == KILLED:
        kills += 1
        saved = one.saved()
        assert one.times(saved) == [1] * len(saved)
        assert one.driven() == ENDED
        one.check()
        assert one.times(saved) == [1] * len(saved)
        assert kills < COMMITS_MAX
    one.check()
    assert kills > conversation.requests + len(conversation.tools)
    row = {
        "conversation": conversation.agent,
        "requests": conversation.requests,
        "tools": len(conversation.tools),
        "kills": kills + conversation.requests + 2 * len(conversation.parallel),
    }
    record_property("table: recorded conversations, killed everywhere", row)
