"""What stands at the end of every command's help: examples, and the statuses it ends with.

A line of an example is a whole command, as it is typed; a test parses each by the command's own
parser. A line of `backslash b` alone keeps click from flowing the lines after it together.
"""

from __future__ import annotations

DONE = "done"
WRONG_USE_TEXT = "wrong use: an option, a name, a file or the configuration; nothing was done"
CLUSTER_FAILED = "no such cluster runs, or it refused, or it did not answer in time"
FOLDER_DAMAGED = "something in the folder is damaged or missing"
PROGRAM = "ray-paxos"


def epilog(*examples: str, failed: str, done: str = DONE, wrong: str = WRONG_USE_TEXT) -> str:
    """The end of a command's help.

    Args:
        examples: What is typed after the program's name.
        failed: What exit status 1 means.
        done: What exit status 0 means.
        wrong: What exit status 2 means.
    """
    title = "Example:" if len(examples) == 1 else "Examples:"
    lines = ["\b", title, *(f"  {PROGRAM} {example}".rstrip() for example in examples), ""]
    meanings = {0: done, 1: failed, 2: wrong}
    lines += ["\b", "Exit status:"]
    lines += [f"  {status}  {meaning}" for status, meaning in meanings.items()]
    return "\n".join(lines)


def examples_of(help_epilog: str) -> list[str]:
    """The examples of an epilog, each as it is typed."""
    mark = f"  {PROGRAM}"
    return [line.strip() for line in help_epilog.splitlines() if line.startswith(mark)]
