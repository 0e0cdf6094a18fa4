"""No space: nothing is recorded, whoever handed something in is told so, and it goes on when there is space again."""

from __future__ import annotations

from minuet.errors import StoreError, StoreFull
from tests.powercut.disk import Disk
from tests.powercut.driver import simulated_disks
from tests.powercut.failing import wrong_in_the_end
from tests.powercut.script import PASSIVE_PAGES, RUNS, Scripted
from tests.powercut.trade import NOTE

SPACE = 1 << 30  # pages
REFUSED = 2  # times, until there is space again


class Cramped(Scripted):
    """The script in a database that may have so many pages more than when it began."""

    def __init__(self, disk: Disk, pages: int) -> None:
        super().__init__(disk, self._make_room, note=NOTE * 150)
        self.unchanged = list[bool]()
        self._more = pages

    def _set_up(self) -> bool:
        done = super()._set_up()
        if done:
            self._limit(self._count() + self._more)
        return done

    def _make_room(self, error: StoreError) -> None:
        assert isinstance(error, StoreFull)
        self.unchanged.append(self.record.peek() == self.record.states[-1].digest)
        if len(self.failures) % REFUSED == 0:
            self._limit(SPACE)

    def _limit(self, pages: int) -> None:
        self.groups._connection.execute(f"pragma max_page_count = {pages}").fetchall()

    def _count(self) -> int:
        (pages,) = self.groups._connection.execute("pragma page_count").fetchone()
        return int(pages)


def test_a_database_that_may_not_grow_refuses_and_goes_on_when_it_may() -> None:
    limit = 0
    with simulated_disks(passive_pages=PASSIVE_PAGES):
        while True:
            disk = Disk()
            cramped = Cramped(disk, limit)
            cramped.perform()
            assert list(wrong_in_the_end(disk, RUNS)) == []
            disk.close()
            if not cramped.failures:
                break
            assert len(cramped.failures) == REFUSED
            assert all(cramped.unchanged)
            limit += 1
    assert limit > 5, "it never needed space"
    print(f"{limit} limits, each refused {REFUSED} times")
