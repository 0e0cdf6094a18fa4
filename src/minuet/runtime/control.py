"""What can be asked of a running program: one protocol, performed in process or over HTTP.

`runtime.local.LocalControl` performs it on the participant of this process; `runtime.http_client.HttpControl` sends
it to another. `App` and `Client` stand on it, and so do the HTTP routes and the command line.
"""

from __future__ import annotations

from typing import Protocol

from minuet.runtime.letters import Letters
from minuet.runtime.view import Acknowledged, EventReceipt, FailedView, Health, PlanView, RunView


class Control(Protocol):
    """The verbs. A run is named by its public id. Inputs, results and events are JSON text."""

    @property
    def letters(self) -> Letters:
        """The verbs over subscriptions and dead letters."""
        ...

    async def start(
        self,
        workflow: str,
        input_: bytes | None,
        *,
        key: str | None = None,
        on_duplicate: str = "same",
        again: bool = False,
        wait_for_room: bool = True,
    ) -> tuple[RunView, bool]:
        """Start a run; gives it, and whether it is new. It is durable when this returns.

        Args:
            workflow: its name; the current plan is taken.
            input_: JSON text; checked against the input's type.
            key: the business key; the same key and input again give the same run.
            on_duplicate: while a run of this key is unfinished: `same` gives it, `refuse` refuses, `replace` cancels
                it and starts a new one when it has ended.
            again: after it has ended: start a new run instead of giving the ended one.
            wait_for_room: wait where no more runs fit into memory; False: raise Busy.

        Raises:
            NotFound: no such workflow.
            InvalidPayload: the input does not fit.
            KeyConflict: the key names a run with another input (or any, with `refuse`).
            Busy: no room, or the program is stopping.
        """
        ...

    async def wait(self, run: str, timeout_s: float | None) -> RunView:
        """Wait until a run has ended, or is parked, or the time is over; give it as it is then."""
        ...

    async def show(self, run: str, *, facts: bool = True) -> RunView:
        """Give a run with what it waits for, and its facts. Raises NotFound."""
        ...

    async def find(self, key: str, workflow: str | None = None) -> RunView:
        """Give the newest run of a key. Raises NotFound."""
        ...

    async def runs(
        self,
        *,
        states: tuple[str, ...] = (),
        workflow: str | None = None,
        key: str | None = None,
        since_ms: int | None = None,
        before: str | None = None,
        limit: int = 50,
        late: bool = False,
    ) -> list[RunView]:
        """List runs, newest first, without facts; `before` is a run id, for the next page.

        `late`: only those that wait for something longer than is usual.
        """
        ...

    async def send(
        self, event: str, key: str, data: bytes, *, id_: str | None = None, source: str = ""
    ) -> EventReceipt:
        """Take an event from outside; with an `id_`, the same again is recognised.

        Raises:
            NotFound: no such event type.
            InvalidPayload: the data does not fit it.
        """
        ...

    async def cancel(self, run: str, *, who: str = "", note: str | None = None) -> Acknowledged:
        """Ask for a cancellation."""
        ...

    async def terminate(self, run: str, *, who: str = "", note: str | None = None) -> Acknowledged:
        """End a run at once; nothing is compensated."""
        ...

    async def pause(self, run: str, *, who: str = "", note: str | None = None) -> Acknowledged:
        """Pause a run."""
        ...

    async def resume(self, run: str, *, who: str = "", note: str | None = None) -> Acknowledged:
        """Resume a paused run."""
        ...

    async def retry(
        self, run: str, position: str | None = None, *, who: str = "", note: str | None = None
    ) -> Acknowledged:
        """Take up what is parked or waits for its next attempt, now; a quarantined run is read again."""
        ...

    async def resolve(
        self,
        run: str,
        position: str,
        *,
        result: bytes | None = None,
        reject: str | None = None,
        who: str = "",
        note: str | None = None,
    ) -> Acknowledged:
        """Record by hand what was done outside: a result, a declared rejection, or (neither) a compensation."""
        ...

    async def skip(self, run: str, position: str, *, who: str = "", note: str | None = None) -> Acknowledged:
        """Record a compensation as done although it is not; the run is listed as dirty."""
        ...

    async def failed(self, limit: int = 100) -> list[FailedView]:
        """List what is parked."""
        ...

    async def plans(self) -> list[PlanView]:
        """List all plans."""
        ...

    async def plan(self, name: str) -> bytes:
        """Give a plan as JSON text, by digest (or its beginning), or by workflow: then the current one."""
        ...

    async def retire(self, plan: str, *, who: str = "", note: str | None = None) -> Acknowledged:
        """Have nobody know a plan any more, named by (the beginning of) its digest.

        Raises:
            NotFound: there is no such plan.
            Conflict: an unfinished run has it (M605), or new runs take it.
        """
        ...

    async def health(self) -> Health:
        """Say how the process is."""
        ...
