"""Wrong starts: each marked line is an error of the type checker, and nothing else is."""

from __future__ import annotations

from minuet import App, Client, Service, action, workflow


class Desk(Service):
    @action
    async def open(self, order: str) -> int:
        return len(order)


@workflow
async def place(order: str, *, desk: Desk) -> int:
    return await desk.open(order)


async def starts(app: App, client: Client) -> None:
    right: int = await (await app.start(place, "o-1")).result()
    await client.start(place, "o-1", key="o-1")
    await app.start(place, right)  # error: misc
    await client.run(place, None)  # error: misc
    wrong: str = await app.run(place, "o-1")  # error: arg-type
    await app.start(place)  # error: call-arg
    print(wrong)
