"""A nightly batch: a folder of files, loaded all or none of them, eight at a time.

`python -m examples.batch FOLDER 2026-01-31` loads `FOLDER/2026-01-31/*.csv`.
"""

import asyncio
import sys
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from minuet import App, Context, Rejection, RunRejected, Service, action, compensation, each, injected, workflow


@dataclass(frozen=True)
class Day:
    day: date


@dataclass(frozen=True)
class Loaded:
    file: str
    rows: int


class BadFile(Rejection): ...


class Lake(Service):
    def __init__(self, root: Path) -> None:
        self.root = root

    @action(pure=True)
    def files(self, day: Day) -> list[str]:
        return sorted(str(path) for path in self.root.glob(f"{day.day}/*.csv"))

    @action(rejects=(BadFile,))
    def load(self, file: str, *, context: Context = injected()) -> Loaded:  # a plain def: it runs in a thread
        rows = Path(file).read_text(encoding="utf-8").splitlines()
        for n, row in enumerate(rows):
            if not row.strip():
                raise BadFile(f"line {n + 1} of {file} is empty")
            context.progress(n / len(rows), file)
        return Loaded(file, len(rows))

    @compensation(load)
    def unload(self, loaded: Loaded) -> None:
        print(f"unloaded {loaded.file}")

    @action
    async def publish_day(self, loaded: list[Loaded]) -> int:
        return sum(one.rows for one in loaded)


@workflow
async def nightly(day: Day, *, lake: Lake) -> int:
    files = await lake.files(day)
    loaded = await each(files, lambda file: lake.load(file).retry(3), limit=1000, at_once=8)
    return await lake.publish_day(loaded)  # all or nothing: one bad file unloads the rest


async def main(folder: str, day: str) -> None:
    app = App("batch", services=[Lake(Path(folder))], workflows=[nightly], store="sqlite:///.minuet/batch.db")
    async with app:
        run = await app.start(nightly, Day(date.fromisoformat(day)), key=day, again=True)
        try:
            print(f"{await run.result()} rows are published")
        except RunRejected as no:
            print(f"nothing is published: {no.rejection}")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
