"""WHAT HAPPENS NEXT: facts and now in, facts and effects out; sans-I/O."""
