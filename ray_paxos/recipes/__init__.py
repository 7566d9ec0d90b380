"""What people come for: locks, elections, queues and the like, each a handle of a state machine."""
