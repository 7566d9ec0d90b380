"""Single keys of a terminal, as they are pressed.

The terminal gives each key at once, and shows none, only between `__enter__` and `__exit__`; it is
put back as it was on every way out, an error and SIGTERM among them. Ctrl-C stays what it is.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import tty
from types import FrameType, TracebackType

ENTER = "enter"
ESCAPE = "escape"
BACKSPACE = "backspace"
_NAMES = {
    "\r": ENTER,
    "\n": ENTER,
    "\x1b": ESCAPE,
    "\x7f": BACKSPACE,
    "\b": BACKSPACE,
    "\x1b[A": "up",
    "\x1b[B": "down",
    "\x1b[C": "right",
    "\x1b[D": "left",
    "\x1bOA": "up",
    "\x1bOB": "down",
    "\x1bOC": "right",
    "\x1bOD": "left",
}
_READ_MAX = 1_024
_SEQUENCE_MAX = 8


class Keys:
    """The keys of one terminal.

    Invariant: its settings are changed only while this is entered.
    """

    def __init__(self, descriptor: int) -> None:
        """Change nothing yet.

        Args:
            descriptor: Of the terminal.
        """
        self._descriptor = descriptor
        self._saved: list[object] | None = None
        self._saved_handler: object = None

    def __enter__(self) -> Keys:
        self._saved = termios.tcgetattr(self._descriptor)
        # The default one ends the process at once, and leaves the terminal as it is then.
        self._saved_handler = signal.signal(signal.SIGTERM, _leave)
        tty.setcbreak(self._descriptor, termios.TCSADRAIN)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._saved is not None
        termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._saved)  # type: ignore[arg-type]
        signal.signal(signal.SIGTERM, self._saved_handler)  # type: ignore[arg-type]

    def pressed(self, timeout_s: float) -> list[str]:
        """Wait for keys.

        Args:
            timeout_s: How long.

        Returns:
            Those that were pressed, by their names where they are no letters; none where the time
            ran out.

        Raises:
            EOFError: The terminal is gone.
        """
        ready, _, _ = select.select([self._descriptor], [], [], max(timeout_s, 0.0))
        if not ready:
            return []
        data = os.read(self._descriptor, _READ_MAX)
        if not data:
            raise EOFError("the terminal is gone")
        return parse_keys(data.decode(errors="ignore"))


def parse_keys(text: str) -> list[str]:
    """Take apart what a terminal sent: letters, and names of other keys; unknown ones are left out.

    A terminal sends a key of several characters as a whole.
    """
    keys = []
    while text:
        length = _sequence_length(text)
        key, text = text[:length], text[length:]
        if key in _NAMES:
            keys.append(_NAMES[key])
        elif key.isprintable() and len(key) == 1:
            keys.append(key)
    return keys


def _sequence_length(text: str) -> int:
    """How many characters the first key has."""
    if text[0] != "\x1b" or len(text) < 2 or text[1] not in "[O":
        return 1
    for length in range(3, min(len(text), _SEQUENCE_MAX) + 1):
        if "@" <= text[length - 1] <= "~":
            return length
    return min(len(text), _SEQUENCE_MAX)


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)
