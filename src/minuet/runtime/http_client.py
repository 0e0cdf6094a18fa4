"""The verbs, asked of another process over HTTP. The only module that imports httpx.

Nothing is tried again here: the engine is the one retry owner, and whoever asks knows whether a repetition is safe.
Errors come back as what they were: the answer's code names the class.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from minuet.engine.row import SETTLED
from minuet.errors import Busy, Conflict, InvalidPayload, MinuetError, NotFound, NotRunning, StoreUnavailable
from minuet.runtime.http_letters import HttpLetters
from minuet.runtime.letters import Letters
from minuet.runtime.view import Acknowledged, EventReceipt, FailedView, Health, PlanView, RunView

T = TypeVar("T")

_CONNECT_TIMEOUT_S: Final = 5.0
_ANSWER_TIMEOUT_S: Final = 30.0
_WAIT_CHUNK_S: Final = 20.0


class _Page(msgspec.Struct):
    runs: list[RunView]
    next: str | None = None


class _Failed(msgspec.Struct):
    failed: list[FailedView]


class _Plans(msgspec.Struct):
    plans: list[PlanView]


class _Problem(msgspec.Struct):
    code: str
    detail: str
    remedy: str = ""
    subject: dict[str, Any] = {}


class HttpControl:
    """Asks a running program at `url`, such as `http://127.0.0.1:8640`; open it with `async with`."""

    def __init__(self, url: str, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self.url = url.rstrip("/")
        self._client = httpx.AsyncClient(
            base_url=self.url,
            transport=transport,
            timeout=httpx.Timeout(_ANSWER_TIMEOUT_S, connect=_CONNECT_TIMEOUT_S),
            trust_env=False,  # a proxy from the environment has no business between this machine and itself
        )

        self.letters: Letters = HttpLetters(self._get, self._tell)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

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
        """Start a run; see `Control.start`. Waiting for room is asking again, when the program says to."""
        body = {"input": input_, "key": key, "on_duplicate": on_duplicate, "again": again}
        path = f"/api/v1/workflows/{quote(workflow, safe='')}/runs"
        while True:
            try:
                answer = await self._ask("POST", path, body=body)
            except Busy as error:
                if not wait_for_room:
                    raise
                await asyncio.sleep(error.retry_after_s)
            else:
                return self._read(answer, RunView), answer.status_code == httpx.codes.CREATED

    async def wait(self, run: str, timeout_s: float | None) -> RunView:
        """Wait until a run has ended, or is parked, or the time is over."""
        loop = asyncio.get_running_loop()
        until = None if timeout_s is None else loop.time() + timeout_s
        while True:
            left = _WAIT_CHUNK_S if until is None else max(0.0, min(_WAIT_CHUNK_S, until - loop.time()))
            view = await self._get(
                self._run(run), RunView, {"wait": f"{left:.3f}s", "facts": "false"}, timeout_s=left + _ANSWER_TIMEOUT_S
            )
            if view.state in SETTLED or (until is not None and loop.time() >= until):
                return view

    async def show(self, run: str, *, facts: bool = True) -> RunView:
        """Give a run with what it waits for."""
        return await self._get(self._run(run), RunView, {} if facts else {"facts": "false"})

    async def find(self, key: str, workflow: str | None = None) -> RunView:
        """Give the newest run of a key."""
        found = await self.runs(key=key, workflow=workflow, limit=1)
        if not found:
            of = f" of {workflow}" if workflow else ""
            raise NotFound(f"there is no run{of} with the key {key!r}", remedy="See: minuet runs", key=key)
        return await self.show(found[0].run)

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
        """List runs, newest first."""
        query = {
            "state": ",".join(states) or None,
            "workflow": workflow,
            "key": key,
            "since_ms": since_ms,
            "before": before,
            "limit": limit,
            "late": "true" if late else None,
        }
        return (await self._get("/api/v1/runs", _Page, query)).runs

    async def send(
        self, event: str, key: str, data: bytes, *, id_: str | None = None, source: str = ""
    ) -> EventReceipt:
        """Send an event from outside."""
        body = {"key": key, "data": data, "id": id_, "source": source}
        return self._read(await self._ask("POST", f"/api/v1/events/{quote(event, safe='')}", body=body), EventReceipt)

    async def cancel(self, run: str, *, who: str = "", note: str | None = None) -> Acknowledged:
        """Ask for a cancellation."""
        return await self._verb(run, "cancel", who=who, note=note)

    async def terminate(self, run: str, *, who: str = "", note: str | None = None) -> Acknowledged:
        """End a run at once; nothing is compensated."""
        return await self._verb(run, "terminate", who=who, note=note)

    async def pause(self, run: str, *, who: str = "", note: str | None = None) -> Acknowledged:
        """Pause a run."""
        return await self._verb(run, "pause", who=who, note=note)

    async def resume(self, run: str, *, who: str = "", note: str | None = None) -> Acknowledged:
        """Resume a paused run."""
        return await self._verb(run, "resume", who=who, note=note)

    async def retry(
        self, run: str, position: str | None = None, *, who: str = "", note: str | None = None
    ) -> Acknowledged:
        """Take up what is parked, now."""
        return await self._verb(run, "retry", position=position, who=who, note=note)

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
        """Record by hand what was done outside."""
        return await self._verb(run, "resolve", position=position, result=result, reject=reject, who=who, note=note)

    async def skip(self, run: str, position: str, *, who: str = "", note: str | None = None) -> Acknowledged:
        """Record a compensation as done although it is not."""
        return await self._verb(run, "skip", position=position, who=who, note=note)

    async def failed(self, limit: int = 100) -> list[FailedView]:
        """List what is parked."""
        return (await self._get("/api/v1/failed", _Failed, {"limit": limit})).failed

    async def plans(self) -> list[PlanView]:
        """List all plans."""
        return (await self._get("/api/v1/plans", _Plans)).plans

    async def plan(self, name: str) -> bytes:
        """Give a plan as JSON text."""
        return (await self._ask("GET", f"/api/v1/plans/{quote(name, safe='')}")).content

    async def retire(self, plan: str, *, who: str = "", note: str | None = None) -> Acknowledged:
        """Have nobody know a plan any more."""
        path, body = f"/api/v1/plans/{quote(plan, safe='')}/retire", {"who": who, "note": note}
        return self._read(await self._ask("POST", path, body=body), Acknowledged)

    async def health(self) -> Health:
        """Say how the process is."""
        return await self._get("/api/v1/health", Health)

    @staticmethod
    def _run(run: str) -> str:
        return f"/api/v1/runs/{quote(run, safe='')}"

    async def _verb(self, run: str, verb: str, **body: Any) -> Acknowledged:
        return self._read(await self._ask("POST", f"{self._run(run)}/{verb}", body=body), Acknowledged)

    async def _tell(self, method: str, path: str, body: Mapping[str, Any], type_: type[T]) -> T:
        return self._read(await self._ask(method, path, body=body), type_)

    async def _get(
        self, path: str, type_: type[T], query: Mapping[str, Any] | None = None, *, timeout_s: float | None = None
    ) -> T:
        return self._read(await self._ask("GET", path, query=query, timeout_s=timeout_s), type_)

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        timeout_s: float | None = None,
    ) -> httpx.Response:
        request = self._client.build_request(
            method,
            path,
            params={name: value for name, value in (query or {}).items() if value is not None},
            content=None if body is None else _body(body),
            headers={} if body is None else {"Content-Type": "application/json"},
            timeout=httpx.USE_CLIENT_DEFAULT if timeout_s is None else timeout_s,
        )
        try:
            answer = await self._client.send(request)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise NotRunning(f"nothing answers at {self.url}", url=self.url) from error
        except httpx.HTTPError as error:
            why = str(error) or type(error).__name__
            if method == "GET":
                raise StoreUnavailable(f"{self.url} did not answer: {why}", remedy="Ask again", url=self.url) from error
            raise StoreUnavailable(
                f"the answer of {self.url} was lost, so it is unknown what was done: {why}",
                remedy="Look, or do the same again: with the same key or id it is done once",
                url=self.url,
            ) from error
        if answer.is_success:
            return answer
        raise self._error(answer)

    def _read(self, answer: httpx.Response, type_: type[T]) -> T:
        try:
            return msgspec.json.decode(answer.content, type=type_)
        except msgspec.MsgspecError as error:
            raise self._foreign(answer) from error

    def _error(self, answer: httpx.Response) -> MinuetError:
        """Make the error that the other side raised."""
        try:
            said = msgspec.json.decode(answer.content, type=_Problem)
        except msgspec.MsgspecError:
            if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
                return Busy(f"{self.url} has no room for another connection", remedy="Try again after a while")
            return self._foreign(answer)
        subject = {name: value for name, value in said.subject.items() if name not in ("message", "remedy")}
        kind = _CLASSES.get(said.code, MinuetError)
        error = kind(said.detail, remedy=said.remedy, **subject)
        if isinstance(error, Busy):
            error.retry_after_s = _seconds(answer.headers.get("Retry-After"))
        return error

    def _foreign(self, answer: httpx.Response) -> MinuetError:
        return NotRunning(
            f"what answers at {self.url} is not Minuet: {answer.status_code} {answer.headers.get('content-type', '')}",
            remedy="Check the address",
            url=self.url,
        )


def _classes(root: type[MinuetError]) -> Iterator[type[MinuetError]]:
    yield root
    for kind in root.__subclasses__():
        yield from _classes(kind)


_CLASSES: Final[Mapping[str, type[MinuetError]]] = {
    # Of these the constructor asks for more than a message; whatever can come over HTTP is made from one.
    **{kind.code: kind for kind in _classes(MinuetError) if "__init__" not in vars(kind) or kind is MinuetError},
    "bad-request": InvalidPayload,
    "no-route": NotFound,
    "method-not-allowed": Conflict,
}


def _seconds(text: str | None) -> float:
    return float(text) if text and text.isascii() and text.isdigit() else Busy.retry_after_s


def _body(content: Mapping[str, Any]) -> bytes:
    """Encode a body; bytes in it are JSON text already, and what is None is left out."""
    return msgspec.json.encode(
        {n: msgspec.Raw(v) if isinstance(v, bytes) else v for n, v in content.items() if v is not None}
    )
