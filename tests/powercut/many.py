"""What `make images` runs: power cuts at thousands of points, of one record after the other, and of disks that fail.

`python -m tests.powercut.many --images 20000` prints its progress, a line for each image that is not as it should be,
and one line of JSON at the end. A tenth of the images is of a script of which every operation has failed in every way.
`--seed 7 --cut 1234` repeats an image, as does `--failing death --at 145 --cut 150`. `--synchronous NORMAL` weakens
what the store demands of SQLite, and shows what would be found then.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context

from tests.powercut.failing import Failing, operations, perform
from tests.powercut.images import WANTED, Fault, cuts_of, examine, record_of

A_RECORD = 500  # images
NAMES = ("OFF", "NORMAL")
SYNCHRONOUS = {"OFF": 0, "NORMAL": 1, "FULL": None}
SHOWN_AT_MOST = 20
SHARES = 12  # of the operations that fail


def check(
    seed: int, images: int, synchronous: int | None = None, cut: int | None = None
) -> tuple[Counter[str], list[Fault]]:
    """Record a disk, and examine so many of its images, or the one at this point."""
    record = record_of(seed, synchronous=synchronous)
    cuts = cuts_of(record, seed, images) if cut is None else [cut]
    repeat = f"--seed {seed}"
    if synchronous is not None:
        repeat += f" --synchronous {NAMES[synchronous]}"
    return examine(record, seed, cuts, recovers=synchronous is None, repeat=repeat)


def check_many(images: int, first: int, synchronous: int | None = None) -> tuple[Counter[str], list[Fault]]:
    """Examine so many images of records from this seed on."""
    counts, faults = Counter[str](), list[Fault]()
    for n in range(-(-images // A_RECORD)):
        more, found = check(first + n, min(A_RECORD, images - n * A_RECORD), synchronous)
        counts += more
        faults += found
    return counts, faults


def missing(counts: Counter[str]) -> list[str]:
    """Give what never happened, and should have."""
    return [what for what in WANTED if not counts[what]]


def check_failing(first: int, step: int, cuts: int) -> tuple[Counter[str], list[Fault]]:
    """Have operations of the script fail in every way, from one on and so far apart; cut the power after each."""
    counts, faults = Counter[str](), list[Fault]()
    for at in range(first, len(operations()), step):
        for how in Failing:
            more, found = perform(how, at, cuts)
            counts += more
            faults += found
    return counts, faults


def main() -> int:
    """Examine many; the exit code is 1 if an image is not as it should be, or if something never happened."""
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--images", type=int, default=20_000)
    cli.add_argument("--seed", type=int, default=0, help="the first record")
    cli.add_argument("--cut", type=int, help="this point only: of that record, or of the script")
    cli.add_argument("--failing", choices=list(Failing), help="the script, failing in this way …")
    cli.add_argument("--at", type=int, help="… at this operation")
    cli.add_argument("--synchronous", choices=list(SYNCHRONOUS), default="FULL")
    cli.add_argument("--processes", type=int, default=2)
    given = cli.parse_args()
    if given.failing is not None and given.at is not None:
        return _tell(*perform(Failing(given.failing), given.at, [] if given.cut is None else [given.cut]))
    synchronous = SYNCHRONOUS[given.synchronous]
    if given.cut is not None:
        return _tell(*check(given.seed, 1, synchronous, given.cut))
    return _examine_all(given, synchronous)


def _tell(counts: Counter[str], faults: list[Fault]) -> int:
    print(*map(str, faults), json.dumps({"wrong": len(faults), **counts}), sep="\n")
    return 1 if faults else 0


def _examine_all(given: argparse.Namespace, synchronous: int | None) -> int:
    began, total, wrong = time.monotonic(), Counter[str](), Counter[str]()
    with ProcessPoolExecutor(given.processes, mp_context=get_context("spawn")) as pool:
        todo = []
        if synchronous is None:
            cuts = -(-given.images // 10 // (len(operations()) * len(Failing)))
            todo = [pool.submit(check_failing, first, SHARES, cuts) for first in range(SHARES)]
        for n in range(-(-given.images // A_RECORD)):
            images = min(A_RECORD, given.images - n * A_RECORD)
            todo.append(pool.submit(check, given.seed + n, images, synchronous))
        for done in as_completed(todo):
            counts, faults = done.result()
            total += counts
            for fault in faults:
                if wrong.total() < SHOWN_AT_MOST:
                    print(fault, file=sys.stderr)
                wrong[fault.kind] += 1
            secs = time.monotonic() - began
            print(f"{total['images']} images, {wrong.total()} wrong, {secs:.0f} s", file=sys.stderr, flush=True)
    lacking = missing(total)
    shown = {"synchronous": given.synchronous, "wrong": dict(wrong), "missing": lacking, **total}
    print(json.dumps({**shown, "secs": round(time.monotonic() - began)}))
    return 1 if wrong or lacking else 0


if __name__ == "__main__":
    sys.exit(main())
