"""HOW A WORKFLOW IS READ: from the source of an `async def` to its syntax tree, or to all that is wrong with it.

The statements are read in `statement`, what they await in `awaited`, and what they calculate in the folder `pure`.
Nothing of the user's function is executed.
"""

from minuet.workflows.reader.statement import Reading, read, read_workflow

__all__ = ["Reading", "read", "read_workflow"]
