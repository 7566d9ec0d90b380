"""Shipped for users, too: the simulator, its faults and invariants. No Ray, no pyarrow."""
