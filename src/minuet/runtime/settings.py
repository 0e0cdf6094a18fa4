"""Settings: one frozen value, one table of what can be set, and where each value came from.

A flag wins over the environment, that over `[tool.minuet]` in `pyproject.toml` (or `minuet.toml`, without the
heading), that over an argument of `App(…)`, that over the default. So code gives defaults, and a deployment
overrides them without touching it. What is not known is an error: a misspelt setting that is silently ignored is
found in production.
"""

from __future__ import annotations

import difflib
import math
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from minuet.contracts.action import RetryPolicy
from minuet.engine import bound
from minuet.errors import SettingsError
from minuet.plans.placement import STYLES, Placement

PREFIX: Final = "MINUET_"
NOT_SETTINGS: Final = ("MINUET_TEST_", "MINUET_CI", "MINUET_DEBUG")
"""Names that begin so are for tests, for CI and for whoever looks for a mistake: nobody's settings."""
LOG_LEVELS: Final = ("debug", "info", "warning", "error", "critical")

_UNITS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION: Final = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h|d)?\s*")
_RETRY: Final = ("attempts", "first", "factor", "at_most")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a program and its tools are told from outside. Times in ms; `sources` says where each value came from."""

    app: str | None = None
    store_url: str = "sqlite:///.minuet/minuet.db"
    broker_url: str = "embedded://"
    store_per_service: bool = False
    observer: bool = True
    api_url: str | None = None
    host: str = "127.0.0.1"
    port: int = 8640
    grace_ms: int = 25_000
    log_level: str = "info"
    runs_in_memory: int = bound.RUNS_IN_MEMORY
    slots: int = 64
    threads: int = 32
    abandoned_threads: int = 16
    retention_ms: int = bound.RETENTION_MS
    event_retention_ms: int = bound.EVENT_RETENTION_MS
    lease_ms: int = bound.LEASE_MS
    retry: RetryPolicy = bound.RETRY
    styles: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict, compare=False)

    def placement(self, workflow: str) -> Placement:
        """Give the styles of a workflow and of its sections.

        Names are compared without case, since the environment has only capitals.
        """
        root, sections = Placement().root, {}
        for name, style in self.styles.items():
            of, _, position = name.partition("/")
            if of.casefold() != workflow.casefold():
                continue
            if position:
                sections[position] = style
            else:
                root = style
        return Placement(root=root, sections=sections)

    def check_styles(self, workflows: Iterable[str]) -> None:
        """Refuse a style for a workflow that is not there."""
        known = {name.casefold(): name for name in workflows}
        for name in self.styles:
            of = name.partition("/")[0]
            if of.casefold() not in known:
                raise SettingsError(
                    f"a style is set for {of}, and there is no such workflow",
                    remedy=_did_you_mean(of.casefold(), known) or "Remove it",
                    setting=f"styles.{name}",
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One thing that can be set: its name in files, its field, what it means, its unit, and how it is read."""

    name: str
    field: str
    meaning: str
    unit: str = ""
    read: Callable[[Any], Any]

    @property
    def variable(self) -> str:
        """Give its name in the environment."""
        return PREFIX + self.name.upper()


def duration_ms(value: Any) -> int:
    """Read a duration: `"25s"`, `"500ms"`, `"1.5h"`, or a number of seconds; gives milliseconds.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, str) and (match := _DURATION.fullmatch(value)):
        return round(float(match[1]) * _UNITS[match[2] or "s"])
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value >= 0:
        return round(value * 1_000)
    raise ValueError(f"{value!r} is no duration; write 500ms, 25s, 5m, 2h or 30d")


def duration_text(span_ms: int) -> str:
    """Give a duration as it could be written in a setting: `500ms`, `25s`, `30d`."""
    for unit, length in reversed(_UNITS.items()):
        if span_ms and span_ms % length == 0:
            return f"{span_ms // length}{unit}"
    return "0s"


def masked(url: str) -> str:
    """Give a URL with its password hidden."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    place = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:***@{place}"))


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address is of this machine only."""
    name = host.lower().strip("[]")
    return name in ("localhost", "::1") or re.fullmatch(r"127(\.[0-9]{1,3}){3}", name) is not None


def _text(value: Any) -> str:
    if isinstance(value, str) and value.strip() and value.isprintable():
        return value.strip()
    raise ValueError(f"{value!r} is no text")


def _one_of(*known: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if isinstance(value, str) and value.lower() in known:
            return value.lower()
        hint = _did_you_mean(str(value).lower(), known)
        raise ValueError(f"{value!r} is none of {', '.join(known)}{'; ' + hint if hint else ''}")

    return read


def _flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and (word := value.strip().lower()) in _FLAGS:
        return _FLAGS[word]
    raise ValueError(f"{value!r} is neither true nor false")


_FLAGS: Final = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


def _count(least: int, most: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if isinstance(value, str) and re.fullmatch(r"[0-9_]{1,12}", value):
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return value
        raise ValueError(f"{value!r} is no whole number from {least:,} to {most:,}")

    return read


def _at_least(least_ms: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if (span_ms := duration_ms(value)) < least_ms:
            raise ValueError(f"{value!r} is shorter than {duration_text(least_ms)}")
        return span_ms

    return read


def _url(*schemes: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        text = _text(value)
        scheme = text.partition("://")[0]
        if "://" in text and scheme in schemes:
            return text
        raise ValueError(f"{masked(text)!r} does not begin with {' or '.join(s + '://' for s in schemes)}")

    return read


def _loopback(value: Any) -> str:
    host = _text(value)
    if not is_loopback(host):
        raise ValueError(
            f"{host!r} can be reached by other machines, and the API has no tokens yet; only loopback is allowed"
        )
    return host


def _factor(value: Any) -> float:
    number = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else math.nan
    if math.isfinite(number) and number >= 1:
        return number
    raise ValueError(f"{value!r} is no number from 1 upwards")


TABLE: Final = (
    Setting(name="app", field="app", meaning="the program: module:app", read=_text),
    Setting(name="store_url", field="store_url", meaning="where facts are kept: sqlite:///path", read=_url("sqlite")),
    Setting(name="broker_url", field="broker_url", meaning="how messages travel: embedded://", read=_url("embedded")),
    Setting(
        name="store_per_service",
        field="store_per_service",
        meaning="each service has a store of its own beside the store, and they share nothing but messages",
        read=_flag,
    ),
    Setting(
        name="observer",
        field="observer",
        meaning="keep the trace of all runs where no store has all of it, and look for what is late or stuck",
        read=_flag,
    ),
    Setting(
        name="api_url", field="api_url", meaning="where tools find the running program", read=_url("http", "https")
    ),
    Setting(name="host", field="host", meaning="address that the API listens at; loopback only", read=_loopback),
    Setting(name="port", field="port", meaning="port of the API; 0: any free one, printed", read=_count(0, 65_535)),
    Setting(
        name="grace",
        field="grace_ms",
        unit="duration",
        meaning="how long running actions may go on after SIGTERM",
        read=duration_ms,
    ),
    Setting(name="log_level", field="log_level", meaning=", ".join(LOG_LEVELS), read=_one_of(*LOG_LEVELS)),
    Setting(
        name="runs_in_memory",
        field="runs_in_memory",
        unit="runs",
        meaning="runs held in memory; the others wait in the store",
        read=_count(1, 10_000_000),
    ),
    Setting(name="slots", field="slots", unit="actions", meaning="actions running at once", read=_count(1, 100_000)),
    Setting(
        name="threads",
        field="threads",
        unit="threads",
        meaning="threads for actions that are a plain def",
        read=_count(1, 10_000),
    ),
    Setting(
        name="abandoned_threads",
        field="abandoned_threads",
        unit="threads",
        meaning="threads that may outlive their timeout before no more are started",
        read=_count(0, 10_000),
    ),
    Setting(
        name="retention",
        field="retention_ms",
        unit="duration",
        meaning="how long an ended run is kept",
        read=duration_ms,
    ),
    Setting(
        name="event_retention",
        field="event_retention_ms",
        unit="duration",
        meaning="how long a published event is kept that every reaction has heard",
        read=duration_ms,
    ),
    Setting(
        name="lease",
        field="lease_ms",
        unit="duration",
        meaning="how long a process that stopped without a word keeps its runs from others that share its store",
        read=_at_least(1_000),
    ),
)

_BY_NAME: Final = {setting.name: setting for setting in TABLE}
_RETRY_READERS: Final[Mapping[str, tuple[str, Callable[[Any], Any]]]] = {
    "attempts": ("attempts", _count(0, 1_000_000)),
    "first": ("first_ms", duration_ms),
    "factor": ("factor", _factor),
    "at_most": ("at_most_ms", duration_ms),
}


def load_settings(
    *,
    flags: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
    app: Mapping[str, Any] | None = None,
) -> Settings:
    """Gather the settings of this process.

    Args:
        flags: name to value, from the command line; a None is not there. Names are those of `TABLE`.
        environ: the environment; of this process by default.
        folder: where `pyproject.toml` and `minuet.toml` are looked for; the working directory by default.
        app: name to value, from `App(…)`; `styles` is a mapping, `retry` a mapping or a `RetryPolicy`.

    Raises:
        SettingsError: a name is not known, a value is not what it must be, or two files say something.
    """
    gathered = _Gathered()
    if isinstance(policy := (app or {}).get("retry"), RetryPolicy):
        gathered.retry_base = policy
        app = {name: value for name, value in (app or {}).items() if name != "retry"}
        gathered.sources["retry"] = "App(retry=…)"
    gathered.take(app or {}, "App({name}=…)")
    file, table = _file_table(folder or Path.cwd())
    gathered.take(table, file)
    gathered.take_environment(os.environ if environ is None else environ)
    gathered.take(flags or {}, "--{flag}")
    return gathered.settings()


class _Gathered:
    """Values by field, each with its source; later ones win."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.retry: dict[str, Any] = {}
        self.retry_base = bound.RETRY
        self.styles: dict[str, str] = {}
        self.sources: dict[str, str] = {}

    def take(self, table: Mapping[str, Any], where: str) -> None:
        """Take a table; `where` says for people where it is from, with `{name}` or `{flag}` in it."""
        for name, value in table.items():
            if value is None:
                continue
            source = where.format(name=name, flag=name.removesuffix("_url").replace("_", "-"))
            if name == "styles":
                for workflow, style in _mapping(value, name).items():
                    self.take_style(workflow, style, source)
            elif name == "retry":
                for part, inner in _mapping(value, name).items():
                    self.take_retry(part, inner, source)
            else:
                self.take_value(name, value, source)

    def take_environment(self, environ: Mapping[str, str]) -> None:
        for variable in sorted(environ):
            if not variable.startswith(PREFIX) or variable.startswith(NOT_SETTINGS):
                continue
            name, _, inner = variable.removeprefix(PREFIX).lower().partition("__")
            value = environ[variable]
            if name == "styles" and inner:
                self.take_style(inner, value, variable)
            elif name == "retry" and inner:
                self.take_retry(inner, value, variable)
            elif name in _BY_NAME and not inner:
                self.take_value(name, value, variable)
            else:
                known = [s.variable for s in TABLE] + [f"{PREFIX}RETRY__{part.upper()}" for part in _RETRY]
                raise _unknown(variable, [*known, f"{PREFIX}STYLES__WORKFLOW"], "the environment")

    def take_value(self, name: str, value: Any, source: str) -> None:
        if (setting := _BY_NAME.get(name)) is None:
            raise _unknown(name, [*_BY_NAME, "retry", "styles"], source)
        self.values[setting.field] = _read(setting.read, value, name, source)
        self.sources[name] = source

    def take_retry(self, part: str, value: Any, source: str) -> None:
        if part not in _RETRY_READERS:
            raise _unknown(f"retry.{part}", [f"retry.{known}" for known in _RETRY], source)
        name, reader = _RETRY_READERS[part]
        self.retry[name] = _read(reader, value, f"retry.{part}", source)
        self.sources[f"retry.{part}"] = source

    def take_style(self, name: str, value: Any, source: str) -> None:
        for known in [k for k in self.styles if k.casefold() == name.casefold()]:
            del self.styles[known], self.sources[f"styles.{known}"]
        self.styles[name] = _read(_one_of(*sorted(STYLES)), value, f"styles.{name}", source)
        self.sources[f"styles.{name}"] = source

    def settings(self) -> Settings:
        old = self.retry_base
        parts = {"attempts": old.attempts, "first_ms": old.first_ms, "factor": old.factor, "at_most_ms": old.at_most_ms}
        policy = RetryPolicy(**{**parts, "then": old.then, **self.retry})
        if policy.at_most_ms < policy.first_ms:
            source = self.sources.get("retry.at_most") or self.sources.get("retry.first", "")
            raise SettingsError(
                f"retry.at_most ({policy.at_most_ms} ms) is below retry.first ({policy.first_ms} ms), in {source}",
                remedy="Raise retry.at_most",
                setting="retry.at_most",
            )
        for setting in TABLE:
            self.sources.setdefault(setting.name, "default")
        for part in _RETRY:
            self.sources.setdefault(f"retry.{part}", self.sources.get("retry", "default"))
        self.sources.pop("retry", None)
        return Settings(**self.values, retry=policy, styles=self.styles, sources=self.sources)


def _file_table(folder: Path) -> tuple[str, Mapping[str, Any]]:
    """Give the name of the file that has settings, and what it says."""
    project, own = folder / "pyproject.toml", folder / "minuet.toml"
    of_project = _toml(project).get("tool", {}).get("minuet") if project.is_file() else None
    of_own = _toml(own) if own.is_file() else None
    if of_project is not None and of_own is not None:
        raise SettingsError(
            "minuet.toml and [tool.minuet] in pyproject.toml are both there", remedy="Keep one of the two"
        )
    if of_own is not None:
        return own.name, of_own
    return project.name, _mapping(of_project or {}, "tool.minuet")


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path.name} cannot be read: {error}", remedy="Correct it", file=path.name) from error


def _read(reader: Callable[[Any], Any], value: Any, name: str, source: str) -> Any:
    try:
        return reader(value)
    except ValueError as error:
        raise SettingsError(f"{name} in {source}: {error}", remedy="Correct it", setting=name, source=source) from error


def _mapping(value: Any, name: str) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        return value
    raise SettingsError(f"{name} is {value!r}, and must be a table", remedy="Correct it", setting=name)


def _unknown(name: str, known: Iterable[str], source: str) -> SettingsError:
    remedy = _did_you_mean(name, known) or "Remove it; `minuet doctor` lists what can be set"
    return SettingsError(f"{name} in {source} is no setting", remedy=remedy, setting=name, source=source)


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"Did you mean {close[0]}?" if close else ""
