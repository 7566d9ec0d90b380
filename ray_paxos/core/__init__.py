"""The protocol as a pure library: no I/O, no clock, no randomness of its own, no Ray."""
