"""State machines: the base class, the host that runs several per group, and ready-made ones."""
