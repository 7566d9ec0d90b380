"""A cluster that a job starts for itself, in a folder that it removes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ray_paxos.config import ClusterConfiguration, load_configuration, parse_configuration
from ray_paxos.errors import ConfigurationError

if TYPE_CHECKING:
    from ray_paxos import Cluster


def own_configuration(
    config: str, name: str, folder: str, sections: Mapping[str, Mapping[str, Any]]
) -> ClusterConfiguration:
    """A configuration under another name and in another folder.

    Args:
        config: The file it is taken from.
        name: Of the cluster.
        folder: Where its data goes.
        sections: What differs, by section.

    Raises:
        ConfigurationError: The file, or what differs, is wrong.
    """
    base = load_configuration(config).model_dump(mode="json")
    base["cluster"], base["data_dir"] = name, folder
    for section, fields in sections.items():
        if not isinstance(base.get(section), dict):
            raise ConfigurationError(f"{section}: a configuration has no section of that name")
        base[section] |= fields
    return parse_configuration(yaml.safe_dump(base), f"{config}, as this job changes it")


@contextmanager
def own_cluster(
    config: str, name: str, sections: Mapping[str, Mapping[str, Any]]
) -> Iterator[tuple[Cluster, ClusterConfiguration, Path]]:
    """Start a cluster of the job's own, and end it with its data.

    Args:
        config: The file its configuration is taken from.
        name: Of the cluster.
        sections: What differs, by section.

    Yields:
        The cluster, its configuration, and the folder of its data.
    """
    import ray_paxos

    with tempfile.TemporaryDirectory(prefix=f"ray_paxos-{name}-") as folder:
        configuration = own_configuration(config, name, folder, sections)
        cluster = ray_paxos.start(configuration)
        try:
            yield cluster, configuration, Path(folder) / name
        finally:
            cluster.stop(delete_data=True)
