"""Numbered migrations: found, ordered, verified against what a store says was applied. Forward only.

A migration is a file `0001.sql` that is never edited once released; its checksum is kept in the store, so that
an edited file, or a store of a later release, is noticed before anything is read or written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from minuet.errors import StoreDamaged


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One step of the schema: its number, its SQL, and the SHA-256 of that."""

    number: int
    sql: str
    checksum: str


def find_migrations(folder: Path) -> list[Migration]:
    """Read the migrations of a folder, in order; numbers begin at 1 and have no gaps."""
    found = []
    for expected, file in enumerate(sorted(folder.glob("*.sql")), start=1):
        assert int(file.stem) == expected, f"{file.name}: expected number {expected}"
        sql = file.read_text(encoding="utf-8")
        found.append(Migration(number=expected, sql=sql, checksum=hashlib.sha256(sql.encode()).hexdigest()))
    return found


def pending_migrations(known: Iterable[Migration], applied: Iterable[tuple[int, str]], store: str) -> list[Migration]:
    """Give the migrations that are still to be applied to `store` (its name is for the message).

    Raises:
        StoreDamaged: the store is of a later release, or was made by other text under the same number.
    """
    left = {migration.number: migration for migration in known}
    newest = max(left, default=0)
    for number, checksum in applied:
        migration = left.pop(number, None)
        if migration is None:
            raise StoreDamaged(
                f"{store} has schema {number}, this release knows up to {newest}",
                remedy="Open it with the release that wrote it, or a later one",
                store=store,
                schema=number,
            )
        if migration.checksum != checksum:
            raise StoreDamaged(
                f"schema {number} of {store} was made by another text than this release has",
                remedy="Restore a backup, or open it with the release that wrote it",
                store=store,
                schema=number,
            )
    return [left[number] for number in sorted(left)]
