from __future__ import annotations

import json
import subprocess
import sys

_SCRIPT = """
import gc, json
from minuet.runtime.process import tune_process
before = gc.get_threshold()
tune_process()
print(json.dumps([before, gc.get_threshold(), gc.get_freeze_count()]))
"""


def test_only_a_process_that_asks_for_it_is_tuned() -> None:
    done = subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, text=True, check=True)
    before, after, frozen = json.loads(done.stdout)
    assert before == [700, 10, 10] or sys.version_info >= (3, 12)
    assert after[0] > before[0]
    assert frozen > 1_000
