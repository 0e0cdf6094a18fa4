"""What `minuet doctor` looks at: versions, the store, who holds it, the settings and where each came from."""

from __future__ import annotations

import platform
import sqlite3
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

from minuet.errors import AlreadyOpen, MinuetError
from minuet.plans.plan import FORMAT as PLAN_FORMAT
from minuet.runtime.http_client import HttpControl
from minuet.runtime.settings import TABLE, Settings, duration_text, masked
from minuet.stores.migration import find_migrations
from minuet.stores.opening import store_file
from minuet.stores.sqlite.connection import SQLITE_FLOOR, refuse_network
from minuet.stores.sqlite.lock import Holder, read_lock
from minuet.stores.sqlite.schema import MIGRATIONS
from minuet.stores.sqlite.store import SqliteReader

_WAL_RESET_BUG = ((3, 7, 0), (3, 51, 2))
"""SQLite versions in which two writing connections may corrupt a file in WAL mode."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at: `verdict` is `ok`, `note` or `bad`."""

    name: str
    verdict: str
    message: str
    remedy: str = ""


def versions() -> dict[str, Any]:
    """Give the version of everything that matters."""
    return {
        "minuet": minuet_version(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "plan_format": PLAN_FORMAT,
        "store_schema": len(find_migrations(MIGRATIONS)),
    }


def minuet_version() -> str:
    """Give the installed version."""
    try:
        return installed("minuet")
    except PackageNotFoundError:  # run from a folder that was never installed
        return "unknown"


async def diagnose(settings: Settings) -> list[Check]:
    """Look at everything, in the order in which it would fail."""
    checks = [check_python(sys.version_info[:3]), check_sqlite(sqlite3.sqlite_version_info)]
    file = store_file(settings.store_url)
    if file is None:
        checks.append(Check(name="store", verdict="note", message="in memory: gone when its process ends"))
        return checks
    checks.append(_check_disk(file))
    checks.append(await _check_store(file))
    checks.extend(await _check_lock(file))
    return checks


def check_python(version: tuple[int, ...]) -> Check:
    """Say whether this Python will do."""
    name = ".".join(map(str, version))
    if version < (3, 11):
        return Check(name="python", verdict="bad", message=name, remedy="Use Python 3.11 or later")
    return Check(name="python", verdict="ok", message=name)


def check_sqlite(version: tuple[int, ...]) -> Check:
    """Say whether this SQLite will do, and whether its one dangerous mistake can be reached."""
    name = ".".join(map(str, version))
    if version < SQLITE_FLOOR:
        floor = ".".join(map(str, SQLITE_FLOOR))
        return Check(name="sqlite", verdict="bad", message=name, remedy=f"Use a Python with SQLite {floor} or later")
    first, last = _WAL_RESET_BUG
    if first <= version <= last:
        return Check(
            name="sqlite", verdict="ok", message=f"{name} (one writer: its WAL-reset mistake cannot be reached)"
        )
    return Check(name="sqlite", verdict="ok", message=f"{name} (one writer)")


def settings_table(settings: Settings) -> list[dict[str, Any]]:
    """Give each setting with its value, source and meaning; passwords are hidden."""
    rows: list[dict[str, Any]] = []
    for setting in TABLE:
        value = getattr(settings, setting.field)
        if isinstance(value, str) and "://" in value:
            value = masked(value)
        elif setting.unit == "duration":
            value = duration_text(value)
        rows.append(
            {
                "name": setting.name,
                "value": value,
                "source": settings.sources[setting.name],
                "variable": setting.variable,
                "meaning": setting.meaning,
            }
        )
    policy = settings.retry
    parts = {
        "attempts": policy.attempts,
        "first": duration_text(policy.first_ms),
        "factor": policy.factor,
        "at_most": duration_text(policy.at_most_ms),
    }
    rows += [
        {
            "name": f"retry.{part}",
            "value": value,
            "source": settings.sources[f"retry.{part}"],
            "variable": f"MINUET_RETRY__{part.upper()}",
            "meaning": "default of every step",
        }
        for part, value in parts.items()
    ]
    rows += [
        {
            "name": f"styles.{name}",
            "value": style,
            "source": settings.sources[f"styles.{name}"],
            "variable": f"MINUET_STYLES__{name.upper()}" if "/" not in name else "",
            "meaning": "how it is performed",
        }
        for name, style in settings.styles.items()
    ]
    return rows


def _check_disk(file: Path) -> Check:
    try:
        refuse_network(file)
    except MinuetError as error:
        return Check(name="disk", verdict="bad", message=error.message, remedy=error.remedy)
    return Check(name="disk", verdict="ok", message="local, as far as the system says")


async def _check_store(file: Path) -> Check:
    if not file.exists():  # noqa: ASYNC240 - nobody else is on this loop
        return Check(
            name="store", verdict="note", message=f"{file} is not there yet", remedy="The first `minuet run` makes it"
        )
    store = SqliteReader(file)
    try:
        await store.open()
    except MinuetError as error:
        return Check(name="store", verdict="bad", message=error.message, remedy=error.remedy)
    try:
        unfinished = sum((await store.count_runs()).values())
    finally:
        await store.close()
    schema = len(find_migrations(MIGRATIONS))
    return Check(
        name="store",
        verdict="ok",
        message=f"{file}: schema {schema}, no migration pending, {unfinished:,} runs unfinished",
    )


async def _check_lock(file: Path) -> list[Check]:
    try:
        holder = read_lock(file)
    except AlreadyOpen as error:
        return [Check(name="lock", verdict="note", message=error.message, remedy=error.remedy)]
    if holder is None:
        return [Check(name="lock", verdict="ok", message="free: no process has the store open")]
    where = f", listening at {holder.address}" if holder.address else ", not listening"
    held = Check(name="lock", verdict="ok", message=f"held by process {holder.pid} on {holder.host}{where}")
    return [held, await _check_process(holder)] if holder.address else [held]


async def _check_process(holder: Holder) -> Check:
    assert holder.address is not None
    try:
        async with HttpControl(holder.address) as control:
            health = await control.health()
    except MinuetError as error:
        return Check(
            name="process",
            verdict="bad",
            message=error.message,
            remedy=f"Process {holder.pid} holds the store and does not answer; look at its log",
        )
    held = (
        f"{health.runs_in_memory:,} runs in memory, {health.running_actions} actions running, "
        f"{health.queued_actions:,} queued, {health.abandoned_threads} threads abandoned, lag {health.lag_ms} ms"
    )
    if health.draining:
        return Check(name="process", verdict="note", message=f"stopping; {held}")
    return Check(name="process", verdict="ok" if health.ready else "note", message=held)
