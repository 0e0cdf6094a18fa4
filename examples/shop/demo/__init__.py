"""The shop at work: thousands of orders, a worker that is killed in the middle, and books that add up all the same.

`make demo`, or `python -m examples.shop.demo --orders 3000 --kills 2`.
"""
