"""A shop: four services with tables of their own, and the workflow that brings them together.

Read `workflows.py` first, then any of `orders.py`, `payments.py`, `inventory.py`, `shipping.py`; `app.py` puts them
together.
"""

from examples.shop.app import app

__all__ = ["app"]
