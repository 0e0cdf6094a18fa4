"""When a failed attempt is tried again. The engine is the only retry owner."""

from __future__ import annotations

import hashlib

from minuet.contracts.action import RetryPolicy


def delay_ms(policy: RetryPolicy, attempts: int, key: str) -> int:
    """Give the delay after so many failed attempts: `min(first × factorⁿ, at_most)`, times a jitter in [½, 1].

    The jitter is a hash of the operation key and the attempt: spread out, and the same whenever it is asked for.
    """
    exponent = min(attempts - 1, 64)
    longest = min(policy.first_ms * policy.factor**exponent, policy.at_most_ms)
    spread = hashlib.blake2b(f"{key}:{attempts}".encode(), digest_size=4).digest()
    return max(1, round(longest * (0.5 + int.from_bytes(spread) / 0xFFFFFFFF / 2)))


def total_ms(policy: RetryPolicy) -> float:
    """Give the longest time that all delays of a policy take together; infinite where it tries for ever."""
    if policy.attempts == 0:
        return float("inf")
    return sum(min(policy.first_ms * policy.factor**n, policy.at_most_ms) for n in range(policy.attempts - 1))
