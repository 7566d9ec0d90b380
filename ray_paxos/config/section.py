"""What all parts of a configuration share: their strictness, and how a field is declared.

A field's declaration carries everything that is said about it: default, bounds, meaning, and what
is allowed in words, which error messages and README's reference use.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from ray_paxos.config.explain import REFUSED
from ray_paxos.core.settings import MILLISECOND_NS

DAY_MS = 86_400_000
GIBIBYTE = 1 << 30

_NAME = r"^[a-z0-9][a-z0-9_-]{0,62}$"
_NAME_ALLOWED = "1 to 63 lower-case letters, digits, - and _, beginning with a letter or digit"


class Section(BaseModel):
    """What all parts share: nothing unknown, nothing converted silently, nothing changed later."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    def in_core_units(self) -> dict[str, Any]:
        """The fields as the core names and counts them."""
        values: dict[str, Any] = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            if name.endswith("_ms"):
                values[name.removesuffix("_ms") + "_ns"] = round(value * MILLISECOND_NS)
            else:
                values[name] = value
        return values


def refuse(reason: str, field: tuple[str | int, ...] | None = None) -> PydanticCustomError:
    """An error whose text is complete; `field` where it is not the field being validated."""
    context: dict[str, Any] = {"reason": reason}
    if field is not None:
        context["field"] = field
    return PydanticCustomError(REFUSED, "{reason}", context)


def name_field(meaning: str) -> Any:
    """A required name that can be part of a path and of an actor's name."""
    return Field(pattern=_NAME, description=meaning, json_schema_extra={"allowed": _NAME_ALLOWED})


def milliseconds_field(
    default_ns: int, meaning: str, *, low: float = 1, high: float = DAY_MS
) -> Any:
    """A time in milliseconds, with the core's default, which counts nanoseconds."""
    default_ms = default_ns / MILLISECOND_NS
    allowed = f"milliseconds from {low:,} to {high:,}"
    return Field(
        int(default_ms) if default_ms.is_integer() else default_ms,
        ge=low,
        le=high,
        description=meaning,
        json_schema_extra={"allowed": allowed},
    )


def whole_field(
    default: int, low: int, high: int, meaning: str, *, unit: str = "a whole number"
) -> Any:
    """A count with its bounds, both included."""
    allowed = f"{unit} from {low:,} to {high:,}"
    return Field(
        default, ge=low, le=high, description=meaning, json_schema_extra={"allowed": allowed}
    )


def bytes_field(default: int, low: int, high: int, meaning: str) -> Any:
    """A size in bytes with its bounds, both included."""
    return whole_field(default, low, high, meaning, unit="bytes, a whole number")
