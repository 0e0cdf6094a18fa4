"""Each refusal, in its variants: the code, the exact place, and that message and remedy name the thing.

The place where a finding must stand is marked with « in the text; the mark is taken out before it is read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType

import pytest

from minuet.errors import WorkflowRefused
from minuet.finding import Finding, Severity
from minuet.workflows.reader import read, read_workflow
from minuet.workflows.refusal import EXPLANATIONS

from .conftest import PRELUDE, around

CALLEE = "@workflow\nasync def g(order: Order, *, payments: Payments) -> None: ..."
CHARGE = "await payments.charge('o', Decimal(1))"
STEP = "await payments.review(Receipt('r'))"


@dataclass(frozen=True)
class Case:
    code: str
    text: str
    message: str
    remedy: str
    before: str = ""
    is_whole: bool = False

    def __str__(self) -> str:
        return f"{self.code}-{' '.join(self.text.split())[:60]}"


def body(code: str, text: str, message: str, remedy: str, before: str = "") -> Case:
    return Case(code, text, message, remedy, before)


def whole(code: str, text: str, message: str, remedy: str) -> Case:
    return Case(code, text, message, remedy, is_whole=True)


CASES = [
    # M002: the signature
    whole(
        "M002", "@workflow\n«def f(order: Order, *, payments: Payments) -> None: ...", "f is a plain def", "async def"
    ),
    whole(
        "M002",
        "@workflow\nasync def f(*«orders: Order, payments: Payments) -> None: ...",
        "f takes *orders",
        "name each",
    ),
    whole(
        "M002",
        "@workflow\nasync def f(order: Order, *, payments: Payments, **«more: Order) -> None: ...",
        "f takes **more",
        "name each",
    ),
    whole("M002", "@workflow\n«async def f(order: Order) -> None: ...", "f has no services", "keyword-only"),
    whole(
        "M002",
        "@workflow\nasync def f(order: Order, «payments: Payments) -> None: ...",
        '"payments" is positional',
        "behind a *",
    ),
    whole(
        "M002",
        "@workflow\nasync def f(order: Order, *, payments: Payments, «limit: int) -> None: ...",
        '"limit" is keyword-only, and no service',
        "before the *",
    ),
    whole(
        "M002",
        "@workflow\nasync def f(order: str = «'x', *, payments: Payments) -> None: ...",
        "has a default",
        "leave it out",
    ),
    body("M002", "x = («yield 1)", "a workflow yields", "return one value"),
    # M003: annotations
    whole(
        "M003",
        "@workflow\nasync def f(«order, *, payments: Payments) -> None: ...",
        'the type of "order" is needed to carry it between services',
        "annotate it: order",
    ),
    whole(
        "M003",
        "@workflow\nasync def f(order: «'Ordr', *, payments: Payments) -> None: ...",
        "'Ordr' is not known",
        "define or import it",
    ),
    whole(
        "M003",
        "@workflow\nasync def f(order: «Any, *, payments: Payments) -> None: ...",
        '"order" is Any',
        "name a type",
    ),
    whole(
        "M003",
        "@workflow\nasync def f(order: «object, *, payments: Payments) -> None: ...",
        '"order" cannot travel',
        "",
    ),
    whole(
        "M003",
        "@workflow\n«async def f(order: Order, *, payments: Payments): ...",
        "f does not say what it returns",
        "-> None",
    ),
    whole(
        "M003",
        "@workflow\nasync def f(order: Order, *, payments: Payments) -> «Any: ...",
        "the result is Any",
        "name a type",
    ),
    body("M003", "x: «Any = 1", "Any says nothing", "name a type"),
    body("M003", "x: «Nothing = 1", "Nothing is not known", "define or import it"),
    # M004: whatever nobody would execute
    body(
        "M004",
        "x = «requests.get('u')",
        "requests.get(…) would be executed by nobody",
        "into an action",
        "requests = msgspec.json",
    ),
    body("M004", "«print('x')", "print(…) would be executed by nobody", "move it into an action"),
    body(
        "M004",
        "await «helper()",
        "helper() would be executed by nobody",
        "into an action",
        "async def helper() -> None: ...",
    ),
    body("M004", "x = «helper()", '"helper" is not defined', "define or import"),
    body("M004", "x = «later()\n", '"later" is defined below', "move it up"),
    body("M004", "x = «order.weight()", "weight() is a method of Order", "return it from an action"),
    body("M004", "x = «order.id.upper()", "upper() is a method of str", "return it from an action"),
    body("M004", "x = order.«size", "size is a property of Order", "return it from an action"),
    body("M004", "x = order.«totl", "Order has no field totl", "did you mean total?"),
    body("M004", "x = order.id.«year", "values of type str have no fields", "return it from an action"),
    body("M004", "await payments.«chrge('o', Decimal(1))", "payments has no action chrge", "did you mean charge?"),
    body("M004", "await «payments.charge('o')", 'lacks "amount"', "order: str"),
    body("M004", "await payments.charge('o', Decimal(1), 'c', «4)", "takes 3 arguments, not 4", "leave"),
    body("M004", "await payments.charge('o', Decimal(1), «crd='c')", 'no parameter "crd"', "did you mean card?"),
    body(
        "M004", "await payments.charge('o', Decimal(1), «order='c')", '"order" of charge(…) is given twice', "leave one"
    ),
    body("M004", "await payments.charge(*«order.lines)", "unpacked with *", "write each argument"),
    body("M004", "await payments.charge(**«order.lines)", "unpacked with *", "write each argument"),
    body(
        "M004",
        "await inventory.pick(order.lines[0], «context=order)",
        '"context" of pick(…) is injected',
        "leave it out",
    ),
    body("M004", "x = («y := 1)", ":= binds a name", "line of its own"),
    body("M004", "x = [«*order.lines]", "unpacked with *", "add lists with +"),
    body("M004", "x = {'a': 1, **«{'b': 2}}", "unpacked with **", "write its keys"),
    body("M004", "x = {«1: 2}", "a key is of type int", "keys of JSON are text"),
    body("M004", "x = «order.total * 0.5", "a Decimal is mixed with a float", 'Decimal("…")'),
    body("M004", "x = «order.total > order.rate", "a Decimal is compared with a float", 'Decimal("…")'),
    body("M004", "x = «order == order", "compares whole records", "compare their fields"),
    body("M004", "x = «order in [order]", "compares whole records", "compare their fields"),
    body("M004", "x = «order.id == 3", "str is never equal to int", "one type"),
    body("M004", "x = «order.state == 'open'", "State is never equal to str", "a member of State"),
    body("M004", "x = «order.id < None", "None has no order", "something that has one"),
    body("M004", "x = order.id is «order.note", "asks for identity", "use == or !="),
    body("M004", "x = «order.rate ** 2", "** is not part of a plan", "in an action"),
    body("M004", "x = «3 | 4", "a bit operation is not part of a plan", "in an action"),
    body("M004", "x = «~3", "~3 is no pure operation", "in an action"),
    body("M004", "x = «'%s' % order.id", "text is formatted with %", "use an f-string"),
    body("M004", "x = «order.id + 1", "str + int is no pure operation", "in an action"),
    body("M004", "x = «order.lines[0:1]", "a slice", "from an action"),
    body("M004", "x = «order.lines['a']", "list[Line][str] is no pure operation", "from an action"),
    body("M004", "x = «(1, 2)[5]", "has 2 elements", "one that it has"),
    body("M004", "x = f'{«order}'", "Order has no text", "take a field"),
    body("M004", "x = f'{«order.state}'", "State shows as its name", "take .value"),
    body("M004", "x = f'{«order.rate:{order.id}}'", "the format is calculated", "write it as text"),
    body("M004", "x = f'{«order.rate:99999}'", "too wide", "smaller width"),
    body("M004", "x = f'{«order.rate:n}'", "asks the locale", '"," or "_"'),
    body("M004", "x = f'{«order.id:.2f}'", 'the format ".2f" does not fit str', "one that fits"),
    body("M004", "x = f'{«order.day:%A}'", "differs from place to place", "%Y"),
    body("M004", "x = «sum(order.lines)", "sum(list[Line]) is no pure operation", "in an action"),
    body("M004", "x = sorted(order.numbers, key=«len)", "sorted(…, key=) is not part of a plan", "in an action"),
    body("M004", "x = «{n for n in order.numbers}", "a set is built", "build a list"),
    body("M004", "x = «{n: n for n in order.numbers}", "a dict is built", "build a list"),
    body("M004", "x = «(n for n in order.numbers)", "a generator is built", "build a list"),
    body("M004", "x = «[m for n in order.lines for m in n]", "through two lists", "from an action"),
    body("M004", "x = [n for n in «order.id]", "goes through str", "go through a list"),
    body("M004", "x = [a for «a, b in order.lines]", "unpacks its elements", "use one name"),
    body("M004", "x = «Decimal(0.1)", "a Decimal is made from a float", 'Decimal("…")'),
    body("M004", "x = «Decimal('abc')", "Decimal(…) cannot be built", "correct its arguments"),
    body("M004", "x = «datetime(2026, 1, 1)", "datetime(…) has no form in JSON", "tzinfo=UTC"),
    body("M004", "x = «date(order.numbers[0], 1, 1)", "known only at run time", "from an action"),
    body("M004", "x = «Line('a')", "Line(…) lacks quantity", "give it"),
    body("M004", "x = Line('a', quantty=«1)", "Line has no field quantty", "did you mean quantity?"),
    body("M004", "x = «Line", "Line is a type, not a value", "values are data"),
    body("M004", "x = «dt.datetme", "dt has no datetme", "did you mean datetime?"),
    body("M004", "x = «b'a' + b'b'", "bytes + bytes is no pure operation", "in an action"),
    body("M004", "x = «...", "ellipsis", "plain value"),
    body("M004", "x = «isinstance(order, Order)", "isinstance asks for a class", "compare a field"),
    body("M004", "«len(order.id)", "goes nowhere", "give it a name"),
    body("M004", "«import json", "an import inside a workflow", "at the top of the module"),
    body(
        "M004", "if order.note:\n    «from json import loads", "an import inside a workflow", "at the top of the module"
    ),
    body(
        "M004",
        "«match order.id:\n    case 'a': pass\n    case other: pass",
        "match order.id is not read",
        "if/elif/else",
    ),
    body("M004", "«assert order.id", "assert is executed by nobody", "raise a declared rejection"),
    body("M004", f"with «open('x') as y:\n    {STEP}", "open(…) would be entered by nobody", "into an action"),
    body("M004", f"async with «order.id:\n    {STEP}", "order.id would be entered by nobody", "into an action"),
    body("M004", "raise «ValueError('x')", "ValueError(…) is no declared rejection", "subclass of Rejection"),
    body("M004", "«raise", "raise without a rejection", "subclass of Rejection"),
    body("M004", "raise OutOfStock(«order.id)", "the message of a rejection is part of the plan", "write it as text"),
    body("M004", "raise OutOfStock('x', «sku='y')", "no details", "reject in an action"),
    body("M004", "raise OutOfStock('x') from «order", "has no cause", "leave"),
    body(
        "M004",
        f"async with attempt(«ValueError):\n    {STEP}",
        "ValueError is no declared rejection",
        "subclasses of Rejection",
    ),
    body("M004", f"async with attempt(«Rejection):\n    {STEP}", "Rejection is no declared rejection", "attempt()"),
    body("M004", f"async with deadline(3) as «d:\n    {STEP}", "gives nothing to keep", "leave"),
    body("M004", f"async with deadline(«-3):\n    {STEP}", "-3", "above zero"),
    body("M004", f"async with «deadline():\n    {STEP}", "lacks its duration", "give seconds"),
    body(
        "M004",
        f"async with choreography(«by='desk'):\n    {STEP}",
        'choreography(…) has no parameter "by"',
        "it has none",
    ),
    body("M004", f"async with orchestration(by=«3):\n    {STEP}", "names no orchestrator", 'by="desk"'),
    body("M004", "await «sleep()", "one of them", "sleep(timedelta(…))"),
    body("M004", "await sleep(«order.id)", "no length of time", "give seconds"),
    body("M004", "await sleep(until=«order.day)", "until= is of type date", "give a datetime"),
    body("M004", "await «wait_for(PickedUp)", "lacks key=", "wait_for(PickedUp, key=…)"),
    body("M004", "await wait_for(«Order, key=order.id)", "Order is no event", "@event"),
    body("M004", "await wait_for(PickedUp, key=«3)", "the key is of type int", "text"),
    body("M004", "x = «at(payments, True)", "part of a condition", "if at(service, …)"),
    body("M004", "if «at(payments):\n    pass", "takes a service and a condition", "at(orders"),
    body("M004", "«a, b, c = await payments.pair()", "has 2 elements, not 3", "one name for each"),
    body("M004", "«a, b = order.numbers", "has no known length", "by index"),
    body("M004", "a, «*b = await payments.pair()", "*b takes what is left over", "name each element"),
    body("M004", "«a, b = 1, 2, 3", "differ in length", "one value for each name"),
    body("M004", "async with attempt() as tried:\n    pass\nx = «tried", "another name", "ask tried.rejected"),
    body("M004", "async with attempt() as tried:\n    pass\nif «tried:\n    pass", "always true", "ask tried.rejected"),
    body(
        "M004",
        "async with attempt() as tried:\n    pass\nx = tried.«rejectd",
        "has no rejectd",
        "did you mean rejected?",
    ),
    body(
        "M004",
        "async with attempt() as tried:\n    pass\nif tried.rejected:\n    x = tried.rejected.«details",
        "no details",
        "ask its code",
    ),
    body(
        "M004",
        "async with attempt() as tried:\n    pass\nreturn «tried.rejected",
        "stays inside the workflow",
        "return its code",
    ),
    body("M004", "await «child(order)", "child(…) is not yet part of Minuet", "call the workflow with await"),
    body("M004", "await «first(payments.pair())", "first(…) is not yet part of Minuet", "wait with timeout="),
    body("M004", "await «continue_as(order)", "continue_as(…) is not yet part of Minuet", "end this run"),
    body("M004", "await «reset(order)", "reset(…) is not yet part of Minuet", "start a new run"),
    body("M004", "await together(payments.pair(), «fast=True)", "together(…) has no fast=", "steps only"),
    body("M004", "await «each(order.lines, limit=3)", "takes a list and a lambda", "each(xs"),
    body(
        "M004", "await each(«order.id, lambda x: inventory.look(x), limit=3)", "goes through str", "go through a list"
    ),
    # M005: time, chance, environment
    body(
        "M005",
        "x = «datetime.now()",
        "datetime.now() differs from place to place",
        "make it an action, or use sleep(…)",
    ),
    body("M005", "x = «date.today()", "date.today() differs", "make it an action"),
    body("M005", "x = «dt.datetime.now()", "dt.datetime.now() differs", "make it an action"),
    body("M005", "x = «time.time()", "time.time() differs", "make it an action"),
    body("M005", "x = «random.random()", "random.random() differs", "make it an action"),
    body("M005", "x = «uuid.uuid4()", "uuid.uuid4() differs", "make it an action"),
    body("M005", "x = «os.getenv('X')", "os.getenv(…) differs", "make it an action"),
    body("M005", "x = «os.environ['X']", "os.environ differs", "make it an action"),
    body("M005", "x = «Hold('h')", "the default of Hold.made is made anew", "give made="),
    # M006: try
    body("M006", f"«try:\n    {STEP}\nexcept CardDeclined:\n    pass", "enter the except", "async with attempt(…)"),
    body("M006", f"«try:\n    {STEP}\nfinally:\n    pass", "before anything is compensated", "async with attempt(…)"),
    # M007: loops without a bound
    body("M007", f"«while order.id:\n    {STEP}", "a loop needs a bound", "for _ in range(n)"),
    body(
        "M007",
        f"for _ in range(«order.numbers[0]):\n    {STEP}",
        "no bound that is known now",
        "constant of the module",
    ),
    body("M007", f"for _ in range(«10_001):\n    {STEP}", "10,001 rounds", "several runs"),
    body("M007", f"for _ in range(«0):\n    {STEP}", "0 is no bound", "a number from 1"),
    body("M007", f"for _ in «range(1, 5):\n    {STEP}", "range(1, 5) counts from elsewhere", "use range(n)"),
    # M008: loops over lists
    body(
        "M008",
        "«for line in order.lines:\n    await inventory.pick(line)",
        "over order.lines has steps",
        "each(…, limit=)",
    ),
    body("M008", "x = 0\n«for line in order.lines:\n    pass", "a loop goes over order.lines", "comprehension"),
    body("M008", f"«async for line in order.lines:\n    {STEP}", "async for goes over order.lines", "each(…, limit=)"),
    body("M008", "await «each(order.lines, lambda x: inventory.pick(x))", "each(…) has no limit", "give limit="),
    body(
        "M008",
        "await each(order.lines, lambda x: inventory.pick(x), limit=«order.id)",
        "limit=order.id",
        "constant of the module",
    ),
    body("M008", "await each(order.lines, lambda x: inventory.pick(x), limit=3, at_once=«0)", "at_once=0", "number"),
    body("M008", "await together(«*[inventory.pick(x) for x in order.lines])", "how many branches", "each(xs"),
    # M009: steps that nobody awaits
    body("M009", "«payments.charge('o', Decimal(1))", "a step that nobody awaits", "await it"),
    body("M009", "x = «payments.charge('o', Decimal(1)).retry(3)", "a step that nobody awaits", "together(…)"),
    body("M009", "«together(payments.pair())", "together(…) is a step that nobody awaits", "await it"),
    body("M009", "«sleep(3)", "sleep(…) is a step that nobody awaits", "await it"),
    body("M009", "x = «g(order, payments=payments)", "g(…) is a step that nobody awaits", "await it", CALLEE),
    body(
        "M009", "if «await payments.review(Receipt('r')):\n    pass", "awaited inside an expression", "line of its own"
    ),
    body("M009", "x = 1 + «await inventory.pick(order.lines[0])", "awaited inside an expression", "answer = await …"),
    body(
        "M009",
        "await payments.two(Receipt('r'), «await payments.pair())",
        "awaited inside an expression",
        "line of its own",
    ),
    body(
        "M009",
        "await together(«await payments.pair(), payments.pair())",
        "before its branch begins",
        "leave the inner await out",
    ),
    body("M009", "x = order\nawait «x", "x is awaited, but is no step", "the call of an action"),
    # M010: changes
    body("M010", "«order.total = Decimal(1)", "order.total is changed", "build a new one"),
    body("M010", "«order.total += Decimal(1)", "order.total is changed", "build a new one"),
    body("M010", "x = 1\n«x += 1", "x is changed in place", "x = x + 1"),
    body("M010", "xs = [1]\n«xs.append(2)", "xs.append(…) changes a value", "build a new one: xs + [x]"),
    body("M010", "xs = [1]\n«xs[0] = 2", "xs[0] is changed", "build a new one"),
    body("M010", "x = 1\n«del x", "del takes a name away", "leave it out"),
    body("M010", "«global G\nG = 1", "G is changed outside", "return the value", "G = 0"),
    # M012: services chosen at run time
    body("M012", "services = {'a': «payments}", 'the service "payments" is used as a value', "one arm per service"),
    body("M012", "s = «payments", 'the service "payments" is used as a value', "one arm per service"),
    body(
        "M012",
        "x = await «table['a'].do()",
        "table['a'].do() is known only at run time",
        "one arm per service",
        "table: dict[str, Any] = {}",
    ),
    body("M012", "await «getattr(payments, order.id)()", "getattr", "one arm per service"),
    body("M012", "act = «payments.charge", "payments.charge is used as a value", "call it where it is to act"),
    body("M012", "«payments = 3", 'the service "payments" is given another value', "another name"),
    body("M012", "await sleep(3, by=«order)", "by=order is no service", "one of its services"),
    body("M012", "if at(«order, True):\n    pass", "order is no service", "name the service that decides"),
    body(
        "M012",
        "await payments.pair().compensate(«order.id)",
        "order.id is no action of a service",
        ".compensate(payments.refund)",
    ),
    body("M012", "await g(order, payments=«order)", "payments=order is no service", "one of its services", CALLEE),
    # M013: pieces of code
    body("M013", "x = «lambda: 3", "a lambda is a piece of code", "a workflow of its own"),
    body(
        "M013",
        f"«async def inner() -> None:\n    {STEP}",
        "inner is a function inside a workflow",
        "a workflow of its own",
    ),
    body("M013", "«def inner() -> None: ...", "inner is a function inside a workflow", "a workflow of its own"),
    body("M013", "«class Inner: ...", "Inner is a class inside a workflow", "top of the module"),
    body("M013", "x = «[await inventory.pick(line) for line in order.lines]", "has steps in it", "each(…, limit=)"),
    body("M013", "x = sum«(await inventory.pick(line) for line in order.lines)", "has steps in it", "each(…, limit=)"),
    body("M013", "await each(order.lines, «inventory.pick, limit=3)", "each(…) takes a lambda", "lambda x"),
    body("M013", "await each(order.lines, «lambda a, b: inventory.pick(a), limit=3)", "takes one element", "lambda x"),
    # M014: compensations that do not fit
    body(
        "M014", f"{CHARGE}.compensate(«inventory.release)", "release takes Hold, charge gives Receipt", "takes Receipt"
    ),
    body("M014", f"{CHARGE}.compensate(«payments.doubt)", "doubt may reject", "without rejects="),
    body("M014", f"{CHARGE}.compensate(«payments.two)", "two takes (receipt: Receipt, why: str)", "nothing else"),
    body("M014", f"{CHARGE}.compensate(payments.«refnd)", "payments has no action refnd", "did you mean refund?"),
    # M015: leaving from inside a branch
    body(
        "M015",
        f"async with together() as t:\n    {STEP}\n    «return",
        "return leaves while the other branches of together()",
        "decide after the join",
    ),
    body(
        "M015",
        "async for line in each(order.lines, lambda x: inventory.pick(x), limit=3):\n    «return",
        "return leaves",
        "decide after the join",
    ),
    body(
        "M015",
        "async for line in each(order.lines, lambda x: inventory.pick(x), limit=3):\n    «break",
        "break leaves",
        "decide after the join",
    ),
    body(
        "M015",
        f"for _ in range(3):\n    async with asyncio.TaskGroup() as t:\n        {STEP}\n        «continue",
        "continue leaves",
        "decide after the join",
    ),
    # M016: asyncio
    body(
        "M016",
        "await «asyncio.gather(payments.pair(), payments.pair())",
        "asyncio.gather(…) lives in one process",
        "use together(…)",
    ),
    body("M016", "await «asyncio.sleep(3)", "asyncio.sleep(…) lives in one process", "use sleep(…)"),
    body("M016", "x = «asyncio.create_task(payments.pair())", "asyncio.create_task(…)", "use together(…)"),
    body("M016", "await «asyncio.wait([payments.pair()])", "asyncio.wait(…)", "use together(…)"),
    body("M016", f"async with «asyncio.timeout(3):\n    {STEP}", "asyncio.timeout(…)", "async with deadline(…)"),
    # M017: recursion
    body(
        "M017", "await «f(order, payments=payments, inventory=inventory)", "f calls itself", "a loop: for _ in range(n)"
    ),
    whole(
        "M017",
        "@workflow\nasync def f(order: Order, *, payments: Payments) -> None:\n    await «g(order, payments=payments)\n"
        "@workflow\nasync def g(order: Order, *, payments: Payments) -> None:\n    await f(order, payments=payments)\n",
        "f and g call each other",
        "a loop",
    ),
    whole(
        "M017",
        "@workflow\nasync def f(order: Order, *, payments: Payments) -> None:\n    await «g(order, payments=payments)\n"
        "@workflow\nasync def g(order: Order, *, payments: Payments) -> None: ...\n",
        '"g" is defined below f',
        "move g up",
    ),
    # M018: methods of steps
    body("M018", f"{CHARGE}.«retries(3)", '"retries" is not known', "did you mean .retry(…)?"),
    body("M018", f"{CHARGE}.retry(3).«shout()", '"shout" is not known', ".compensate(…)"),
    body("M018", f"{CHARGE}.«retry()", "lacks attempts", "retry(attempts)"),
    body("M018", f"{CHARGE}.«retry(-1)", "-1 is no number of attempts", "0 means for ever"),
    body("M018", f"{CHARGE}.retry(3, frst=«1)", ".retry(…) has no frst=", "did you mean first?"),
    body("M018", f"{CHARGE}.retry(«order.numbers[0])", "known only at run time", "constant of the module"),
    body("M018", f"{CHARGE}.«timeout(0)", "timeout", "above zero"),
    body("M018", f"{CHARGE}.«timeout(3, then='wait')", "then='wait' is not known", '"ask" or "abandon"'),
    body("M018", "await «payments.pair().timeout(3, then='abandon')", "has no compensation", ".compensate(…)"),
    body("M018", f"{CHARGE}.«keep(1)", ".keep() takes nothing", "leave"),
    body(
        "M018",
        "await «payments.charge('o', Decimal(1)).keep().compensate(payments.void)",
        "contradict",
        "leave one out",
    ),
    body("M018", f"{CHARGE}.retry(3).«retry(4)", "said twice", "leave one out"),
    body("M018", f"{CHARGE}.«compensate()", "takes one action", ".compensate(payments.refund)"),
]


def _marked(text: str) -> tuple[str, int, int]:
    """Take the mark out, and give where it stood in the whole module."""
    whole_text = PRELUDE + text
    before = whole_text[: whole_text.index("«")]
    return text.replace("«", ""), before.count("\n") + 1, len(before) - before.rfind("\n")


def _text_of(case: Case) -> str:
    text = case.text if case.is_whole else around(case.text, before=case.before)
    return text + "\ndef later() -> None: ...\n"


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_refusal_names_the_place_the_thing_and_the_way_out(
    case: Case, findings_of: Callable[[str], list[Finding]]
) -> None:
    text, line, column = _marked(_text_of(case))

    found = findings_of(text)

    assert [(f.line, f.column) for f in found if f.code == case.code][:1] == [(line, column)], list(map(str, found))
    finding = next(f for f in found if f.code == case.code)
    assert case.message in finding.message
    assert case.remedy in finding.remedy
    assert finding.remedy
    assert finding.file.startswith("flows_")
    assert finding.file.endswith(".py")
    assert finding.severity is Severity.ERROR


def test_every_code_has_a_case_and_an_explanation() -> None:
    elsewhere = {"M001", "M011", "M019"}
    assert {case.code for case in CASES} | elsewhere == set(EXPLANATIONS)


def test_a_function_without_source_is_refused() -> None:
    names: dict[str, FunctionType] = {}
    exec("async def place_order(order): ...", names)

    with pytest.raises(WorkflowRefused) as caught:
        read(names["place_order"])

    (finding,) = caught.value.findings
    assert finding.code == "M001"
    assert "the source of place_order is not available" in finding.message
    assert finding.remedy == "put it into a file"


def test_what_is_no_function_is_refused() -> None:
    with pytest.raises(WorkflowRefused) as caught:
        read(len)  # type: ignore[arg-type]

    assert caught.value.findings[0].code == "M002"


def test_all_findings_come_at_once_in_the_order_of_the_text(findings_of: Callable[[str], list[Finding]]) -> None:
    found = findings_of(
        around(
            "x = time.time()\n"
            "while x:\n"
            "    y = order.totl\n"
            "    try:\n"
            "        payments.charge('o', y)\n"
            "    except ValueError:\n"
            "        print(hold)\n"
        )
    )

    assert [f.code for f in found] == ["M005", "M007", "M004", "M006", "M009", "M004"]
    assert [f.line for f in found] == sorted(f.line for f in found)


def test_what_follows_from_a_finding_is_no_second_finding(findings_of: Callable[[str], list[Finding]]) -> None:
    found = findings_of(around("x = order.totl\ny = x + 1\nif y > x.foo:\n    await payments.two(x, y[3])\n"))

    assert len(found) == 1


def test_columns_count_characters_and_not_bytes(findings_of: Callable[[str], list[Finding]]) -> None:
    text, line, column = _marked(around("x = 'äöü€' + «order.totl"))

    (finding,) = findings_of(text.replace("order.totl", "time.time()"))

    assert (finding.line, finding.column) == (line, column)


def test_a_comment_that_allows_nothing_is_a_note(flow: Callable[..., object]) -> None:
    module = flow(
        "x = 1  # minuet: allow M004 because we like it\nreturn None  # minuet: allow M701 because it is known"
    )

    (note,) = module.f.notes  # type: ignore[attr-defined]
    assert note.code == "M019"
    assert note.severity is Severity.NOTE
    assert note.message == "nothing here is M004"
    assert note.remedy == "remove the comment"
    assert read_workflow(module.f.function).notes == (note,)  # type: ignore[attr-defined]


def test_several_inputs_are_refused_where_the_workflow_is_to_be_started(
    module_of: Callable[[str], object],
) -> None:
    module = module_of(
        "@workflow\nasync def f(a: Order, b: Line, *, payments: Payments) -> None: ...\n"
        "@workflow\nasync def g(a: Order, *, payments: Payments) -> None: ...\n"
    )

    with pytest.raises(WorkflowRefused) as caught:
        module.f.check_startable()  # type: ignore[attr-defined]

    (finding,) = caught.value.findings
    assert finding.code == "M017"
    assert "f takes 2 inputs, and start gives one" in finding.message
    assert finding.remedy == "join them in one type"
    module.g.check_startable()  # type: ignore[attr-defined]
