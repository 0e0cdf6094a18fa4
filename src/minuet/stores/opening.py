"""Open a store by its URL."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from minuet.errors import MissingExtra, SettingsError

if TYPE_CHECKING:
    from minuet.stores.sqlite.store import SqliteStore

_KNOWN = "Use sqlite:///file.db, sqlite:////absolute/file.db, or sqlite:// for a store in memory"


def open_store(url: str) -> SqliteStore:
    """Give the store that a URL names, still to be opened.

    Raises:
        SettingsError: the URL is of no kind that is known.
        MissingExtra: a driver is missing.
    """
    from minuet.stores.sqlite.store import SqliteStore

    return SqliteStore(store_file(url))


def beside(url: str, name: str) -> str:
    """Give the URL of a store beside another one: `shop.db` and `payments` give `shop.payments.db`.

    Raises:
        SettingsError, MissingExtra: as `open_store`.
    """
    file = store_file(url)
    if file is None:
        return url  # in memory each is one of its own
    return f"sqlite:///{file.with_name(f'{file.stem}.{name}{file.suffix}').as_posix()}"


def store_file(url: str) -> Path | None:
    """Give the file of a `sqlite` URL; None where it is a store in memory.

    Raises:
        SettingsError, MissingExtra: as `open_store`.
    """
    if url == ":memory:":
        return None
    parts = urlsplit(url)
    match parts.scheme:
        case "sqlite":
            pass
        case "postgresql" | "postgres":
            raise MissingExtra("this release has no PostgreSQL store yet", remedy=_KNOWN)
        case "":
            raise SettingsError(f"the store URL {url!r} has no scheme", remedy=_KNOWN, url=url)
        case scheme:
            raise SettingsError(f"the store URL has the unknown scheme {scheme!r}", remedy=_KNOWN, scheme=scheme)
    if parts.netloc or parts.query or parts.fragment:
        raise SettingsError(f"the store URL {url!r} has a host or options, and a file has none", remedy=_KNOWN, url=url)
    path = unquote(parts.path)
    if path in ("", "/:memory:"):
        return None
    if path.endswith("/"):
        raise SettingsError(f"the store URL {url!r} names no file", remedy=_KNOWN, url=url)
    return Path(path.removeprefix("/"))
