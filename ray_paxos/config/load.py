"""From a file, or its text, to a checked configuration."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import ValidationError

from ray_paxos.config.cluster import ClusterConfiguration
from ray_paxos.config.document import YamlDocument, parse_yaml, read_yaml_file
from ray_paxos.config.explain import explain, show
from ray_paxos.errors import ConfigurationError


def load_configuration(path: str | os.PathLike[str]) -> ClusterConfiguration:
    """Read a configuration file.

    Args:
        path: A YAML file, such as `configs/local.yaml`.

    Returns:
        The configuration, checked whole. Its `warnings` are for the caller to show.

    Raises:
        ConfigurationError: The file cannot be read, is not valid YAML, or says something that is
            not allowed. The message has one line a problem: file, line, field, what was found and
            what is allowed.
    """
    return _check(read_yaml_file(Path(path)))


def parse_configuration(text: str, source: str = "configuration") -> ClusterConfiguration:
    """Read a configuration from YAML text; `source` is what messages call it.

    Raises:
        ConfigurationError: As `load_configuration`.
    """
    return _check(parse_yaml(text, source))


def with_ray_address(configuration: ClusterConfiguration, address: str) -> ClusterConfiguration:
    """The same configuration for the Ray cluster at `address`.

    Raises:
        ConfigurationError: That is no address of a Ray cluster.
    """
    values = configuration.model_dump()
    values["ray"]["address"] = address
    return _check(YamlDocument(f"Ray address {address!r}", values, {}))


def _check(document: YamlDocument) -> ClusterConfiguration:
    content = {} if document.content is None else document.content
    if not isinstance(content, dict):
        raise ConfigurationError(
            f"{document.source}: found {show(content)}; allowed: a mapping of fields, with at "
            "least `cluster`"
        )
    try:
        return ClusterConfiguration.model_validate(content)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        raise ConfigurationError(explain(problems, document, ClusterConfiguration)) from None
