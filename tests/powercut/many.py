"""What `make images` runs: power cuts at thousands of points, of one record after the other.

`python -m tests.powercut.many --images 20000` prints its progress, a line for each image that is not as it should be,
and one line of JSON at the end. `--seed 7 --cut 1234` repeats one image. `--synchronous NORMAL` weakens what the store
demands of SQLite, and shows what would be found then.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context

from tests.powercut.images import WANTED, Fault, cuts_of, examine, record_of

A_RECORD = 500  # images
SYNCHRONOUS = {"OFF": 0, "NORMAL": 1, "FULL": None}
SHOWN_AT_MOST = 20


def check(seed: int, images: int, synchronous: int | None = None) -> tuple[Counter[str], list[Fault]]:
    """Record a disk, and examine so many of its images."""
    record = record_of(seed, synchronous=synchronous)
    return examine(record, seed, cuts_of(record, seed, images), recovers=synchronous is None)


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


def main() -> int:
    """Examine many; the exit code is 1 if an image is not as it should be, or if something never happened."""
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--images", type=int, default=20_000)
    cli.add_argument("--seed", type=int, default=0, help="the first record")
    cli.add_argument("--cut", type=int, help="this point of that record only")
    cli.add_argument("--synchronous", choices=list(SYNCHRONOUS), default="FULL")
    cli.add_argument("--processes", type=int, default=2)
    given = cli.parse_args()
    synchronous = SYNCHRONOUS[given.synchronous]
    if given.cut is not None:
        counts, faults = examine(record_of(given.seed, synchronous=synchronous), given.seed, [given.cut])
        print(*map(str, faults), json.dumps({"wrong": len(faults), **counts}), sep="\n")
        return 1 if faults else 0
    began, total, wrong = time.monotonic(), Counter[str](), Counter[str]()
    todo = [
        (given.seed + n, min(A_RECORD, given.images - n * A_RECORD), synchronous)
        for n in range(-(-given.images // A_RECORD))
    ]
    with ProcessPoolExecutor(given.processes, mp_context=get_context("spawn")) as pool:
        for done in as_completed([pool.submit(check, *share) for share in todo]):
            counts, faults = done.result()
            total += counts
            for fault in faults:
                if wrong.total() < SHOWN_AT_MOST:
                    print(fault, file=sys.stderr)
                wrong[fault.kind] += 1
            secs = time.monotonic() - began
            print(f"{total['images']} images, {wrong.total()} wrong, {secs:.0f} s", file=sys.stderr, flush=True)
    shown = {"synchronous": given.synchronous, "wrong": dict(wrong), "missing": missing(total), **total}
    print(json.dumps({**shown, "secs": round(time.monotonic() - began)}))
    return 1 if wrong or missing(total) else 0


if __name__ == "__main__":
    sys.exit(main())
