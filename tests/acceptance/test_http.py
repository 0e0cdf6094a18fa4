"""The API as it listens: a real socket on loopback, in this process."""

from __future__ import annotations

import asyncio
import socket

import pytest

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
