"""Shipped for users, too: the deterministic simulator, with its faults and checks (no Ray).

One seed decides everything that happens in a run: virtual time (`clock`), what the network does
(`network`), what the disks lose (`disk`), which processes die, are suspended or lose power
(`faults`), how fast each one's clock runs, what clients ask for (`client`, `workload`). Everything
else is the real thing: roles, driver, wire format, journal, segments and the opening of folders; of
a share of the clients, too (`calling_client`, with `calls` in place of Ray's).

```
python -m ray_paxos.testing.simulate --seeds 0:200        many seeds; replay one with --trace
walk        one seed: a safety phase full of faults, then a liveness phase that must converge
swarm       draws a seed's world;  options  what there is to draw;  coverage  what it must see
cluster     members, each with a disk and four processes (process, storage_shell, opening)
checker     judges every step:  votes  what is chosen;  durability  what is on disk;
            log_watch and reference  what is applied;  violation  what it raises
recipe_games   with --recipes: locks, a queue, a ledger and more, played by clients
            (recipe_client, recipes) whose waits go by lines (wait_lines), and judged by what they
            were told (recipe_check)
scenario    scripted schedules, for regression tests;  scripted_client  their clients

python -m ray_paxos.testing.check FILE --model kv         whether a history is linearizable
history     what clients called and were told;  history_formats  its files (Jepsen's, too)
linearizability   models, and the search for one order that explains a history

python -m ray_paxos.testing.exhaustive --model lease      every order, up to a bound
exhaustive  the real core as states and steps, with state hashing

pytest_plugin  fixtures for tests of one's own machines and objects (in_process_factories)
in_process  a cluster in a test's own process, and its client (in_process_client)
in_process_check   what is compared after it (replay, other_process)
local_objects  replicated objects on one machine, without any log
```

To add a feature's faults and checks: a kind in `options.FAULT_KINDS` with its method in `faults`,
its messages in `checker.sending`, and a row in `coverage.SITUATIONS` for what seeds must see of it.
A recipe is a class in `recipes`, with a title in `recipe_machines` and rows in
`coverage.RECIPE_SITUATIONS`.
"""
