"""How histories lie in files: our own lines of JSON, and what Jepsen writes.

```
reading   opens a file, sees which form it has, and merges several
jsonl     our own form: one event a line, after a header
jepsen    Jepsen's text logs, and its operations as EDN maps
edn       the notation of those maps
```
"""
