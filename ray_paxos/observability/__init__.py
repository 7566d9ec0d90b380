"""Seeing a cluster: what happens in it, how much of it, how long it takes, and since when.

```
 core: Event ─▶ Observer ─┬─▶ EventLog      lines in the actor's log, and JSONL where wanted
 shell: times ─▶   │      ├─▶ RecentEvents  the last ones, for whoever asks
                   │      ├─▶ SlowCommands  the last that took long, hop by hop
                   ▼      └─▶ Meter         counts and times
                RoleReport ─▶ samples ─▶ ray.util.metrics ─▶ Prometheus
                           └▶ ClusterView ─▶ `ray-paxos top`, `status`, `dashboard`, `slow`
```

A role has one `Observer`, which its shell tells everything. Nothing here changes what a role does:
with observing off it would do the same.
"""
