"""Turns what pydantic found wrong into one message a person can act on.

Each line names the file, the line in it, the field, what was found there and what is allowed.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from ray_paxos.config.document import FieldPath, YamlDocument, dotted

PROBLEMS_MAX = 10
REFUSED = "refused"
"""Type of the errors that our own validators raise: their text is already complete."""


def explain(
    problems: Iterable[ErrorDetails], document: YamlDocument, model: type[BaseModel]
) -> str:
    """One line a problem, at most `PROBLEMS_MAX`, each problem once."""
    lines = list(dict.fromkeys(_explain_one(p, document, model) for p in problems))
    more = len(lines) - PROBLEMS_MAX
    if more > 0:
        lines[PROBLEMS_MAX:] = [f"{document.source}: and {more} more"]
    return "\n".join(lines)


def _explain_one(problem: ErrorDetails, document: YamlDocument, model: type[BaseModel]) -> str:
    context = problem.get("ctx", {})
    path = _path_in_file(context.get("field", problem["loc"]), document)
    where = f"{document.place(path)}: {dotted(path)}: " if path else f"{document.source}: "
    allowed = _allowed(model, problem["loc"])
    if problem["type"] == REFUSED:
        return where + problem["msg"]
    if problem["type"] == "missing":
        return where + f"missing; allowed: {allowed}"
    if problem["type"] == "extra_forbidden":
        return where + _unknown_field(model, problem["loc"])
    return where + f"found {show(problem['input'])}; allowed: {allowed or problem['msg']}"


def _path_in_file(location: FieldPath, document: YamlDocument) -> FieldPath:
    """Where the file says it: a number that stands for many groups has no list to index."""
    path: FieldPath = ()
    for part in location:
        if isinstance(part, int) and (*path, part) not in document.lines:
            continue
        path = (*path, part)
    return path


def show(found: object) -> str:
    """What the file holds, short and with its kind."""
    match found:
        case None:
            return "nothing"
        case bool():
            return f"{str(found).lower()} (a truth value)"
        case str():
            shown = found if len(found) <= 60 else found[:57] + "..."
            return f"{shown!r}"
        case float() if found.is_integer():
            return f"{int(found):,}"
        case int() | float():
            return f"{found:,}"
        case dict():
            return "a mapping"
        case list() | tuple():
            return "a list"
        case _:
            return f"{found} ({type(found).__name__})"


def _unknown_field(model: type[BaseModel], location: FieldPath) -> str:
    owner = _model_at(model, location[:-1])
    names = sorted(owner.model_fields) if owner is not None else []
    near = difflib.get_close_matches(str(location[-1]), names, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return f"unknown field{hint}; allowed here: {', '.join(names)}"


def _allowed(model: type[BaseModel], location: FieldPath) -> str:
    """What the field's declaration says is allowed; empty where it says nothing."""
    for length in range(len(location), 0, -1):
        owner, name = _model_at(model, location[: length - 1]), location[length - 1]
        if owner is not None and isinstance(name, str) and name in owner.model_fields:
            field = owner.model_fields[name]
            if isinstance(field.json_schema_extra, dict):
                return str(field.json_schema_extra["allowed"])
            within = _model_within(field.annotation)
            return f"a mapping of {', '.join(sorted(within.model_fields))}" if within else ""
    return ""


def _model_at(model: type[BaseModel], location: FieldPath) -> type[BaseModel] | None:
    """The model whose fields stand at that place, or None where there is none."""
    current: type[BaseModel] | None = model
    for part in location:
        if isinstance(part, int):
            continue
        if current is None or part not in current.model_fields:
            return None
        current = _model_within(current.model_fields[part].annotation)
    return current


def _model_within(annotation: Any) -> type[BaseModel] | None:
    """The model in `Model`, `Model | None` or `tuple[Model, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in get_args(annotation):
        if (found := _model_within(argument)) is not None:
            return found
    return None
