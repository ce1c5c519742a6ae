"""Error workflows: a run that is started in the same transaction in which another one fails, and so exactly once."""

from __future__ import annotations

from cadenza.durable import codec
from cadenza.durable.define import WorkflowFunction, find_workflow
from cadenza.durable.events import RunFailed, RunStarted
from cadenza.durable.failed_run import FailedRun
from cadenza.durable.path import idempotency_key
from cadenza.durable.versioning import ENGINE_FLAGS
from cadenza.engine.store import RunRow
from cadenza.errors import UnknownName

PATH = "@on_failure"


def error_run(workflow: WorkflowFunction[..., object], row: RunRow, seq: int, failed: RunFailed) -> RunStarted | None:
    """The beginning of the run that handles this failure, number ``seq`` of the journal; None if nothing does.

    A run that handles a failure itself has no handler: else a broken one would start runs without end.
    """
    handler = workflow.options.on_failure
    if handler is None or row.parent_path.startswith(PATH):
        return None
    path = f"{PATH}#{seq}"
    suffix = codec.fingerprint(idempotency_key(row.run_id, row.generation, path), "the path")[:8]
    told = FailedRun(
        row.run_id, row.workflow, row.business_id, str(failed.failure), failed.failure.type, failed_at=failed.at
    )
    return RunStarted(
        at=failed.at,
        run_id=f"{row.run_id}.{suffix}",
        workflow=_name_of(handler),
        input=codec.encode(told, FailedRun, "the failed run"),
        flags=ENGINE_FLAGS,
        parent=row.run_id,
        parent_path=path,
    )


def _name_of(handler: object) -> str:
    """The full name; one that this process does not know is left for a worker that does."""
    if isinstance(handler, WorkflowFunction):
        return handler.name
    try:
        return find_workflow(str(handler)).name
    except UnknownName:
        return str(handler)
