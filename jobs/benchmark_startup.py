"""How long it takes from nothing to the first acknowledged command, in a process of its own.

    python jobs/benchmark_startup.py CONFIG ROLES

Prints one JSON document: `start_s`, from the call of `ray_paxos.start`, which starts Ray, to the
first result; `import_s` before it; `ray_s` and `actors_s`, the floor: Ray alone, and as many empty
actors on it, started after the cluster has ended.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

from ray_paxos.errors import ClusterError

LIMIT_S = 180.0
ACTORS = {"separate": 12, "fused": 3}


def measure_startup(config: str, roles: str) -> dict[str, float]:
    """Measure in a new process, whose Ray ends with it.

    Raises:
        ClusterError: It did not start.
    """
    command = [sys.executable, __file__, config, roles]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        raise ClusterError(f"no cluster in {LIMIT_S:g} s") from None
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise ClusterError(f"the cluster did not start: {last[0]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """In the new process."""
    config, roles = sys.argv[1:]
    began = time.monotonic()
    import ray

    import ray_paxos.cluster  # noqa: F401 - by the first cluster otherwise
    from benchmark_cluster import benchmark_cluster
    from benchmark_floor import bare_actor
    from benchmark_idle import EmptyActor
    from ray_paxos.machines import kv

    imported = time.monotonic()
    with benchmark_cluster(config, groups=1, roles=roles) as cluster, cluster.clients() as clients:
        clients[0].propose(kv.encode_put("first", b"value"), "kv")
        acknowledged = time.monotonic()
    ray.shutdown()
    bare = time.monotonic()
    ray.init(address="local", include_dashboard=False, log_to_driver=False)
    ready = time.monotonic()
    actors = [bare_actor(EmptyActor) for _ in range(ACTORS[roles])]
    ray.get([actor.process.remote() for actor in actors])
    told: dict[str, Any] = {
        "import_s": round(imported - began, 3),
        "start_s": round(acknowledged - imported, 3),
        "ray_s": round(ready - bare, 3),
        "actors_s": round(time.monotonic() - ready, 3),
    }
    ray.shutdown()
    print(json.dumps(told))


if __name__ == "__main__":
    main()
