"""Reads a YAML file and remembers on which line each field stands.

Stricter than YAML: one document, text as keys, no key twice, no anchors. A configuration that says
something twice says something that its author did not mean, and PyYAML would silently keep the
last; anchors would make a field's line ambiguous and a small file arbitrarily large.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from ray_paxos.errors import ConfigurationError

FILE_BYTES_MAX = 1_000_000
FieldPath: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True)
class YamlDocument:
    """What a file holds.

    Attributes:
        source: The file, as messages name it.
        content: Plain Python values; None for an empty file.
        lines: From 1, of each field and list item, by its path from the root.
    """

    source: str
    content: Any
    lines: dict[FieldPath, int]

    def place(self, path: FieldPath) -> str:
        """`file:line` of the field, or of the nearest field around it that the file names."""
        while path and path not in self.lines:
            path = path[:-1]
        return f"{self.source}:{self.lines[path]}" if path else self.source


def read_yaml_file(path: Path) -> YamlDocument:
    """Read one file.

    Raises:
        ConfigurationError: It cannot be read, or as `parse_yaml`.
    """
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from error
    if len(data) > FILE_BYTES_MAX:
        raise ConfigurationError(
            f"{path}: longer than {FILE_BYTES_MAX:,} bytes, so not a configuration"
        )
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path}: not UTF-8 text (at byte {error.start:,})") from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, source: str) -> YamlDocument:
    """Read YAML text.

    Args:
        text: One document.
        source: What messages call it.

    Raises:
        ConfigurationError: Not valid YAML, or one of the things this module refuses; names the
            line and, for errors of syntax, the column.
    """
    try:
        loader = yaml.SafeLoader(text)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigurationError(
            f"{source}:{line}: not valid YAML: the character U+{error.character:04X} is not allowed"
        ) from error
    try:
        root = loader.get_single_node()
        if root is None:
            return YamlDocument(source, None, {})
        lines = dict(_walk(root, (), source, set()))
        return YamlDocument(source, loader.construct_document(root), lines)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else source
        said = ": ".join(part for part in (error.context, error.problem) if part)
        raise ConfigurationError(f"{place}: not valid YAML: {said}") from error
    except RecursionError as error:
        raise ConfigurationError(f"{source}: nested too deeply for a configuration") from error
    except ValueError as error:
        # A scalar that looks like a date or a number but is none, such as 2026-13-45.
        raise ConfigurationError(f"{source}: not valid YAML: {error}") from error
    finally:
        loader.dispose()


def _walk(
    node: yaml.Node, path: FieldPath, source: str, seen: set[int]
) -> Iterator[tuple[FieldPath, int]]:
    """Yield the line of every field below `node`, and refuse what this module does not allow."""
    if id(node) in seen:
        line = node.start_mark.line + 1
        raise ConfigurationError(
            f"{source}:{line}: {dotted(path)}: repeats an anchor (&name, *name); write the value "
            "out instead"
        )
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield (*path, index), item.start_mark.line + 1
            yield from _walk(item, (*path, index), source, seen)
    elif isinstance(node, yaml.MappingNode):
        first_lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            key, line = _key(key_node, source), key_node.start_mark.line + 1
            if key in first_lines:
                raise ConfigurationError(
                    f"{source}:{line}: {dotted((*path, key))}: given twice, first on line "
                    f"{first_lines[key]}"
                )
            first_lines[key] = line
            yield (*path, key), line
            yield from _walk(value_node, (*path, key), source, seen)


def _key(node: yaml.Node, source: str) -> str:
    """The text of a key."""
    if isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:str":
        return str(node.value)
    shown = node.value if isinstance(node, yaml.ScalarNode) else "a list or mapping"
    raise ConfigurationError(
        f"{source}:{node.start_mark.line + 1}: {shown}: a key has to be text (quote it if it is)"
    )


def dotted(path: FieldPath) -> str:
    """The path as people write it: `members[0].name`."""
    shown = ""
    for part in path:
        if isinstance(part, int):
            shown += f"[{part}]"
        else:
            shown += f".{part}" if shown else part
    return shown
