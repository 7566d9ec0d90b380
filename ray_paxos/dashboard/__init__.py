"""One read-only page that shows a running cluster: `ray-paxos dashboard`.

```
 browsers ── GET ─▶ Access ─▶ server ─▶ Collector ── a look each interval ─▶ Watcher
                    (who may)           (the last view, for all of them)        │ a pipe
                                                                                ▼
                                                     another process: ClusterTarget ── Ray ─▶ roles
```

Rules:

1. Nothing here writes: only GET and HEAD are answered, and the cluster is only asked how it is.
2. However many browsers look, the cluster is asked once an interval; with none, not at all.
3. Ray ends a driver's process when its cluster is gone. So another process is the driver: the page
   outlives it, shows the last view and since when it is old, and looks again.
4. Whoever may not use the Ray cluster may not see the page (`access`).
"""
