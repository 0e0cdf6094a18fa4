"""What services offer and say: actions, events, reactions, and the bytes of their values. Declarations and data."""
