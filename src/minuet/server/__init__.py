"""What listens: HTTP in, JSON out. The routes ask a `Control`; nothing here decides anything about runs."""
