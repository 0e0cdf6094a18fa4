"""Minuet coordinates services: a process is written once, as a typed `async def`, and performed durably.

The map, in reading order; each layer imports only those before it:

| package | question |
| --- | --- |
| `errors`, `ids`, `finding` | what can go wrong, how things are named, what a check reports |
| `contracts` | what services offer and say |
| `workflows` | what a developer writes, and how it is read |
| `plans` | which rules follow |
| `engine` | what happens next |
| `stores`, `brokers`, `observe` | where it is kept, how it travels, what can be seen |
| `runtime` | what runs |
| `testing`, `server` | a kit for users; what listens |
| `tools` | what a person runs |
"""

from minuet.contracts.action import (
    DeadlinePassed,
    Exhausted,
    InvalidValue,
    Rejection,
    RetryPolicy,
    TimedOut,
    TooMany,
)
from minuet.contracts.handler import Context, Row, Transaction, injected, publish
from minuet.contracts.message import event
from minuet.contracts.service import Service, action, compensation, on, outside
from minuet.errors import (
    AlreadyOpen,
    Busy,
    Conflict,
    Contradiction,
    DeclarationError,
    ForeignAwait,
    InvalidPayload,
    KeyConflict,
    MinuetError,
    MisplacedCall,
    MissingExtra,
    NotFound,
    NotRunning,
    PlanInvalid,
    RunFailed,
    RunParked,
    RunRejected,
    RunTerminated,
    SettingsError,
    StoreDamaged,
    StoreError,
    StoreFull,
    StoreUnavailable,
    WorkflowRefused,
)
from minuet.runtime.alarm import RunLate, RunStuck
from minuet.runtime.client import Client, Run
from minuet.tools.app import App
from minuet.workflows.dry_run import DryRun, Entry, dry_run
from minuet.workflows.words import (
    at,
    attempt,
    choreography,
    deadline,
    each,
    orchestration,
    sleep,
    together,
    wait_for,
)
from minuet.workflows.workflow import Workflow, workflow

__all__ = [
    # programs
    "App",
    "Client",
    "Run",
    # services
    "Service",
    "action",
    "compensation",
    "on",
    "outside",
    "Rejection",
    "RetryPolicy",
    # events
    "event",
    "publish",
    "RunLate",
    "RunStuck",
    # in an action
    "Context",
    "Row",
    "Transaction",
    "injected",
    # workflows
    "Workflow",
    "workflow",
    "together",
    "each",
    "attempt",
    "at",
    "wait_for",
    "sleep",
    "deadline",
    "orchestration",
    "choreography",
    # the platform's own rejections
    "TimedOut",
    "DeadlinePassed",
    "Exhausted",
    "InvalidValue",
    "TooMany",
    # as ordinary Python
    "DryRun",
    "Entry",
    "dry_run",
    # errors
    "MinuetError",
    "AlreadyOpen",
    "Busy",
    "Conflict",
    "Contradiction",
    "DeclarationError",
    "ForeignAwait",
    "InvalidPayload",
    "KeyConflict",
    "MisplacedCall",
    "MissingExtra",
    "NotFound",
    "NotRunning",
    "PlanInvalid",
    "RunFailed",
    "RunParked",
    "RunRejected",
    "RunTerminated",
    "SettingsError",
    "StoreDamaged",
    "StoreError",
    "StoreFull",
    "StoreUnavailable",
    "WorkflowRefused",
]
