"""ray_paxos: state that stays consistent, durable and available, for Ray programs."""
