"""Where a verb finds the program: at a URL, through the lock beside its store, or in the store's file.

The lock file says who holds a store and where it listens. Held: ask that process. Free: verbs that read open the
file to be read only, verbs that change something say that nobody is running.
"""

from __future__ import annotations

import asyncio
import functools
import getpass
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from minuet.errors import Conflict, NotFound, NotRunning

if TYPE_CHECKING:
    from minuet.runtime.app import App
    from minuet.runtime.control import Control
    from minuet.runtime.settings import Settings

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a user said of where the program is."""

    url: str | None = None
    store: str | None = None
    app: App | None = None


def reaching(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a verb the options that say where the program is, as one argument `place`."""

    @click.option("--url", metavar="URL", help="A running program, as http://127.0.0.1:8640.")
    @click.option("--store", metavar="URL", help="The program's store, as sqlite:///shop.db, or its file.")
    @functools.wraps(command)
    def with_place(*args: Any, url: str | None, store: str | None, **kwargs: Any) -> Any:
        app = click.get_current_context().obj
        return command(*args, place=Place(url=url, store=store_url(store), app=app), **kwargs)

    return with_place


def store_url(given: str | None) -> str | None:
    """Give a store as a URL; a plain path is a SQLite file."""
    return f"sqlite:///{given}" if given is not None and "://" not in given else given


def perform(work: Awaitable[T]) -> T:
    """Run the asynchronous part of a verb."""

    async def whole() -> T:
        return await work

    return asyncio.run(whole())


def who() -> str:
    """Give the name under which this user's acts are recorded."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):  # a user without a name, as in some containers
        return "cli"


@asynccontextmanager
async def reach(place: Place, *, changing: bool = False) -> AsyncIterator[Control]:
    """Connect to the program, or to its file, while the block lasts.

    Raises:
        NotRunning: nobody is running, and the verb changes something.
        NotFound: there is neither a process nor a store.
    """
    from minuet.runtime.http_client import HttpControl

    settings = settings_of(place)
    url = place.url or (None if place.store else settings.api_url)
    if url is None:
        file = store_of(settings)
        url = _address(file)
        if url is None and changing:
            raise NotRunning(f"no process has {file} open, and this needs one", store=str(file))
        if url is None:
            from minuet.runtime.stopped import open_stopped

            if not file.exists():
                raise NotFound(
                    f"there is no store at {file}",
                    remedy="Start the program with `minuet run MODULE:APP`, or name its store: --store FILE",
                )
            async with open_stopped(file) as stopped:
                yield stopped
            return
    async with HttpControl(url) as control:
        yield control


def settings_of(place: Place) -> Settings:
    """Gather the settings; the app of the configuration is asked for its store only where nobody else names one."""
    from minuet.runtime.settings import load_settings

    flags = {"store_url": place.store}
    if place.app is not None:
        return load_settings(flags=flags, app=place.app.given)
    settings = load_settings(flags=flags)
    is_needed = (place.url or settings.api_url) is None and settings.sources["store_url"] == "default"
    if is_needed and settings.app is not None:
        from minuet.tools.loading import load_app

        settings = load_settings(flags=flags, app=load_app(settings.app).given)
    return settings


def store_of(settings: Settings) -> Path:
    """Give the file of the store. Where nobody names one, a single store of this folder is meant."""
    from minuet.stores.opening import store_file

    file = store_file(settings.store_url)
    if file is None:
        raise NotRunning(
            "the store is in memory, so only its own process knows it", remedy="Say where that listens: --url URL"
        )
    if settings.sources["store_url"] != "default" or file.exists():
        return file
    return _only_store(Path.cwd()) or file


def _address(file: Path) -> str | None:
    """Give where the holder of a store listens; None where nobody holds it."""
    from minuet.stores.sqlite.lock import read_lock

    holder = read_lock(file)
    if holder is None:
        return None
    if holder.address is None:
        raise Conflict(
            f"process {holder.pid} on {holder.host} has {file} open, and does not listen",
            remedy="It was not started with `minuet run`; ask it from its own program, or stop it",
        )
    return holder.address


def _only_store(folder: Path) -> Path | None:
    """Give the store of a folder that a process holds, or else the only one: each leaves a lock file beside it."""
    from minuet.stores.sqlite.lock import read_lock

    stores = sorted(lock.with_suffix("") for lock in folder.glob("*.lock") if lock.with_suffix("").is_file())
    stores = [store for store in stores if not _is_part(store)]
    held = [store for store in stores if read_lock(store) is not None]
    found = held or stores
    if len(found) > 1:
        names = ", ".join(store.name for store in found)
        raise Conflict(f"there are several stores here: {names}", remedy="Name the one that you mean: --store FILE")
    return found[0].relative_to(folder) if found else None


def _is_part(store: Path) -> bool:
    """Say whether a store is one participant's, beside its program's: `shop.payments.db` beside `shop.db`."""
    stem, _, part = store.stem.rpartition(".")
    return bool(stem and part) and store.with_name(f"{stem}{store.suffix}").is_file()
