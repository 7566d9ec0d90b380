"""The exhaustive walk: every order of events of small models, with the real core in them.

The random walk (`testing.walk`) plays long runs of the whole system, some of them. This one plays
all runs, of small systems: two proposers, three acceptors, one to three instances, a few ticks of
the clock, one crash. It is explicit-state model checking (Holzmann, "The Model Checker SPIN",
1997), of the code itself instead of a description of it (as in Musuvathi and others' "CMC", 2002).

```
python -m ray_paxos.testing.exhaustive --model prepare      what it visited; 1 on a broken rule

models     which there are (prepare_models, lease_models, membership_models), of parts
model      sites, what may happen besides deliveries, how often, what is lost
explore    breadth first, each state once: the first broken rule is on a shortest path
system     states and moves; why messages are a set; the two reductions
catalogue  numbers for everything, so that each step of a role is worked out only once
site       processes that act as one: the real roles and drivers (roles, actions)
canonical  one text for one state
judge, word, ledger, lease_watch      what must hold: of one process, of a grant, of the history,
                                      and of what two members believe at one moment
facts, replicas                       what a history is made of; what is durable at the members
situations                            what a model has to get to, or it proves nothing
```

The models of `prepare`, `lease` and `membership` are exhausted by default, those of `wide` are for
the nights.
What a model leaves out it says: links that are cut, instances that nobody votes in, kinds of
messages that never arrive, the budgets of ticks and crashes. And in all of them what a role draws
at random is 0, and a process that dies starts again at once: being down is being slow.
"""
