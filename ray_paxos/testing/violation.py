"""What the simulator raises when it sees something that must never happen."""

from __future__ import annotations

from ray_paxos.errors import InvariantViolationError


class Violation(InvariantViolationError):
    """A rule was broken.

    Attributes:
        rule: Short name of the rule, such as `R1` or `liveness`.
        what: What was seen, with members, instances and ballots.
    """

    def __init__(self, rule: str, what: str) -> None:
        """Say which rule, and what was seen."""
        super().__init__(f"{rule}: {what}")
        self.rule = rule
        self.what = what


def expect(holds: bool, rule: str, what: str) -> None:
    """Raise `Violation` unless `holds`; for checks whose text costs nothing to make."""
    if not holds:
        raise Violation(rule, what)
