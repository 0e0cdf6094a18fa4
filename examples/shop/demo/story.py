"""One run, told from its facts: what happened, when, by whom, and what was undone and why."""

from __future__ import annotations

from collections.abc import Iterator

from examples.shop.demo.screen import paint
from minuet.runtime.view import FactView, RunView


def tell(run: RunView) -> Iterator[str]:
    """Give the story of a run that was compensated, line by line."""
    assert run.rejection is not None
    done: dict[tuple[str, str], FactView] = {}
    yield f"{paint(f'The story of order {run.key}', 'strong')}, run {run.run} of {run.workflow}"
    for fact in run.facts:
        place, action = (fact.position, fact.round), fact.what.rpartition(".")[2]
        if fact.label == "compensated":
            undone = done[place]
            said = (
                f"{paint('undoes', 'odd')} {undone.what.rpartition('.')[2]} of +{undone.at_ms - run.started_at_ms} ms"
            )
        elif fact.label.startswith("rejected:"):
            said = f"{paint('says no', 'bad')}: {fact.value['message']}"
        elif fact.label == "ok" and "." in fact.what:
            done[place] = fact
            said = paint("done", "good")
        else:
            continue  # marks of the joiner of `each` say nothing that the other facts do not
        after, where = f"+{fact.at_ms - run.started_at_ms} ms", fact.place.rpartition("/")[2]
        yield f"  {after:>9}  {paint(f'{where:<15}', 'faint')}  {fact.owner:<9}  {action:<8}  {said}"
    yield (
        f"  Why: {run.rejection.code}, before the point of no return. So what had been done was undone,"
        " the last first, each by the service that had done it."
    )
