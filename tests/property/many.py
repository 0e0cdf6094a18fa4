"""What `make equality` runs: every way to perform a random workflow comes to what the reference interpreter says.

*trees* are performed by the engine over rows in a dictionary; *texts* are written as Python, read by the reader, and
compared with Python itself; *hosted* performances are those of real participants over real stores, in every style.
`python -m tests.property.many --performances 100000` prints its progress, and one line of JSON at the end.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context

from tests.property import equality, hosted, text

SHARE = 500  # trees or texts that one process checks at a time
TOGETHER = 24  # workflows of one batch of hosted performances
PER_WORKFLOW = len(hosted.PLACEMENTS) * hosted.WORLDS

Share = tuple[str, int, int, int]
"""What it is, the first seed, how many, how deep."""


def check(share: Share) -> tuple[str, Counter[str], list[str]]:
    """Check a share, in a process of its own; gives its kind, what was counted, and the differences."""
    kind, first, number, depth = share
    logging.disable(logging.WARNING)
    if kind == "hosted":
        return kind, *hosted.perform(first, number, depth)
    counts, differences = Counter[str](), []
    for seed in range(first, first + number):
        try:
            counts += equality.check(seed, depth=depth) if kind == "trees" else text.check(seed)
        except Exception as e:  # every kind of failure is a difference, and is shown with its seed
            differences.append(f"{kind} seed {seed}: {type(e).__name__}: {str(e)[:600]}")
    return kind, counts, differences


def shares(given: argparse.Namespace) -> Iterator[Share]:
    """Divide what is to be done; what takes longest comes first."""
    batches = -(-given.performances // (TOGETHER * PER_WORKFLOW))
    yield from (("hosted", given.first + i, TOGETHER, given.depth) for i in range(batches))
    texts = given.texts if given.texts is not None else given.workflows // 5
    for kind, number in (("trees", given.workflows), ("texts", texts)):
        for done in range(0, number, SHARE):
            yield kind, given.first + done, min(SHARE, number - done), given.depth


def main() -> int:
    """Check many; the exit code is 1 if any differs, or if some kind of node was never made."""
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--performances", type=int, default=20_000, help="hosted ones, at least so many")
    cli.add_argument("--workflows", type=int, default=10_000, help="random trees for the engine alone")
    cli.add_argument("--texts", type=int, help="how many are written as Python text; a fifth of those if not given")
    cli.add_argument("--first", type=int, default=0, help="the first seed, and the first batch")
    cli.add_argument("--depth", type=int, default=3)
    cli.add_argument("--processes", type=int, default=2)
    given = cli.parse_args()
    began, todo = time.monotonic(), list(shares(given))
    total, differences = Counter[str](), 0
    with ProcessPoolExecutor(given.processes, mp_context=get_context("spawn")) as pool:
        for n, done in enumerate(as_completed([pool.submit(check, share) for share in todo]), 1):
            kind, counts, wrong = done.result()
            total.update({f"{kind} {what}": many for what, many in counts.items()})
            for what in wrong[: max(0, 5 - differences)]:
                print(what, file=sys.stderr)
            differences += len(wrong)
            if n % 5 == 0 or wrong or n == len(todo):
                print(f"{n} of {len(todo)} shares, {differences} differences", file=sys.stderr, flush=True)
    missing = [kind for kind in equality.WANTED if given.workflows and not total[f"trees {kind}"]]
    missing += [f"text {kind}" for kind in text.WANTED if total["texts performances"] and not total[f"texts {kind}"]]
    shown = {what: total[what] for what in sorted(total)}
    print(
        json.dumps({"differences": differences, "missing": missing, **shown, "secs": round(time.monotonic() - began)})
    )
    return 1 if differences or missing else 0


if __name__ == "__main__":
    sys.exit(main())
