"""The loop: order by seed, crashes without cleanup, time that passes by itself, and whoever is stuck."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import subprocess
import sys
import threading
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from typing import Any

import pytest

from minuet.testing.simulation import loop as loop_module
from minuet.testing.simulation.chance import Chance
from minuet.testing.simulation.loop import EscapedSimulation, Process, SimulationLoop, Stuck, current_process

Done = list[Any]


@pytest.fixture
def loop() -> Iterator[SimulationLoop]:
    made = SimulationLoop(Chance(1))
    yield made
    made.close()


def order(seed: int, *, only: Collection[str] | None = None) -> str:
    """Give the order in which three processes take their turns."""
    loop = SimulationLoop(Chance(seed, only=only))
    said: list[str] = []

    async def talk(name: str) -> None:
        for _ in range(10):
            said.append(name)
            await asyncio.sleep(0)

    for name in "abc":
        Process(loop, name).spawn(talk(name))
    loop.run_forever()
    loop.close()
    return "".join(said)


# Order


def test_the_same_seed_gives_the_same_order() -> None:
    assert order(1) == order(1)


def test_seeds_give_different_orders() -> None:
    assert len({order(seed) for seed in range(5)}) == 5


def test_the_order_can_be_taken_back() -> None:
    assert order(1, only=[]) == order(2, only=[])
    assert order(1, only=["order"]) == order(1)


def test_one_process_does_things_in_the_order_in_which_they_became_ready(loop: SimulationLoop) -> None:
    done: Done = []
    process = Process(loop, "p")
    for n in range(20):
        process.call(done.append, n)
    loop.run_forever()
    assert done == list(range(20))


def test_the_world_itself_goes_first(loop: SimulationLoop) -> None:
    done: Done = []
    process = Process(loop, "p")

    def act() -> None:
        process.call(done.append, "next")
        loop.call_outside(0, done.append, "world")

    process.call(act)
    process.call(done.append, "process")
    loop.run_forever()
    assert done == ["world", "process", "next"]


def instant(seed: int) -> str:
    """Give the order in which processes do what all of them are to do at one instant."""
    loop = SimulationLoop(Chance(seed))
    done: list[str] = []
    for name in "abcdef":
        Process(loop, name).call(done.append, name, after_s=1)
    loop.run_forever()
    loop.close()
    return "".join(done)


def test_the_order_of_processes_at_one_instant_is_drawn() -> None:
    assert len({instant(seed) for seed in range(5)}) == 5


def test_tasks_have_one_order_in_a_set(loop: SimulationLoop) -> None:
    async def nothing() -> None:
        pass

    tasks = [loop.create_task(nothing()) for _ in range(100)]
    assert [hash(task) for task in tasks] == list(range(1, 101))
    loop.run_forever()


SMALL_WORLD = """
import asyncio
from minuet.testing.simulation.chance import Chance
from minuet.testing.simulation.faults import Faults
from minuet.testing.simulation.loop import Process, SimulationLoop, current_process
from minuet.testing.simulation.outside import Outside

chance = Chance(7)
loop = SimulationLoop(chance)
bank = Outside(loop, chance, Faults(call_lost=0.2, reply_lost=0.2), "bank")
trace = []

async def work(name):
    async def one(n):
        for attempt in range(3):
            try:
                trace.append((loop.time(), name, n, await bank.call("charge", f"o-{n}", n)))
                return
            except ConnectionError as e:
                trace.append((loop.time(), name, n, str(e)))
    try:
        async with asyncio.TaskGroup() as group:
            tasks = {group.create_task(one(n)) for n in range(20)}
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:  # a set, in its order
                trace.append((loop.time(), name, task.get_name(), task.done()))
            raise ValueError
    except* ValueError:
        trace.append((loop.time(), name, "left"))

processes = [Process(loop, name) for name in ("shop", "bank", "stock")]
for process in processes:
    process.spawn(work(process.name))
loop.call_outside(0.03, processes[1].crash)
loop.run_forever()
print(*trace, *bank.effects, chance.struck, loop.steps, loop.failures, sep="\\n")
loop.close()
"""


def test_another_hash_seed_changes_nothing() -> None:
    traces = [
        subprocess.run(
            [sys.executable, "-c", SMALL_WORLD],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert "left" in traces[0]
    assert traces[0] == traces[1]


# Crashes


@contextlib.contextmanager
def noticing(done: Done, what: str) -> Iterator[None]:
    try:
        yield
    finally:
        done.append(what)


async def ticks(done: Done) -> AsyncIterator[int]:
    try:
        while True:
            yield 1
            await asyncio.sleep(1)
    finally:
        done.append("generator")


class Held:
    """Something that a crashed process has in its hands."""


async def busy(done: Done, held: Held) -> None:
    lock = asyncio.Lock()
    try:
        with noticing(done, "with"):
            async with lock, asyncio.timeout(100):
                async for _ in ticks(done):
                    done.append("began")
    except BaseException:
        done.append("except")
        raise
    finally:
        done.append("finally")


async def caller(done: Done, held: Held) -> None:
    try:
        await asyncio.gather(busy(done, held), asyncio.shield(busy(done, held)))
    finally:
        done.append("caller")


@pytest.mark.parametrize("paused", [False, True])
def test_a_crash_cleans_nothing_up_as_long_as_its_world_lasts(paused: bool) -> None:
    done: Done = []
    loop = SimulationLoop(Chance(1))
    process = Process(loop, "p")
    held = Held()
    is_held = weakref.ref(held)
    for _ in range(10):  # CPython looks at what it does often in another way
        process.spawn(caller(done, held))
    del held
    if paused:
        loop.call_outside(1.25, process.pause)
    loop.call_outside(1.5, process.crash)
    loop.call_outside(5, lambda: None)
    loop.run_forever()
    assert set(done) == {"began"}
    gc.collect()
    assert set(done) == {"began"}
    loop.close()
    del process, loop
    gc.collect()
    assert is_held() is None, "what it held is never let go"


def test_what_a_crashed_process_was_about_to_do_is_not_done(loop: SimulationLoop) -> None:
    done: Done = []
    process = Process(loop, "p")
    process.call(done.append, "soon")
    process.call(done.append, "later", after_s=1)
    process.crash()
    process.call(done.append, "after all")
    process.spawn(asyncio.sleep(0))
    loop.run_forever()
    assert done == []
    assert loop.time() == 0, "a timer of a dead process moved the time"


def test_whoever_crashes_while_it_is_paused_does_not_go_on(loop: SimulationLoop) -> None:
    done: Done = []
    process = Process(loop, "p")
    process.pause()
    process.call(done.append, "soon")
    process.crash()
    process.resume()
    loop.run_forever()
    assert done == []


def test_a_crash_is_told_in_the_world_and_once(loop: SimulationLoop) -> None:
    told: list[Process | None] = []
    process = Process(loop, "p")
    process.mourners.append(lambda: told.append(current_process()))
    process.call(process.crash)
    process.call(process.crash)
    loop.run_forever()
    process.crash()
    loop.run_forever()
    assert told == [None]


def test_an_answer_to_a_crashed_process_goes_nowhere(loop: SimulationLoop) -> None:
    done: Done = []
    process, answer = Process(loop, "p"), loop.create_future()

    async def ask() -> None:
        done.append(await answer)

    process.spawn(ask())
    loop.call_outside(1, process.crash)
    loop.call_outside(2, answer.set_result, "late")
    loop.run_forever()
    assert answer.done()
    assert done == []


def test_another_process_goes_on_after_a_crash(loop: SimulationLoop) -> None:
    done: Done = []

    async def work(name: str) -> None:
        for _ in range(3):
            await asyncio.sleep(1)
        done.append(name)

    one, other = Process(loop, "one"), Process(loop, "other")
    one.spawn(work("one"))
    other.spawn(work("other"))
    loop.call_outside(1.5, one.crash)
    loop.run_forever()
    assert done == ["other"]


# Pauses


def test_a_paused_process_stands_still_and_goes_on_with_all_that_became_due(loop: SimulationLoop) -> None:
    done: Done = []

    async def work() -> None:
        for n in range(4):
            await asyncio.sleep(1)
            done.append((n, loop.time()))

    process = Process(loop, "p")
    process.spawn(work())
    process.call(done.append, "due", after_s=4)
    loop.call_outside(1.5, process.pause)
    loop.call_outside(1.7, process.pause)
    loop.call_outside(10, process.resume)
    loop.call_outside(10.5, process.resume)
    loop.run_forever()
    assert done == [(0, 1.0), "due", (1, 10.0), (2, 11.0), (3, 12.0)]


def test_what_is_ready_waits_for_the_end_of_a_pause(loop: SimulationLoop) -> None:
    done: Done = []
    process = Process(loop, "p")
    process.call(process.pause)
    process.call(done.append, 1)
    loop.call_outside(5, process.resume)
    loop.call_outside(4, lambda: done.append("still"))
    loop.run_forever()
    assert done == ["still", 1]


# Time


def test_time_passes_only_when_nobody_has_anything_to_do(loop: SimulationLoop) -> None:
    seen: Done = []

    async def work() -> None:
        for _ in range(100):
            await asyncio.sleep(0)
        seen.append(loop.time())
        await asyncio.sleep(3600)
        seen.append(loop.time())

    loop.run_until_complete(work())
    assert seen == [0, 3600]


def test_a_cancelled_timer_moves_no_time(loop: SimulationLoop) -> None:
    async def work() -> None:
        async with asyncio.timeout(1000):
            await asyncio.sleep(1)

    loop.run_until_complete(work())
    loop.run_forever()
    assert loop.time() == 1


def test_a_timeout_strikes_in_simulated_time(loop: SimulationLoop) -> None:
    async def work() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(7):
                await loop.create_future()

    loop.run_until_complete(work())
    assert loop.time() == 7


# Who belongs where


def test_whatever_a_process_begins_belongs_to_it(loop: SimulationLoop) -> None:
    seen: list[Process | None] = []
    process = Process(loop, "p")

    async def work() -> None:
        seen.append(current_process())
        loop.call_later(1, lambda: seen.append(current_process()))
        await loop.create_task(deeper())
        loop.call_outside(0, lambda: seen.append(current_process()))

    async def deeper() -> None:
        seen.append(current_process())

    process.spawn(work())
    loop.run_forever()
    assert seen == [process, process, None, process]


# Stuck


def test_a_deadlock_says_who_waits_and_where(loop: SimulationLoop) -> None:
    async def waits_for_ever() -> None:
        await loop.create_future()

    async def calls() -> None:
        await waits_for_ever()

    shop, bank, stock = Process(loop, "shop"), Process(loop, "bank"), Process(loop, "stock")
    bank.pause()
    shop.spawn(calls(), name="place order")
    bank.spawn(calls(), name="charge")
    stock.spawn(calls(), name="reserve")
    stock.crash()
    with pytest.raises(Stuck) as caught:
        loop.run_until_complete(calls())
    said = str(caught.value)
    assert "nothing can happen any more" in said
    line = waits_for_ever.__code__.co_firstlineno + 1
    name = waits_for_ever.__qualname__
    assert f"  the world: task-4 at {name}, line {line}" in said
    assert f"  shop: place order at {name}, line {line}" in said
    assert "  bank, which is paused: charge at" in said
    assert "  crashed: stock" in said
    assert "reserve" not in said


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_module, "STEPS_AT_ONCE_MAX", 100)


def test_a_circle_without_time_says_who_goes_round(short: None, loop: SimulationLoop) -> None:

    async def spins() -> None:
        await asyncio.sleep(1)  # the bound counts from the last instant
        while True:
            await asyncio.sleep(0)

    Process(loop, "shop").spawn(spins(), name="busy")
    with pytest.raises(Stuck, match=r"no time passes at 1\.0 s, in <Handle") as caught:
        loop.run_forever()
    assert f"  shop: busy at {spins.__qualname__}, line" in str(caught.value)


def test_whoever_lets_time_pass_is_not_in_a_circle(short: None, loop: SimulationLoop) -> None:
    async def works() -> None:
        for _ in range(200):
            await asyncio.sleep(0.001)

    loop.run_until_complete(works())


# Escapes

ESCAPES: dict[str, Callable[[], Awaitable[Any]]] = {
    "a thread": lambda: asyncio.to_thread(print),
    "a pool": lambda: asyncio.get_running_loop().run_in_executor(None, print),
    "a connection": lambda: asyncio.open_connection("localhost", 1),
    "a server": lambda: asyncio.start_server(print, "localhost", 0),
    "a unix socket": lambda: asyncio.open_unix_connection("nowhere"),
    "a datagram": lambda: asyncio.get_running_loop().create_datagram_endpoint(asyncio.DatagramProtocol),
    "a name": lambda: asyncio.get_running_loop().getaddrinfo("localhost", 1),
    "a program": lambda: asyncio.create_subprocess_exec("true"),
    "a shell": lambda: asyncio.create_subprocess_shell("true"),
}


@pytest.mark.parametrize("how", ESCAPES)
def test_whoever_leaves_the_simulation_is_refused_and_it_is_kept(loop: SimulationLoop, how: str) -> None:
    async def work() -> None:
        with pytest.raises(EscapedSimulation, match="is no part of the simulation"):
            await ESCAPES[how]()

    loop.run_until_complete(work())
    assert len(loop.failures) == 1, "whoever catches it would get on unseen"


def test_everything_that_a_loop_offers_is_simulated_or_refused() -> None:
    offered = [name for name in vars(asyncio.AbstractEventLoop) if not name.startswith("_")]
    assert [n for n in offered if getattr(SimulationLoop, n) is getattr(asyncio.AbstractEventLoop, n)] == []


def test_another_thread_cannot_call_in(loop: SimulationLoop) -> None:
    caught: list[BaseException] = []

    def call() -> None:
        try:
            loop.call_soon_threadsafe(print)
        except EscapedSimulation as e:
            caught.append(e)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert len(caught) == 1


# What nobody catches


def test_what_nobody_catches_is_kept(loop: SimulationLoop) -> None:
    async def fails() -> None:
        raise ValueError("of a task")

    def raises() -> None:
        raise ValueError("of a callback")

    loop.call_soon(raises)
    loop.create_task(fails())
    loop.run_forever()
    loop._tasks.clear()  # the loop lets go of what is done, now and then
    gc.collect()
    assert len(loop.failures) == 2
    assert "ValueError('of a callback')" in loop.failures[0]
    assert "ValueError('of a task')" in loop.failures[1]


def test_tasks_that_are_done_are_let_go_now_and_then(loop: SimulationLoop) -> None:
    async def work() -> None:
        for _ in range(5_000):
            await loop.create_task(asyncio.sleep(0))

    loop.run_until_complete(work())
    assert len(loop._tasks) <= 1_001


def test_what_is_raised_comes_to_who_runs_the_loop(loop: SimulationLoop) -> None:
    async def fails() -> None:
        raise ValueError("here")

    with pytest.raises(ValueError, match="here"):
        loop.run_until_complete(fails())
    loop.run_until_complete(asyncio.sleep(1))


def test_a_loop_does_not_run_within_another(loop: SimulationLoop) -> None:
    async def work() -> None:
        with pytest.raises(RuntimeError, match="running already"):
            loop.run_forever()

    loop.run_until_complete(work())
