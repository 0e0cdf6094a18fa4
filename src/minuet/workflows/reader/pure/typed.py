"""Expressions with their types, and what follows from both: conversion, truth, elements."""

from __future__ import annotations

from dataclasses import dataclass

from minuet.workflows.expression import Expression
from minuet.workflows.reader.pure.valuetype import UNKNOWN, TupleType, ValueType, conversion, unwrapped


@dataclass(frozen=True, slots=True)
class Typed:
    """An expression with its type; `is_raw` says that its value is still as JSON has it."""

    expression: Expression
    type: ValueType
    is_raw: bool = True


POISON = Typed(("lit", None), UNKNOWN)
"""What a refused expression is read as: it gives no second finding."""


def python_value(typed: Typed) -> Expression:
    """Give the expression whose value is as Python has it: a raw one is converted by its type."""
    if typed.is_raw and (kind := conversion(typed.type)) is not None:
        return ("as", kind, typed.expression)
    return typed.expression


def element_of_tuple(base: Typed, place: int) -> Typed:
    """Give an element of a tuple whose length is known; that is never missing."""
    t = unwrapped(base.type)
    assert isinstance(t, TupleType)
    whole: Expression = ("as", ("tuple", (None,) * len(t.items)), base.expression)
    return Typed(("index", whole, ("lit", place)), t.items[place], base.is_raw)
