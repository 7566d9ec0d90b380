"""The command line, `ray-paxos`."""
