"""Ray around the core: one actor class a role, transport, placement and bootstrap."""
