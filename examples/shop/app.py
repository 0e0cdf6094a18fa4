"""The program: `minuet run examples.shop:app`."""

import os
from datetime import timedelta

from examples.shop.inventory import Inventory
from examples.shop.orders import Orders
from examples.shop.payments import Payments
from examples.shop.shipping import Shipping
from examples.shop.workflows import place_order
from minuet import App

DELIVERED = {"tea": 100_000, "coffee": 100_000, "cups": 50_000, "a teapot from 1820": 40}


def hours(setting: str, default: float) -> timedelta:
    """Read how many hours something takes: weeks in a shop, seconds in its demo."""
    return timedelta(hours=float(os.environ.get(setting, default)))


app = App(
    "shop",
    services=[
        Orders(pick_up_within=hours("SHOP_PICK_UP_HOURS", 4), return_window=hours("SHOP_RETURN_HOURS", 14 * 24)),
        Payments(),
        Inventory(DELIVERED),
        Shipping(),
    ],
    workflows=[place_order],
    store="sqlite:///.minuet/shop.db",
)

if __name__ == "__main__":
    app.main()
