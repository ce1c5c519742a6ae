"""Every error of Cadenza: one tree, each with fields, each message saying what happened, where, and what to do.

    CadenzaError
    ├── UsageError                 the call is wrong; nothing was written
    │   ├── DefinitionError        a decorator's options contradict each other
    │   ├── UnknownName            no such workflow, agent, step or run
    │   ├── InputInvalid           a value does not fit its type
    │   ├── NotSerialisable        a value cannot be journaled
    │   ├── PayloadTooLarge        a value is over the bound
    │   ├── ModelUnavailable       a model's key, package or file is missing
    │   ├── AgentFileInvalid       a file that defines an agent has mistakes
    │   ├── CardInvalid            a remote agent's card cannot be read
    │   ├── UserCodeError          the user's module cannot be imported
    │   ├── DuplicateRun           the business id is taken
    │   ├── UpdateRefused          a run did not accept an update
    │   └── ImportRefused          an exported run cannot be taken in
    ├── WorkflowBug                the code is at fault: the run blocks, keeps its journal and waits for a deploy
    │   ├── Nondeterminism         journal and code disagree
    │   ├── SideEffect             real I/O, threads or clocks in workflow code
    │   ├── Stalled                workflow code did not yield
    │   └── JournalFull            the run's journal reached its bound
    ├── OutcomeError               how something that ran has ended
    │   ├── StepError              a step or agent failed
    │   ├── ChildError             a child run did not complete
    │   ├── RunFailed              a run ended in failure
    │   ├── RunCancelled           a run was cancelled
    │   ├── RunBlocked             a run waits for a deploy or an operator
    │   ├── CompensationError      a run failed and not all of it could be undone
    │   ├── OutcomeUnknown         nobody knows whether an irreversible effect happened
    │   ├── UpdateFailed           an update has no result
    │   ├── PeerError              an agent outside of this process did not do its work
    │   │   ├── PeerFailed         for good
    │   │   │   └── PeerRefused    and nothing has happened: it said no, or was never reached
    │   │   └── PeerUnavailable    for now: it may be tried again
    │   ├── NeverBegan             an agent was not asked: another one may be, without doubt
    │   │   ├── CircuitOpen        it has failed too often of late
    │   │   ├── Overloaded         too much waits for it already
    │   │   └── Misplaced          it may not see the data, by its card as it is now
    │   ├── NoCandidate            nobody is left to choose from
    │   │   └── Abstained          nobody is sure enough to be right
    │   ├── RetriesSpent           an agent failed, and its retry budget is used up
    │   ├── OutputRejected         an agent's output was checked, and never good enough
    │   └── Exhausted              every level of a fallback chain has failed
    ├── AgentError                 an agent's turn failed: its model, a tool, its output
    │   └── AgentRefused           for a reason that does not pass
    ├── StepTimeout                an attempt took too long
    ├── InboxFull                  too many messages wait for one run
    └── StoreError                 the database
        ├── Fenced                 another owner has the run
        ├── StoreUnavailable       disk full, read-only, locked: try again
        │   └── KeyMissing         encrypted with a key that is not given
        ├── NoStore                there is no store where one is to be read
        ├── StoreCorrupt           the file is damaged
        └── StoreVersion           written by a newer Cadenza, or not by Cadenza

Engine signals derive from BaseException, so that ``except Exception`` in workflow code cannot eat them:
``Evicted`` (the machine leaves memory) and ``ContinuedAsNew`` (the workflow asked for a fresh journal).
"""

from cadenza.errors.agent import AgentError, AgentRefused, PeerError, PeerFailed, PeerRefused, PeerUnavailable
from cadenza.errors.outcome import (
    ChildError,
    CompensationError,
    OutcomeError,
    OutcomeUnknown,
    RunBlocked,
    RunCancelled,
    RunFailed,
    StepError,
    StepTimeout,
    UpdateFailed,
)
from cadenza.errors.root import CadenzaError, Failure
from cadenza.errors.routing import (
    Abstained,
    CircuitOpen,
    Exhausted,
    Misplaced,
    NeverBegan,
    NoCandidate,
    OutputRejected,
    Overloaded,
    RetriesSpent,
)
from cadenza.errors.store import (
    Fenced,
    InboxFull,
    KeyMissing,
    NoStore,
    StoreCorrupt,
    StoreError,
    StoreUnavailable,
    StoreVersion,
)
from cadenza.errors.usage import (
    AgentFileInvalid,
    CardInvalid,
    DefinitionError,
    DuplicateRun,
    ImportRefused,
    InputInvalid,
    ModelUnavailable,
    NotSerialisable,
    PayloadTooLarge,
    UnknownName,
    UpdateRefused,
    UsageError,
    UserCodeError,
)
from cadenza.errors.workflow import (
    ContinuedAsNew,
    Evicted,
    JournalFull,
    Nondeterminism,
    SideEffect,
    Stalled,
    WorkflowBug,
)

__all__ = [
    "Abstained",
    "AgentError",
    "AgentFileInvalid",
    "AgentRefused",
    "CadenzaError",
    "CardInvalid",
    "ChildError",
    "CircuitOpen",
    "CompensationError",
    "ContinuedAsNew",
    "DefinitionError",
    "DuplicateRun",
    "Evicted",
    "Exhausted",
    "Failure",
    "Fenced",
    "ImportRefused",
    "InboxFull",
    "InputInvalid",
    "JournalFull",
    "KeyMissing",
    "Misplaced",
    "ModelUnavailable",
    "NeverBegan",
    "NoCandidate",
    "NoStore",
    "Nondeterminism",
    "NotSerialisable",
    "OutcomeError",
    "OutcomeUnknown",
    "OutputRejected",
    "Overloaded",
    "PayloadTooLarge",
    "PeerError",
    "PeerFailed",
    "PeerRefused",
    "PeerUnavailable",
    "RetriesSpent",
    "RunBlocked",
    "RunCancelled",
    "RunFailed",
    "SideEffect",
    "Stalled",
    "StepError",
    "StepTimeout",
    "StoreCorrupt",
    "StoreError",
    "StoreUnavailable",
    "StoreVersion",
    "UnknownName",
    "UpdateFailed",
    "UpdateRefused",
    "UsageError",
    "UserCodeError",
    "WorkflowBug",
]

for _name in __all__:  # journals and pickles name an exception by this module, wherever it is written
    globals()[_name].__module__ = __name__
