"""HOW A WORKFLOW IS READ: from the source of an `async def` to its syntax tree, or to all that is wrong with it.

`reading` begins. `statement` says which module reads which kind of statement, `awaited` reads what they await, and the
folder `pure` what they calculate. Nothing of the user's function is executed.
"""

from minuet.workflows.reader.reading import Reading, read, read_workflow

__all__ = ["Reading", "read", "read_workflow"]
