"""Seeing a cluster: what happens in it, how much of it, how long it takes, and since when.

```
 core: Event ─▶ Observer ─┬─▶ EventLog      lines in the actor's log
 shell: times ─▶   │      ├─▶ EventFile     the same as JSON lines, where wanted
                   │      ├─▶ the last events, for whoever asks
                   │      ├─▶ SlowCommands  the last that took long, hop by hop
                   │      └─▶ Meter         counts and times
                   ▼
               RoleReport ─┬─▶ samples ─▶ ray.util.metrics ─▶ Prometheus ─┬─▶ alerts
                           │                                              └─▶ Grafana
                           ├─▶ ClusterView ─▶ `ray-paxos top`, `status`, `dashboard`
                           └─▶ SlowReport ──▶ `ray-paxos slow`

 messages that name a trace ─▶ Tracing ─▶ OpenTelemetry, where Ray's tracing is on
```

A role has one `Observer`, which its shell tells everything. Nothing here changes what a role does:
with observing off it would do the same.
"""
