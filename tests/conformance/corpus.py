"""The corpus: every shape of workflow that the properties of the durable core are held against.

``SHAPES`` are well behaved. ``RUDE`` ones do in their clean-up what they should not; they are for eviction.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from tests.conformance.shape import Shape, equals
from tests.conformance.shapes import flow, runs, sagas, tasks, values, waiting

ORDER = values.Order(
    id=UUID(int=7),
    lines=[values.Line(name="rope", labels={"long", "red", "new", "dry"})],
    paid_at=datetime(2026, 2, 3, tzinfo=UTC),
    colour=values.Colour.BLUE,
    extra={"b": [1, 2.5, None], "a": {"nested": True}},
)


def _chained(found: Any) -> bool:
    return found == {
        "n": 96,
        "seen": [["seen", 2**i] for i in range(1, 6)],
        "receipt": "paid 96",
        "memo": 3,
        "flaky": 7,
    }


def _permutation(found: Any) -> bool:
    places = [text.strip("<>").split(":") for text in found]
    return [place for place, _ in places] == list("0123") and sorted(n for _, n in places) == [
        "0=0",
        "1=2",
        "2=4",
        "3=6",
    ]


def _raced(found: Any) -> bool:
    return found["winner"] in found["ends"] and len(found["ends"]) == 4


def _shared(found: Any) -> bool:
    return len(found["log"]) == 9 and found["last"] == f"<{','.join(found['log'])}>"


def _as_typed(found: Any) -> bool:
    return (
        found["untyped"].startswith("list[int 1, list[str 'two', list[str 'three'], float nan, str ")
        and found["pair"] == "tuple[int 1, str 'one']"
        and found["labels"] == "set[\"str 'more'\", \"str 'w'\", \"str 'x'\", \"str 'y'\", \"str 'z'\"]"
        and "added in the step" in found["order"]
        and found["unchanged"] == found["child"] == found["message"]
    )


NUMBERS = tuple(("number", n) for n in range(1, 6))

SHAPES = (
    Shape(flow.chain, 1, good=_chained),
    Shape(flow.fan_out, 6, good=equals([0, 2, 4, 6, 8, 10, 60])),
    Shape(flow.nested_gathers, 3, good=equals(448)),
    Shape(flow.groups, good=equals([12, 252, 492, 594])),
    Shape(flow.failing_groups, good=lambda found: found[-1].startswith("<[")),
    Shape(flow.first_wins, good=_raced),
    Shape(flow.in_order_of_arrival, good=_permutation),
    Shape(flow.shared_state, good=_shared),
    Shape(flow.locks_and_queues, good=equals({"counts": 6, "items": 6, "watched": True})),
    Shape(
        flow.failures,
        good=equals(
            [f"fail#{n} ValueError" for n in (1, 2, 3)] + ["declined no of StepError", "StepError", "Declined", "2"]
        ),
    ),
    Shape(waiting.timers, good=lambda found: set(found) in ({"a", "b", "c"}, {"a", "b", "c", "callback"})),
    Shape(waiting.deadlines),
    Shape(
        waiting.messages,
        messages=(
            *NUMBERS[:4],
            ("reading", {"sensor": "a", "value": 1.5}),
            ("reading", {"value": "wrong"}),
            ("plain", [1, 2]),
        ),
        good=lambda found: sorted(found["numbers"]) == [1, 2, 3, 4] and found["wrong"] == 2 and found["total"] == 20,
    ),
    Shape(
        waiting.mailbox,
        messages=(*(("work", n) for n in range(4)), *(("work", None) for _ in range(3))),
        good=equals([0, 2, 4, 6]),
    ),
    Shape(waiting.people, good=lambda found: found["text"] == "<True red by ann>" and found["answered"]),
    Shape(waiting.chance),
    Shape(tasks.clean_up, messages=(("stop", None),)),
    Shape(tasks.deaf),
    Shape(tasks.sets_of_tasks),
    Shape(tasks.callbacks),
    Shape(tasks.generators),
    Shape(tasks.left_behind, good=equals("ended")),
    Shape(tasks.contagion),
    Shape(runs.children, good=equals([2, [0, 2, 4, "ChildError"], "failed StepError", 4])),
    Shape(runs.nested_children, 2, good=equals(8)),
    Shape(
        runs.beside,
        good=lambda found: found["heard"] == ["one", "two"] and found["status"] == "failed",
    ),
    Shape(runs.cancelled_children),
    Shape(
        runs.continued,
        {},
        messages=NUMBERS,
        good=equals({"numbers": [1, 2, 3, 4, 5], "child": 42, "generation": 4}),
    ),
    Shape(runs.continued_in_a_group, 0, good=equals(3)),
    Shape(runs.continued_then_undone, 0, ends="failed"),
    Shape(runs.patched, 4, good=equals(["8", "8", "<new a>", "<new b>"])),
    Shape(sagas.saga, ends="failed"),
    Shape(sagas.saga_in_flight, ends="failed"),
    Shape(sagas.saga_unstructured, ends="failed"),
    Shape(sagas.saga_that_cannot, ends="failed"),
    Shape(sagas.saga_with_deadline, good=equals("ended well")),
    Shape(sagas.saga_cancelled, ends="waiting"),
    Shape(values.values, ORDER, messages=(("order", ORDER),), good=_as_typed),
)
RUDE = (
    Shape(tasks.acts_in_finally, ends="waiting"),
    Shape(tasks.swallows, ends="waiting"),
)
ALL_SHAPES = (*SHAPES, *RUDE)
BY_NAME = {shape.name: shape for shape in ALL_SHAPES}
