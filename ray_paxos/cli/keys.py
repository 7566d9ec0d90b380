"""Single keys of a terminal, as they are pressed.

The terminal gives each key at once, and shows none, only between `__enter__` and `__exit__`; it is
put back as it was on every way out, an error and SIGTERM among them. Ctrl-C stays what it is.

Rules:

1. Ctrl-Z puts the terminal back before the process stops, for the shell that goes on there.
2. Whoever goes on after a stop, of Ctrl-Z or of SIGSTOP, sets the terminal up again: the shell has
   changed it meanwhile. `pressed` returns then, so that what is shown is drawn anew.
3. Handlers of signals are as they were once this is left, also where entering it fails.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import sys
import termios
import threading
import tty
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

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
_SET_TRIES = 3


def _nothing() -> None:
    """What is done where nothing is wanted."""


class Keys:
    """The keys of one terminal.

    Invariant: its settings are changed only while this is entered.
    """

    def __init__(
        self,
        descriptor: int,
        *,
        on_stop: Callable[[], None] = _nothing,
        on_continue: Callable[[], None] = _nothing,
    ) -> None:
        """Change nothing yet.

        Args:
            descriptor: Of the terminal.
            on_stop: Called before Ctrl-Z stops the process; anywhere in the main thread, as a
                signal's handler is.
            on_continue: Called likewise once it goes on; maybe more than once.
        """
        self._descriptor = descriptor
        self._on_stop = on_stop
        self._on_continue = on_continue
        self._saved: list[Any] = []
        self._own: list[Any] = []
        self._handlers: dict[signal.Signals, Any] = {}
        self._woken = -1
        self._waker = -1

    def __enter__(self) -> Keys:
        self._saved = termios.tcgetattr(self._descriptor)
        self._woken, self._waker = os.pipe()
        os.set_blocking(self._waker, False)
        try:
            # The default one ends the process at once, and leaves the terminal as it is then.
            self._handle(signal.SIGTERM, _leave)
            tty.setcbreak(self._descriptor, termios.TCSADRAIN)
            self._own = termios.tcgetattr(self._descriptor)
            self._handle(signal.SIGCONT, self._continue)
            if signal.getsignal(signal.SIGTSTP) is not signal.SIG_IGN:
                self._handle(signal.SIGTSTP, self._stop)
        except BaseException:
            with contextlib.suppress(termios.error):
                self._set(self._saved)
            self._let_go()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Also for whoever is stopped just now, and goes on.
        self._own = self._saved
        try:
            self._set(self._saved)
        finally:
            self._let_go()

    def _handle(self, number: signal.Signals, handler: Callable[..., None]) -> None:
        self._handlers[number] = signal.getsignal(number)
        signal.signal(number, handler)

    def _let_go(self) -> None:
        while self._handlers:
            number, handler = self._handlers.popitem()
            # None is one that Python cannot set.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        os.close(self._woken)
        os.close(self._waker)

    def _set(self, settings: list[Any]) -> None:
        """Change the terminal; where that waits in the background, a signal may break it off."""
        for tries_left in reversed(range(_SET_TRIES)):
            try:
                termios.tcsetattr(self._descriptor, termios.TCSADRAIN, settings)
                return
            except termios.error as error:
                if error.args[0] != errno.EINTR or not tries_left:
                    raise

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._on_stop()
        with contextlib.suppress(termios.error):
            self._set(self._saved)
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        # To this thread, which then goes no further before the process has stopped.
        signal.pthread_kill(threading.get_ident(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, self._stop)
        self._continue(number, frame)

    def _continue(self, number: int, frame: FrameType | None) -> None:
        # Of a terminal that is gone `pressed` tells.
        with contextlib.suppress(termios.error):
            self._set(self._own)
        self._on_continue()
        with contextlib.suppress(BlockingIOError):
            os.write(self._waker, b"!")

    def pressed(self, timeout_s: float) -> list[str]:
        """Wait for keys.

        Args:
            timeout_s: How long.

        Returns:
            Those that were pressed, by their names where they are no letters; none where the time
            ran out, or the process was stopped and goes on.

        Raises:
            EOFError: The terminal is gone.
        """
        waited = [self._descriptor, self._woken]
        ready, _, _ = select.select(waited, [], [], max(timeout_s, 0.0))
        if self._woken in ready:
            os.read(self._woken, _READ_MAX)
        if self._descriptor not in ready:
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
