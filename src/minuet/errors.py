"""The tree of errors. Each has a stable code, says what happened, and what to do about it.

    MinuetError
    ├── DeclarationError      a service, action, event or app is declared wrongly          (usage)
    ├── WorkflowRefused       the reader refuses a workflow; holds findings M0xx, M5xx     (usage)
    ├── PlanInvalid           a plan cannot be loaded: damaged, altered, unknown format
    ├── SettingsError         a setting is unknown or has a wrong value                    (usage)
    ├── MissingExtra          a driver or integration is not installed                     (usage)
    ├── InvalidPayload        bytes that are not what was asked for: shape, type, size
    ├── NotFound              no such run, workflow, action, event, plan
    ├── Conflict              the state of things does not allow it
    │   ├── KeyConflict       the key names a run with another input
    │   └── AlreadyOpen       another process holds the store
    ├── Busy                  no room now; try again after a while
    ├── NotRunning            this needs a running process, and there is none
    ├── StoreError
    │   ├── StoreUnavailable  unknown what was recorded; the same again is safe
    │   ├── StoreFull         the disk is full; nothing was recorded
    │   └── StoreDamaged      what is stored cannot be read
    ├── StatementError        a statement of a handler's transaction did nothing
    │   ├── StatementRefused  it may not do what it would do
    │   └── StatementFailed   the database refuses it: a constraint, a mistake in the SQL
    ├── Contradiction         a fact was to be recorded that denies a recorded one
    ├── RunFailed             what `Run.result()` raises when there is no result
    │   ├── RunRejected       the run ended compensated; has the rejection and its position
    │   ├── RunTerminated     an operator ended the run
    │   └── RunParked         the run waits for a person: stuck, quarantined
    ├── ForeignAwait          a transactional action awaited something but its transaction
    └── MisplacedCall         a workflow's word was used where it means nothing

What follows from an error differs: *not done*, *unknown whether done* and *rejected* are different types.
A `Rejection` (`minuet.contracts.action`) is none of these: it is an action's answer, not an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from minuet.finding import Finding


class MinuetError(Exception):
    """The root of all errors of Minuet.

    `code` is stable and public; `subject` holds what the error is about, as JSON-able values;
    `remedy` says what to do.
    """

    code: ClassVar[str] = "minuet"
    remedy: str = ""

    def __init__(self, message: str, *, remedy: str = "", **subject: Any) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy or type(self).remedy
        self.subject = subject

    def __str__(self) -> str:
        return f"{self.message}. {self.remedy}" if self.remedy else self.message


class DeclarationError(MinuetError):
    """A service, action, event, rejection or app is declared in a way that cannot work."""

    code = "declaration"


class WorkflowRefused(MinuetError):
    """The reader refuses a workflow: it says something that a plan cannot say."""

    code = "workflow-refused"

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__("\n".join(str(f) for f in findings))
        self.findings = list(findings)


class PlanInvalid(MinuetError):
    """A plan cannot be loaded: damaged, altered, or of a format that is not known."""

    code = "plan-invalid"


class SettingsError(MinuetError):
    """A setting is unknown, or its value is not what it must be."""

    code = "settings"


class MissingExtra(MinuetError):
    """Something needs a driver or an integration that is not installed."""

    code = "missing-extra"


class InvalidPayload(MinuetError):
    """Bytes or values that do not fit what was declared; `path` says where (`$.lines[0].quantity`)."""

    code = "invalid-payload"


class NotFound(MinuetError):
    """There is no such run, workflow, action, event or plan."""

    code = "not-found"


class Conflict(MinuetError):
    """The state of things does not allow what was asked."""

    code = "conflict"


class KeyConflict(Conflict):
    """The key already names a run, which was started with another input."""

    code = "key-conflict"


class SecondCause(Conflict):
    """An action has taken effect for this business key already, by another path."""

    code = "second-cause"


class NotActive(Conflict):
    """Not everybody whom a plan names has acknowledged it yet, so no run may start on it (M603)."""

    code = "not-active"


class AlreadyOpen(Conflict):
    """Another process holds the store."""

    code = "already-open"


class Busy(MinuetError):
    """There is no room now. Nothing was done; try again after `retry_after_s` seconds."""

    code = "busy"
    retry_after_s: float = 1.0


class NotRunning(MinuetError):
    """This verb changes something, so it needs a running process, and there is none."""

    code = "not-running"
    remedy = "Start it with: minuet run MODULE:APP"


class BrokerUnavailable(MinuetError):
    """The broker cannot be reached, or has not confirmed; the same again is safe."""

    code = "broker-unavailable"


class StoreError(MinuetError):
    """Something is wrong with the store."""

    code = "store"


class StoreUnavailable(StoreError):
    """The store did not answer: it is unknown what was recorded, and doing the same again is safe."""

    code = "store-unavailable"


class StoreFull(StoreError):
    """There is no space left; nothing was recorded."""

    code = "store-full"


class StaleOwner(StoreError):
    """Another process owns the shard by now: nothing was recorded, and what is known of its runs is out of date."""

    code = "stale-owner"


class StoreDamaged(StoreError):
    """What is stored cannot be read as what it should be."""

    code = "store-damaged"


class StatementError(MinuetError):
    """A statement of a handler's transaction did nothing; what the handler wrote before it still stands."""

    code = "statement"


class StatementRefused(StatementError):
    """A statement may not do what it would do: end the transaction, or touch tables of Minuet."""

    code = "statement-refused"


class StatementFailed(StatementError):
    """The database refuses a statement.

    `constraint` is the kind that was violated: `unique`, `foreign-key`, `not-null`, `check`, `type`, `other`; or None.
    """

    code = "statement-failed"

    def __init__(self, message: str, *, constraint: str | None = None, remedy: str = "", **subject: Any) -> None:
        super().__init__(message, remedy=remedy, constraint=constraint, **subject)
        self.constraint = constraint


class Contradiction(MinuetError):
    """A fact was to be recorded that denies a recorded one: another value, or a second outcome."""

    code = "contradiction"


class RunFailed(MinuetError):
    """A run has no result, and will have none unless somebody acts."""

    code = "run-failed"


class RunRejected(RunFailed):
    """The run was rejected, and everything in it is compensated by now.

    `rejection` is the declared rejection, with its code; `position` is where it was raised.
    """

    code = "run-rejected"

    def __init__(self, message: str, *, rejection: Any, position: str, **subject: Any) -> None:
        super().__init__(message, position=position, **subject)
        self.rejection = rejection
        self.position = position


class RunTerminated(RunFailed):
    """An operator ended the run; nothing was compensated."""

    code = "run-terminated"


class RunParked(RunFailed):
    """The run is parked and waits for a person; `reason` says why."""

    code = "run-parked"


class ForeignAwait(MinuetError):
    """A transactional action awaited something other than its transaction after its first statement."""

    code = "foreign-await"
    remedy = "Do outside work before the first statement, or in an action of its own"


class MisplacedCall(MinuetError):
    """A word of the workflow language, or an injected value, was used where it means nothing."""

    code = "misplaced-call"
