"""`python -m ray_paxos.cli`: the same as `ray-paxos`."""

from ray_paxos.cli.main import main

if __name__ == "__main__":
    main(prog_name="ray-paxos")
