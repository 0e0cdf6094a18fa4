"""What cannot be applied: why, and what belongs together. A dead letter is a row of ours, never a message sent on."""

from __future__ import annotations

import hashlib
import re
from enum import StrEnum


class Reason(StrEnum):
    """Why an event is a dead letter of a subscription."""

    EXHAUSTED = "exhausted"  # every attempt failed
    REFUSED = "refused"  # the reaction failed in a way that no repetition mends
    SECOND_CAUSE = "second-cause"  # an action has taken effect for this business key already, by another path
    UNREADABLE = "unreadable"  # its data is not what its type declares
    NEWER_VERSION = "newer-version"  # of a version that this release does not know
    HOP_LIMIT = "hop-limit"  # reactions have caused one another for too long: most likely a circle
    UNKNOWN_TYPE = "unknown-type"  # of a type that its subscription does not hear, in this release
    GAP = "gap"  # what came before it of its key does not come
    LATE = "late"  # something newer of its key was applied before it came
    TOO_OLD = "too-old-to-deduplicate"  # nobody can say any more whether it was applied before


# What differs from one event to the next, and says nothing about the cause.
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"|`[^`]*`")
_NUMBER = re.compile(r"\b(?:0x)?[0-9a-fA-F]*[0-9][0-9a-fA-F-]*\b")


def fingerprint(subscription: str, reason: str, error: str) -> str:
    """Give what dead letters of one cause have in common: 8 hex digits of who, why, and the error without values."""
    bare = _NUMBER.sub("#", _QUOTED.sub("…", error.partition("\n")[0]))
    return hashlib.blake2b(f"{subscription}\0{reason}\0{bare}".encode(), digest_size=4).hexdigest()


def letter_id(subscription: str, entry: int) -> str:
    """Give the public id of what a subscription does with one event: `mail.tell_readers:17`."""
    return f"{subscription}:{entry}"


def parse_letter(text: str) -> tuple[str, int] | None:
    """Read what `letter_id` wrote; None if it is not one."""
    name, colon, entry = text.rpartition(":")
    if not name or not colon or not (entry.isascii() and entry.isdigit()) or len(entry) > 18:
        return None
    return name, int(entry)
