import random

from minuet.plans.condition import FALSE, START, Condition, Network, simplify

SEEDS = range(400)


def test_equal_facts_are_one_node() -> None:
    net = Network()
    assert net.fact("1", "ok", ()) == net.fact("1", "ok", ())
    assert net.fact("1", "ok", ()) != net.fact("2", "ok", ())


def test_any_of_nothing_is_false_and_of_one_is_that_one() -> None:
    net = Network()
    a = net.fact("1", "ok", ())
    assert net.any((), []) == FALSE
    assert net.any((), [FALSE, a, FALSE, a]) == a
    assert net.all((), [a, FALSE]) == FALSE
    assert net.all((), [a, a]) == a


def test_what_can_never_be_true_is_dropped_and_chains_are_cut_short() -> None:
    net = Network()
    a, hole = net.fact("1", "ok", ()), net.add("or", ())
    chain = net.add("or", ())
    net.fill(chain, a)
    net.fill(hole, net.all((), [chain, hole]))  # recursive: it becomes true only by itself, hence never
    nodes, moved = simplify(net.nodes, [chain, hole], {a: [START]})
    assert [n.kind for n in nodes] == ["false", "start", "fact"]
    assert (moved[chain], moved[hole]) == (2, FALSE)


def test_a_fact_of_a_rule_that_never_fires_is_dropped() -> None:
    net = Network()
    never = net.add("or", ())
    fact = net.fact("1", "ok", ())
    nodes, moved = simplify(net.nodes, [fact], {fact: [never]})
    assert (len(nodes), moved[fact]) == (2, FALSE)


def test_simplifying_keeps_the_meaning() -> None:
    """Against the definition: the least fixpoint, found by going round until nothing changes, before and after."""
    changed = 0
    for seed in SEEDS:
        net, facts = _random(seed)
        before = [Condition(n.kind, n.scope, n.of, list(n.inputs)) for n in net.nodes]
        roots = random.Random(seed).sample(range(len(before)), 4)
        also = {f: [START] for f in facts}
        nodes, moved = simplify(net.nodes, roots, also)
        assert nodes == simplify(nodes, [moved[r] for r in roots], {moved[f]: [START] for f in facts if moved[f]})[0]
        changed += len(nodes) < len(before)
        for choice in range(8):
            r = random.Random(f"{seed}{choice}")
            known = {before[f].of for f in facts if r.random() < 0.6}
            want, got = _fixpoint(before, known), _fixpoint(nodes, known)
            assert [want[x] for x in roots] == [got[moved[x]] for x in roots], seed
    assert changed > len(SEEDS) / 2


def test_the_order_of_nodes_depends_on_the_structure_alone() -> None:
    for seed in SEEDS[:50]:
        net, facts = _random(seed)
        roots = random.Random(seed).sample(range(len(net.nodes)), 4)
        mixed, where = _shuffled(net.nodes, seed)
        one = simplify(net.nodes, roots, {f: [START] for f in facts})[0]
        two = simplify(mixed, [where[r] for r in roots], {where[f]: [START] for f in facts})[0]
        assert len(one) == len(two)


def _random(seed: int) -> tuple[Network, list[int]]:
    r, net = random.Random(seed), Network()
    facts = [net.fact(str(i), "ok", ()) for i in range(6)]
    inner = [net.add(r.choice(("or", "and")), ()) for _ in range(18)]
    for node in inner:
        for source in r.sample([START, *facts, *inner], r.randint(1 if net.nodes[node].kind == "and" else 0, 3)):
            net.fill(node, source)
    return net, facts


def _shuffled(nodes: list[Condition], seed: int) -> tuple[list[Condition], dict[int, int]]:
    order = list(range(2, len(nodes)))
    random.Random(seed).shuffle(order)
    where = {FALSE: FALSE, START: START} | {old: new for new, old in enumerate(order, 2)}
    mixed = [
        Condition(n.kind, n.scope, n.of, [(where[s], e) for s, e in n.inputs])
        for n in (nodes[i] for i in [0, 1, *order])
    ]
    return mixed, where


def _fixpoint(nodes: list[Condition], known: set[tuple[str, ...]]) -> list[bool]:
    true = [n.kind == "start" or (n.kind == "fact" and n.of in known) for n in nodes]
    while True:
        found = [
            t
            or (n.kind == "or" and any(true[s] for s, _ in n.inputs))
            or (n.kind == "and" and all(true[s] for s, _ in n.inputs))
            for n, t in zip(nodes, true, strict=True)
        ]
        if found == true:
            return true
        true = found
