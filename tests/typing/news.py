import msgspec

from minuet import Service, Transaction, event, injected, on, publish


@event("library.book-added", version=1, key="isbn", public=True)
class BookAdded(msgspec.Struct, frozen=True):
    isbn: str
    title: str


@event("library.page-made", version=1, key="isbn")
class PageMade(msgspec.Struct, frozen=True):
    isbn: str
    url: str


class Catalogue(Service):
    @on(BookAdded, order_key="isbn", emits=(PageMade,))  # one book's events in their order
    async def make_page(self, book: BookAdded, tx: Transaction = injected()) -> None:
        await tx.execute("insert into page (isbn, title) values (?, ?)", book.isbn, book.title)
        publish(PageMade(book.isbn, f"/books/{book.isbn}"))  # leaves if, and only if, the insert does


class Mail(Service):
    @on(PageMade)
    async def tell_readers(self, page: PageMade) -> None: ...
