"""What Minuet costs, measured: `python -m benchmarks W1 W2 … [--peer dbos] [--json] [--check] [--quick]`.

One file a work (`w1_sequence.py` …), with its programs, its sizes and its bars; the same work done by a peer is in
`peer/`, under the same file name. `driver.py` measures each in a fresh process, in turn, at least three times.
"""
