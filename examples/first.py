"""A workflow in twenty lines: book a room and a flight, or neither."""

import asyncio

from minuet import App, Rejection, Service, action, compensation, workflow


class FullyBooked(Rejection): ...


class Travel(Service):
    @action
    async def book_room(self, city: str) -> str:
        return f"a room in {city}"

    @compensation(book_room)
    async def cancel_room(self, room: str) -> None:
        print(f"cancelled: {room}")

    @action(rejects=(FullyBooked,))
    async def book_flight(self, city: str) -> str:
        if city == "Atlantis":
            raise FullyBooked(f"no seat to {city}")
        return f"a flight to {city}"


@workflow
async def book_trip(city: str, *, travel: Travel) -> list[str]:
    room = await travel.book_room(city)  # undone by cancel_room, should anything after it say no
    flight = await travel.book_flight(city)
    return [room, flight]


app = App("first", services=[Travel()], workflows=[book_trip], store="sqlite:///.minuet/first.db")


async def main() -> None:
    async with app:
        print(await app.run(book_trip, "Lisbon"))  # the run survives a kill -9 at any point


if __name__ == "__main__":
    asyncio.run(main())
