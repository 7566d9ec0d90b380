"""Lines of the suite's table: what is required, what was measured, whether it holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from job_numbers import number_text, round_number_text


@dataclass(frozen=True)
class Requirement:
    """What a line asks for.

    Attributes:
        what: Is measured; the same for a line whatever the run, so that tables can be compared.
        bound: The number.
        unit: Behind it, with a blank where it takes one.
        is_most: Whether the bound is the most that is allowed, not the least.
        shown: What a person reads, where it names something of the run; else `what`.
    """

    what: str
    bound: float
    unit: str
    is_most: bool = False
    shown: str = ""

    def of(self, **named: str) -> Requirement:
        """The same with the run's own words in its text."""
        return replace(self, shown=self.what.format(**named))

    @property
    def text(self) -> str:
        """What a person reads."""
        return self.shown or self.what

    @property
    def bound_text(self) -> str:
        """The bound for a person."""
        return (
            f"at {'most' if self.is_most else 'least'} {round_number_text(self.bound)}{self.unit}"
        )


@dataclass(frozen=True)
class Line:
    """One line of the table.

    Attributes:
        requirement: What it asks for.
        measured: The number; None where there is none.
        floor: What bare Ray takes for the same, for a person.
        note: What else a person should know, or why there is no number.
    """

    requirement: Requirement
    measured: float | None
    floor: str = ""
    note: str = ""

    @property
    def holds(self) -> bool:
        """Whether it was measured and is within its bound."""
        if self.measured is None:
            return False
        if self.requirement.is_most:
            return self.measured <= self.requirement.bound
        return self.measured >= self.requirement.bound

    @property
    def measured_text(self) -> str:
        """The number for a person."""
        if self.measured is None:
            return "-"
        return f"{number_text(self.measured)}{self.requirement.unit}"

    def text(self) -> str:
        """The line for a log."""
        holds = "holds" if self.holds else "does not hold"
        parts = (self.requirement.bound_text, holds, self.note)
        told = "; ".join(part for part in parts if part)
        return f"{self.requirement.text}: {self.measured_text} ({told})"

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Line:
        """The line that a document is of."""
        unit = document["unit"]
        shown = unit if not unit or unit.startswith("/") else f" {unit}"
        asked = Requirement(document["what"], document["bound"], shown, document["is_most"])
        return cls(asked, document["measured"], document["floor"], document["note"])

    def document(self) -> dict[str, Any]:
        """For the JSON document."""
        return {
            "what": self.requirement.text,
            "bound": self.requirement.bound,
            "unit": self.requirement.unit.strip(),
            "is_most": self.requirement.is_most,
            "measured": round(self.measured, 3) if self.measured is not None else None,
            "holds": self.holds,
            "floor": self.floor,
            "note": self.note,
        }
