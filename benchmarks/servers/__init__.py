"""What the fan-out benchmark serves: one module a target, each run in a process of its own."""
