"""The API as it listens: a real socket on loopback, in this process."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
import pytest

from minuet import App, Rejection, Service, action, event, wait_for, workflow
from minuet.engine import bound
from minuet.errors import Conflict, NotRunning, SettingsError
from minuet.runtime.http_client import HttpControl
from minuet.server.app import make_server
from minuet.server.listener import serve
from tests.fake_control import FakeControl

pytestmark = pytest.mark.asyncio


async def test_a_chosen_port_is_told_and_answers() -> None:
    async with serve(make_server(FakeControl()), port=0) as address, HttpControl(address) as client:
        view, is_new = await client.start("greet", b'"you"', key="k")
        assert (view.state, is_new) == ("running", True)
    async with HttpControl(address) as client:
        with pytest.raises(NotRunning):
            await client.health()


async def test_many_at_once_are_answered() -> None:
    control = FakeControl()
    async with serve(make_server(control), port=0) as address, HttpControl(address) as client:
        await asyncio.gather(*(client.start("greet", b'"you"', key=f"k-{i}") for i in range(100)))
    assert len(control.known) == 100


async def test_a_second_listener_at_one_port_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(Conflict, match="--port 0"):
        async with serve(make_server(FakeControl()), port=taken.getsockname()[1]):
            pass


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "example.com"])
async def test_other_machines_cannot_be_listened_to(host: str) -> None:
    with pytest.raises(SettingsError, match="no tokens"):
        async with serve(make_server(FakeControl()), host=host, port=0):
            pass


async def test_raw_bytes_that_are_no_http_harm_nobody() -> None:
    async with serve(make_server(FakeControl()), port=0) as address, HttpControl(address) as client:
        host, port = address.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"\x16\x03\x01\x02\x00 hello\r\n\r\n")
        await writer.drain()
        assert b"400" in await reader.readline()
        writer.close()
        assert (await client.health()).ready


# over a real program: what is refused leaves nothing behind


@dataclass(frozen=True)
class Order:
    id: str
    amount: int


@event("orders.paid", version=1, key="order")
@dataclass(frozen=True)
class Paid:
    order: str


class Declined(Rejection): ...


class Till(Service):
    @action(rejects=(Declined,))
    async def take(self, order: Order) -> str:
        raise RuntimeError("the drawer is jammed")


@workflow
async def sell(order: Order, *, till: Till) -> str:
    await wait_for(Paid, key=order.id, by=till)
    return await till.take(order).retry(1)


ORDER = b'{"id": "o-1", "amount": 1}'
BAD_STARTS = [
    (b"{", 400, "malformed"),
    (b'{"input": {"id": "o-1", "amount": NaN}}', 400, "not-finite"),
    (b'{"input": {"id": "o-1", "amount": 1, "amount": 2}}', 400, "duplicate-key"),
    (b'{"input": {"id": "\\udfff", "amount": 1}}', 400, "lone-surrogate"),
    (b'{"input": ' + b'{"a":' * 70 + b"1" + b"}" * 70 + b"}", 400, "too-deep"),
    (b'{"input": {"id": "' + b"x" * bound.INPUT_BYTES + b'"}}', 413, "too-large"),
    (b'{"input": {"id": "o-1", "amount": "one"}}', 422, None),
    (b'{"input": {"id": "o-1", "amount": 1.5}}', 422, None),
    (b'{"input": {"amount": 1}}', 422, None),
    (b'{"input": []}', 422, None),
    (b'{"input": null}', 422, None),
    (b"{}", 422, None),
    (b'{"key": "", "input": ' + ORDER + b"}", 422, None),
    (b'{"key": "a\\nb", "input": ' + ORDER + b"}", 422, None),
    (b'{"key": "' + b"k" * 257 + b'", "input": ' + ORDER + b"}", 422, None),
]


@asynccontextmanager
async def program() -> AsyncIterator[tuple[httpx.AsyncClient, App]]:
    async with App("shop", services=[Till()], workflows=[sell], store="sqlite://") as app:
        transport = httpx.ASGITransport(make_server(app.control))
        headers = {"Content-Type": "application/json"}
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=headers) as client:
            yield client, app


async def test_no_bad_start_leaves_a_run_behind() -> None:
    async with program() as (client, _):
        for body, status, reason in BAD_STARTS:
            answer = await client.post("/api/v1/workflows/sell/runs", content=body)
            said = answer.json()
            assert (answer.status_code, said["code"]) == (status, "invalid-payload"), (body[:60], said)
            assert said["subject"].get("reason") == reason
        answer = await client.post("/api/v1/workflows/buy/runs", content=b'{"input": ' + ORDER + b"}")
        assert (answer.status_code, answer.json()["code"]) == (404, "not-found")
        assert (await client.get("/api/v1/runs")).json() == {"runs": [], "next": None}
        answer = await client.post("/api/v1/workflows/sell/runs", content=b'{"input": ' + ORDER + b"}")
        assert answer.status_code == 201


async def test_no_bad_event_wakes_a_run() -> None:
    async with program() as (client, _):
        start = await client.post("/api/v1/workflows/sell/runs", content=b'{"key": "o-1", "input": ' + ORDER + b"}")
        run = start.json()["run"]
        for body, status in [
            (b'{"key": "o-1", "data": {"order": 1}}', 422),
            (b'{"key": "o-1", "data": {"order": "o-2"}}', 422),
            (b'{"key": "o-1", "data": NaN}', 400),
            (b'{"key": 1, "data": {}}', 400),
            (b'{"data": {"order": "o-1"}}', 400),
        ]:
            assert (await client.post("/api/v1/events/orders.paid", content=body)).status_code == status, body
        known = b'{"key": "o-1", "data": {"order": "o-1"}}'
        assert (await client.post("/api/v1/events/orders.payed", content=known)).status_code == 404
        view = (await client.get(f"/api/v1/runs/{run}")).json()
        assert [(w["what"], w["needs"]) for w in view["waiting"]] == [("event", "orders.paid o-1")]
        assert view["facts"] == []


async def test_no_bad_resolution_is_recorded() -> None:
    async with program() as (client, app):
        run = await app.start(sell, Order("o-1", 1), key="o-1")
        await app.send(Paid("o-1"))
        assert (await client.get(f"/api/v1/runs/{run.id}?wait=20s")).json()["state"] == "stuck"
        path = f"/api/v1/runs/{run.id}/resolve"
        for body, status in [
            (b'{"position": "2", "reject": "unheard-of"}', 409),
            (b'{"position": "2", "result": 7}', 422),
            (b'{"position": "2", "result": NaN}', 400),
            (b'{"position": "9", "result": "x"}', 404),
            (b'{"position": "1", "result": "x"}', 409),
            (b'{"result": "x"}', 400),
        ]:
            answer = await client.post(path, content=body)
            assert answer.status_code == status, (body, answer.text)
        assert (await client.get(f"/api/v1/runs/{run.id}")).json()["state"] == "stuck"
        assert (await client.post(path, content=b'{"position": "2", "reject": "declined"}')).status_code == 200
        ended = (await client.get(f"/api/v1/runs/{run.id}/result?wait=20s")).json()
        assert (ended["state"], ended["rejection"]["code"]) == ("compensated", "declined")


async def test_runs_that_are_not_there_are_not_found_however_they_are_named() -> None:
    async with program() as (client, _):
        for run in ("0000000000000", "x", "%2e%2e", "ZZZZZZZZZZZZZ", "%00", "38G61GMYY0000%0a"):
            answer = await client.get(f"/api/v1/runs/{run}")
            assert (answer.status_code, answer.json()["code"]) == (404, "not-found"), run
        assert (await client.get("/api/v1/plans/%25")).status_code == 404
