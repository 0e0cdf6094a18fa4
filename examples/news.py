"""Reactions only: no workflow, nobody in control. A book is added, a page is made, readers are told.

python -m examples.news            adds two books, and prints what came of it
minuet run examples.news:app       stays, and hears `minuet events send library.book-added …`
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from minuet import App, Service, Transaction, event, injected, on, publish


@event("library.book-added", version=1, key="isbn", public=True)
@dataclass(frozen=True)
class BookAdded:
    isbn: str
    title: str


@event("library.page-made", version=1, key="isbn")
@dataclass(frozen=True)
class PageMade:
    isbn: str
    title: str
    url: str


@event("library.readers-told", version=1, key="isbn")
@dataclass(frozen=True)
class ReadersTold:
    isbn: str
    title: str


class Catalogue(Service):
    async def setup(self, tx: Transaction) -> None:
        await tx.execute("create table if not exists page (isbn text primary key, title text not null)")

    @on(BookAdded, order_key="isbn", emits=(PageMade,))  # one book's events in their order
    async def make_page(self, book: BookAdded, *, tx: Transaction = injected()) -> None:
        await tx.execute("insert or replace into page (isbn, title) values (?, ?)", book.isbn, book.title)
        publish(PageMade(book.isbn, book.title, f"/books/{book.isbn}"))  # leaves if, and only if, the insert does


class Mail(Service):
    @on(PageMade, emits=(ReadersTold,))
    async def tell_readers(self, page: PageMade) -> None:
        print(f"new: {page.title}, {page.url}")
        publish(ReadersTold(page.isbn, page.title))


class Statistics(Service):
    """Counts, exactly once for each event: in the transaction in which it is recorded as applied."""

    async def setup(self, tx: Transaction) -> None:
        await tx.execute("create table if not exists told (isbn text primary key, times integer not null)")

    @on(ReadersTold)
    async def count(self, told: ReadersTold, *, tx: Transaction = injected()) -> None:
        await tx.execute(
            "insert into told (isbn, times) values (?, 1) on conflict (isbn) do update set times = times + 1", told.isbn
        )
        row = await tx.fetch_one("select times from told where isbn = ?", told.isbn)
        print(f"told of {told.title}: {row['times'] if row else 0} times")


app = App("library", services=[Catalogue(), Mail(), Statistics()], store="sqlite:///news.db")


async def main() -> None:
    """Add two books, and wait until every reaction has heard everything."""
    async with app:
        await app.send(BookAdded("978-0", "On Minuets"), id="978-0/1")  # the same id again is the same event
        await app.send(BookAdded("978-1", "On Sarabands"), id="978-1/1")
        while any(s.position < s.newest for s in await app.control.letters.subscriptions()):
            await asyncio.sleep(0.1)


if __name__ == "__main__":
    asyncio.run(main())
