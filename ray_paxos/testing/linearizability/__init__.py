"""Whether a history can be explained by one object that does one thing after the other.

```
history_check   one history and one model to a verdict: partition by key, shortest bad prefix
report          what a person, and a program, is told of it
models          the models by name:  cas_register  append_kv  kv  lock;  model  what one is
search          one key: is there an order that the model allows and real time permits?
stages, watch   what the search knows beforehand of each response
budget          how long, and how much memory, a search may take
```

Nothing here knows our own code: a model is written from what an object promises, so that an
object's fault is not in its model, too.
"""
