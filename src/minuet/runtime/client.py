"""The typed verbs that users call: the same on an `App` in this process and on a `Client` of another.

They stand on `Control`, which carries plain data; here inputs are encoded, results decoded into the type that the
workflow's signature names, and rejections given back as the classes that were declared.
"""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

import msgspec

from minuet.contracts.action import PLATFORM_CODES, Rejection
from minuet.contracts.codec import codec_for
from minuet.contracts.message import event_spec
from minuet.contracts.service import service_spec
from minuet.engine.row import RunState
from minuet.errors import DeclarationError, InvalidPayload, RunParked, RunRejected, RunTerminated
from minuet.runtime.control import Control
from minuet.runtime.view import Acknowledged, EventReceipt, FactView, RunView, WaitingView
from minuet.workflows.workflow import Workflow

if TYPE_CHECKING:
    from minuet.runtime.http_client import HttpControl

A = TypeVar("A")
R = TypeVar("R")

DEFAULT_URL = "http://127.0.0.1:8640"


class Run(Generic[R]):
    """A run that somebody started: its result, its state, and what it waits for.

    `id` is its public id, `key` the business key; `is_new` says whether the start made it, or found it.
    """

    def __init__(self, control: Control, flow: Workflow[Any, Any, R], view: RunView, *, is_new: bool) -> None:
        self._control = control
        self._flow = flow
        self.id = view.run
        self.key = view.key
        self.is_new = is_new

    async def result(self, timeout: float | None = None) -> R:
        """Wait for the end and give what the workflow returned; `timeout` in seconds, None for as long as it takes.

        Raises:
            RunRejected: it was rejected, and everything in it is compensated by now.
            RunParked: it is stuck or quarantined, and waits for a person.
            RunTerminated: an operator ended it.
            TimeoutError: it has not ended in this time; it goes on.
        """
        return result_of(self._flow, await self._control.wait(self.id, timeout))

    async def status(self) -> str:
        """Give its state: one of the values of `minuet.engine.row.RunState`."""
        return (await self._control.show(self.id, facts=False)).state

    async def show(self) -> RunView:
        """Give everything that is known of it."""
        return await self._control.show(self.id)

    async def waiting(self) -> list[WaitingView]:
        """Give what it waits for: what is needed, from whom, since when, until when."""
        return (await self._control.show(self.id, facts=False)).waiting

    async def facts(self) -> list[FactView]:
        """Give its facts in the order in which they were recorded."""
        return (await self._control.show(self.id)).facts

    async def cancel(self) -> Acknowledged:
        """Ask for a cancellation: what was done is compensated, as long as everything can be taken back."""
        return await self._control.cancel(self.id)

    async def terminate(self) -> Acknowledged:
        """End it at once; nothing is compensated."""
        return await self._control.terminate(self.id)

    async def pause(self) -> Acknowledged:
        """Pause it."""
        return await self._control.pause(self.id)

    async def resume(self) -> Acknowledged:
        """Let it go on."""
        return await self._control.resume(self.id)

    async def retry(self, position: str | None = None) -> Acknowledged:
        """Take up what is parked, now."""
        return await self._control.retry(self.id, position)

    def __repr__(self) -> str:
        return f"<run {self.id} of {self._flow.name}>"


class Verbs:
    """`start`, `run`, `send`, and looking at runs; over whatever control there is."""

    @property
    def control(self) -> Control:
        """The plain verbs, for tools."""
        raise NotImplementedError

    async def start(
        self,
        flow: Workflow[A, Any, R],
        input: A,
        *,
        key: str | None = None,
        on_duplicate: str = "same",
        again: bool = False,
    ) -> Run[R]:
        """Start a run; it is durable when this returns. The same key with the same input gives the same run.

        Raises:
            InvalidPayload: the input does not fit.
            KeyConflict: the key names a run with another input, or (`on_duplicate="refuse"`) an unfinished one.
        """
        raw = encode_input(flow, input)
        view, is_new = await self.control.start(flow.name, raw, key=key, on_duplicate=on_duplicate, again=again)
        return Run(self.control, flow, view, is_new=is_new)

    async def run(self, flow: Workflow[A, Any, R], input: A, *, key: str | None = None) -> R:
        """Start a run and wait for its result; raises as `start` and `Run.result`."""
        run = await self.start(flow, input, key=key)
        return await run.result()

    async def find(self, flow: Workflow[A, Any, R], key: str) -> Run[R]:
        """Find the newest run of a key. Raises NotFound."""
        return Run(self.control, flow, await self.control.find(key, flow.name), is_new=False)

    async def send(self, event: object, *, key: str | None = None, id: str | None = None) -> EventReceipt:
        """Send an event from outside; it may come before anybody waits for it. The same `id` again is recognised.

        Raises:
            DeclarationError: it is no event, or has no key and none was given.
            NotFound: the program does not know this type of event.
        """
        spec = event_spec(type(event))
        if spec is None:
            raise DeclarationError(f"{type(event).__qualname__} is no event", remedy="Declare it: @event(…) above it")
        if key is None:
            if spec.key is None:
                raise DeclarationError(f"the event {spec.name} has no key field", remedy="Give one: send(…, key=…)")
            key = str(getattr(event, spec.key))
        return await self.control.send(spec.name, key, codec_for(type(event)).encode(event), id_=id)


class Client(Verbs):
    """Somebody outside: the verbs of a running program, over HTTP.

    `async with Client("http://127.0.0.1:8640") as minuet: …`
    """

    def __init__(self, url: str = DEFAULT_URL) -> None:
        from minuet.runtime.http_client import HttpControl  # whoever is no client does not load an HTTP library

        self._control: HttpControl = HttpControl(url)

    @property
    def control(self) -> Control:
        """The plain verbs, for tools."""
        return self._control

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._control.close()


def encode_input(flow: Workflow[A, Any, Any], input_: A) -> bytes | None:
    """Give a workflow's input as JSON text, checked against its type; None where it takes none."""
    if flow.tree.input is None:
        if input_ is not None:
            raise InvalidPayload(f"{flow.name} takes no input", remedy="Give None")
        return None
    return codec_for(flow.input_type).encode_checked(input_)


def decode_result(flow: Workflow[Any, Any, R], raw: bytes) -> R:
    """Give the typed result of a workflow from its JSON text."""
    if flow.result_type in (None, type(None)):
        return None  # type: ignore[return-value]
    decoded: R = codec_for(flow.result_type).decode(raw)
    return decoded


def result_of(flow: Workflow[Any, Any, R], view: RunView) -> R:
    """Give the typed result of a run that has ended; raises what `Run.result` raises."""
    match view.state:
        case RunState.COMPLETED:
            return decode_result(flow, msgspec.json.encode(view.result))
        case RunState.COMPENSATED:
            told = view.rejection
            code, position = (told.code, told.position) if told is not None else ("", "")
            raise RunRejected(
                f"run {view.run} was rejected at {position or 'no position'} with {code!r}; everything is compensated",
                rejection=rejection_of(flow, view),
                position=position,
                run=view.run,
            )
        case RunState.TERMINATED:
            raise RunTerminated(f"run {view.run} was terminated by an operator", run=view.run)
        case RunState.STUCK | RunState.QUARANTINED:
            raise RunParked(
                f"run {view.run} is {view.state}: {view.reason}", remedy=f"See: minuet show {view.run}", run=view.run
            )
    raise TimeoutError(f"run {view.run} is still {view.state}")


def rejection_of(flow: Workflow[Any, Any, Any], view: RunView) -> Rejection:
    """Give a rejection as the class that was declared for its code."""
    told = view.rejection
    assert told is not None
    classes: dict[str, type[Rejection]] = {**PLATFORM_CODES, **flow.rejections}
    for service in flow.services.values():
        for a in service_spec(service).actions.values():
            classes.update((r.code, r) for r in a.rejects)
    found = classes.get(told.code)
    details = told.details if isinstance(told.details, dict) else {}
    if found is None:
        found = type("Rejection", (Rejection,), {}, code=told.code or "rejection")
    rejection = Exception.__new__(found)  # a subclass may want other arguments than a code carries
    Rejection.__init__(rejection, told.message, **details)
    return rejection
