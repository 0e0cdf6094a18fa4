from datetime import date, datetime
from pathlib import Path

from pydantic import BaseModel

from minuet import Context, Rejection, Service, action, compensation, each, injected, workflow


class Day(BaseModel):
    day: date


class Loaded(BaseModel):
    file: str
    rows: int


class BadFile(Rejection): ...


class Lake(Service):
    def __init__(self, root: Path) -> None:
        self.root = root

    @action(pure=True)
    async def files(self, day: Day) -> list[str]:
        return sorted(str(p) for p in self.root.glob(f"{day.day}/*.csv"))

    @action(rejects=(BadFile,))
    async def load(self, file: str, *, context: Context = injected()) -> Loaded:
        rows = Path(file).read_text().splitlines()
        for n, _row in enumerate(rows):
            context.progress(n / len(rows), file)  # kept with the attempt; also says "still alive"
        return Loaded(file=file, rows=len(rows))

    @compensation(load)
    async def unload(self, loaded: Loaded) -> None: ...
    @action
    async def publish_day(self, loaded: list[Loaded]) -> int:
        return sum(x.rows for x in loaded)


@workflow
async def nightly(day: Day, *, lake: Lake) -> int:
    files = await lake.files(day)
    loaded = await each(files, lambda f: lake.load(f).retry(3), limit=1000, at_once=8)
    return await lake.publish_day(loaded)  # all or nothing: a bad file unloads the rest


def day_of(due: datetime) -> Day:
    return Day(day=due.date())
