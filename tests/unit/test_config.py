"""The configuration: defaults, units, and messages a person can act on."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from ray_paxos import config
from ray_paxos.config import (
    ClusterConfiguration,
    MemberConfiguration,
    load_configuration,
    parse_configuration,
    with_ray_address,
)
from ray_paxos.core import settings as core
from ray_paxos.core.genesis import MachineSpec
from ray_paxos.errors import ConfigurationError
from ray_paxos.storage.data_dir import resolve_data_dir

SECTIONS = {
    "proposer": core.ProposerSettings,
    "acceptor": core.AcceptorSettings,
    "learner": core.LearnerSettings,
    "checkpointer": core.CheckpointerSettings,
}


def parse(text: str) -> ClusterConfiguration:
    return parse_configuration(text, "x.yaml")


def refusal(text: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        parse(text)
    return str(caught.value)


KINDS = ["barriers", "counters", "kv", "ledgers", "log", "objects", "permits", "queues"]
"""What a group has, where nobody says otherwise."""


# What a file can say


def test_a_name_is_enough() -> None:
    configuration = parse("cluster: demo")
    assert [member.name for member in configuration.members] == ["m1", "m2", "m3"]
    assert [group.group for group in configuration.groups] == [1]
    assert configuration.groups[0].machine_specs() == tuple(
        MachineSpec(kind, kind, 1) for kind in KINDS
    )
    assert configuration.data_dir is None
    assert configuration.ray.address is None
    assert configuration.warnings == ()


@pytest.mark.parametrize("section", SECTIONS)
def test_every_setting_of_the_core_is_a_field_with_the_cores_default(section: str) -> None:
    part = getattr(parse("cluster: demo"), section)
    assert part.settings() == SECTIONS[section]()
    in_file = {re.sub("_ms$", "_ns", name) for name in type(part).model_fields}
    assert in_file == {field.name for field in dataclasses.fields(SECTIONS[section])}


def test_milliseconds_become_whole_nanoseconds() -> None:
    text = "cluster: demo\nproposer: {retransmit_ms: 7, chosen_delay_ms: 0.25}"
    settings = parse(text).proposer.settings()
    assert settings.retransmit_ns == 7_000_000
    assert settings.chosen_delay_ns == 250_000
    assert isinstance(settings.chosen_delay_ns, int)


def test_members_as_a_number_as_names_and_as_mappings() -> None:
    assert len(parse("cluster: demo\nmembers: 5").members) == 5
    text = """
cluster: demo
members:
  - a
  - name: b
    node_labels: {ray_paxos/member: b}
    priority: 0
  - name: c
    resource: disk_c
    priority: 2
"""
    assert parse(text).members == (
        MemberConfiguration(name="a"),
        MemberConfiguration(name="b", node_labels={"ray_paxos/member": "b"}, priority=0),
        MemberConfiguration(name="c", resource="disk_c", priority=2),
    )


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ("3", [(1, KINDS), (2, KINDS), (3, KINDS)]),
        ("{count: 2, machines: {a: kv}}", [(1, ["a"]), (2, ["a"])]),
        ("[{group: 7}, {group: 3, machines: {l: log}}]", [(7, KINDS), (3, ["l"])]),
    ],
)
def test_groups_as_a_number_a_mapping_and_a_list(groups: str, expected: list[object]) -> None:
    configuration = parse(f"cluster: demo\ngroups: {groups}")
    assert [(group.group, sorted(group.machines)) for group in configuration.groups] == expected


def test_a_section_with_everything_commented_out_means_the_defaults() -> None:
    assert parse("cluster: demo\nproposer:\n  # window_max: 4\n") == parse("cluster: demo")


def test_the_environment_for_ray() -> None:
    assert parse("cluster: demo\nray: {keepalive_time_ms: 250}").ray.environment() == {
        "RAY_max_direct_call_object_size": "2000000",
        "RAY_task_rpc_inlined_bytes_limit": "50000000",
        "RAY_grpc_client_keepalive_time_ms": "250",
        "RAY_grpc_client_keepalive_timeout_ms": "1000",
        "RAY_worker_niceness": "0",
    }


def test_a_configuration_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValidationError):
        parse("cluster: demo").cluster = "other"  # type: ignore[misc]


@pytest.mark.parametrize("path", sorted(Path("configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_shipped_files_load_without_a_warning(path: Path, repository: Path) -> None:
    assert load_configuration(repository / path).warnings == ()


def test_the_shipped_files_are_all_there(repository: Path) -> None:
    names = {path.stem for path in (repository / "configs").glob("*.yaml")}
    assert names >= {"local", "three_nodes", "five_nodes", "many_groups"}


# Warnings


@pytest.mark.parametrize(("members", "survivors"), [(2, 0), (4, 1)])
def test_an_even_number_of_voters_is_allowed_with_a_warning(members: int, survivors: int) -> None:
    (warning,) = parse(f"cluster: demo\nmembers: {members}").warnings
    assert warning.startswith(f"members: {members} voters survive the loss of {survivors},")


# What a file must not say: file, line, field, what was found, what is allowed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "",
            "x.yaml: cluster: missing; allowed: 1 to 63 lower-case letters, digits, - and _, "
            "beginning with a letter or digit",
        ),
        (
            "cluster: A b",
            "x.yaml:1: cluster: found 'A b'; allowed: 1 to 63 lower-case letters, digits, - and "
            "_, beginning with a letter or digit",
        ),
        (
            "cluster: ../up",
            "x.yaml:1: cluster: found '../up'; allowed: 1 to 63 lower-case letters, digits, - "
            "and _, beginning with a letter or digit",
        ),
        ("cluster: x\nmembers: 0", "x.yaml:2: members: found 0; allowed: 1 to 100 members"),
        (
            "cluster: x\nmembers: true",
            "x.yaml:2: members: found true (a truth value); allowed: a number from 1 to 100, or a "
            "list of members",
        ),
        (
            "cluster: x\nmembers:\n- a\n- b\n- a",
            "x.yaml:2: members: a is given twice; each needs its own",
        ),
        (
            "cluster: x\nmembers:\n- name: a\n  node_label: {z: a}",
            "x.yaml:4: members[0].node_label: unknown field (did you mean node_labels?); allowed "
            "here: name, node_labels, priority, resource",
        ),
        (
            "cluster: x\nmembers:\n- name: a\n  node_labels:\n    zone: 1",
            "x.yaml:5: members[0].node_labels.zone: found 1; allowed: a mapping from label to "
            "value, both text",
        ),
        (
            "cluster: x\nmembers: [{name: a, node_labels: {zone: '!b'}}]",
            "x.yaml:2: members[0].node_labels: found zone=!b; allowed: labels as `ray start "
            "--labels` takes them, letters, digits, -, _ and . with an optional prefix before a "
            "/ in the key",
        ),
        (
            "cluster: x\n\nproposer:\n  window_max: 0",
            "x.yaml:4: proposer.window_max: found 0; allowed: a whole number from 1 to 1,024",
        ),
        (
            "cluster: x\nproposer: {window_max: '8'}",
            "x.yaml:2: proposer.window_max: found '8'; allowed: a whole number from 1 to 1,024",
        ),
        (
            "cluster: x\nproposer: {retransmit_ms: -5}",
            "x.yaml:2: proposer.retransmit_ms: found -5; allowed: milliseconds from 1 to "
            "86,400,000",
        ),
        (
            "cluster: x\nproposer: {retransmit_ms: .nan}",
            "x.yaml:2: proposer.retransmit_ms: found nan; allowed: milliseconds from 1 to "
            "86,400,000",
        ),
        (
            "cluster: x\nlearner: {seal_bytes: 1e12}",
            "x.yaml:2: learner.seal_bytes: found '1e12'; allowed: bytes, a whole number from "
            "1,000 to 1,073,741,824",
        ),
        (
            "cluster: x\nacceptor: 3",
            "x.yaml:2: acceptor: found 3; allowed: a mapping of clock_drift_ppm, "
            "hearsay_ms, promise_bytes_max",
        ),
        (
            "cluster: x\ngroups: {count: 3, machines: {kv: kvv}}",
            "x.yaml:2: groups.machines: kv: found 'kvv'; allowed kinds: "
            "barriers, counters, kv, ledgers, log, objects, permits, queues, or "
            "package.module:Class",
        ),
        (
            "cluster: x\ngroups: [{group: 1}, {group: 1}]",
            "x.yaml:2: groups: 1 is given twice; each needs its own",
        ),
        (
            "cluster: x\ngroups:\n- group: 0",
            "x.yaml:3: groups[0].group: found 0; allowed: a whole number from 1 to 1,000,000",
        ),
        (
            "cluster: x\ngroups: {number: 3}",
            "x.yaml:2: groups: found a mapping of number; allowed: a mapping of `count` and, "
            "where they are not the default, `voters` and `machines`; or a list of groups",
        ),
        (
            "cluster: x\ngroups: 2_000",
            "x.yaml:2: groups: found 2,000; allowed: 1 to 1,024 groups",
        ),
        (
            "cluster: x\ndata_dir: data",
            "x.yaml:2: data_dir: found 'data'; allowed: an absolute path, or one that begins "
            "with ~",
        ),
        (
            "cluster: x\nlogging: {level: info}",
            "x.yaml:2: logging.level: found 'info'; allowed: DEBUG, INFO, WARNING or ERROR",
        ),
        (
            "cluster: x\nray: {nodes_min: 4}",
            "x.yaml:2: ray.nodes_min: found 4; allowed: at most one node a member (3)",
        ),
    ],
)
def test_one_wrong_thing_gives_one_line(text: str, message: str) -> None:
    assert refusal(text) == message


def test_several_wrong_things_are_told_together() -> None:
    told = refusal("cluster: x\nproposer: {window_max: 0}\nlearner: {seal_byte: 1}\n")
    assert [line.split(" ")[:2] for line in told.splitlines()] == [
        ["x.yaml:2:", "proposer.window_max:"],
        ["x.yaml:3:", "learner.seal_byte:"],
    ]


def test_a_long_list_of_wrong_things_is_cut() -> None:
    told = refusal("cluster: x\n" + "\n".join(f"field{number}: 1" for number in range(30)))
    assert len(told.splitlines()) == 11
    assert told.endswith("x.yaml: and 20 more")


@pytest.mark.parametrize(
    ("text", "field", "reason"),
    [
        (
            "proposer: {election_timeout_ms: 390}",
            "proposer.election_timeout_ms",
            "found 390; allowed: at least twice heartbeat_interval_ms (200)",
        ),
        (
            "proposer: {lease_ms: 399}",
            "proposer.lease_ms",
            "found 399; allowed: 0, or whole milliseconds, at least twice heartbeat_interval_ms "
            "(200)",
        ),
        ("proposer: {lease_ms: 1000.5}", "proposer.lease_ms", "whole milliseconds"),
        (
            "proposer: {learner_gap_ms: 300}",
            "proposer.learner_gap_ms",
            "found 300; allowed: more than learner.catch_up_retry_ms (300)",
        ),
        ("proposer: {intake_bytes_max: 5000}", "proposer.intake_bytes_max", "found 5,000"),
        ("proposer: {retained_bytes_max: 5000}", "proposer.retained_bytes_max", "found 5,000"),
        (
            "proposer: {retained_bytes_max: 3000000}",
            "proposer.retained_bytes_max",
            "found 3,000,000; allowed: at least learner.seal_bytes (4,000,000)",
        ),
        ("learner: {pending_bytes_max: 5000}", "learner.pending_bytes_max", "found 5,000"),
        ("ray: {address: 'ray://h:10001'}", "ray.address", "Ray Client is not supported"),
    ],
)
def test_what_contradicts_itself_is_refused_with_the_reason(
    text: str, field: str, reason: str
) -> None:
    told = refusal(f"cluster: x\n{text}")
    assert told.startswith(f"x.yaml:2: {field}: ")
    assert reason in told


@pytest.mark.parametrize("lease_ms", [0, 400])
def test_no_lease_and_one_of_two_heartbeats_are_allowed(lease_ms: int) -> None:
    configuration = parse(f"cluster: x\nproposer: {{lease_ms: {lease_ms}}}")
    assert configuration.proposer.settings().lease_ns == lease_ms * 1_000_000
    assert configuration.warnings == ()


def test_a_ray_address_can_be_given_beside_the_file() -> None:
    configuration = parse("cluster: x\nmembers: [a, b, c]\ngroups: 2")
    changed = with_ray_address(configuration, "10.0.0.1:6379")
    assert changed.ray.address == "10.0.0.1:6379"
    assert changed.members == configuration.members
    assert changed.groups == configuration.groups
    with pytest.raises(ConfigurationError, match="Ray Client is not supported"):
        with_ray_address(configuration, "ray://h:10001")


# The file itself


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cluster: [", "x.yaml:1:11: not valid YAML: while parsing a flow node: expected"),
        ("cluster: x\n\tmembers: 3", "x.yaml:2:1: not valid YAML: "),
        ("cluster: x\n---\ncluster: y", "x.yaml:2:1: not valid YAML: expected a single document"),
        ("cluster: x\ncluster: y", "x.yaml:2: cluster: given twice, first on line 1"),
        (
            "cluster: x\nray:\n  nodes_min: 1\n  nodes_min: 2",
            "x.yaml:4: ray.nodes_min: given twice, first on line 3",
        ),
        ("cluster: &a x\ndata_dir: *a", "x.yaml:1: data_dir: repeats an anchor"),
        ("cluster: x\ngroups: {on: 3}", "x.yaml:2: on: a key has to be text"),
        ("? [a]\n: b", "x.yaml:1: a list or mapping: a key has to be text"),
        ("cluster: 2026-13-45", "x.yaml: not valid YAML: month must be in 1..12"),
        ("a: !!python/object:os.system x", "x.yaml:1:4: not valid YAML: "),
        ("cluster: x\ndata_dir: \x01", "x.yaml:2: not valid YAML: the character U+0001"),
        ("- cluster", "x.yaml: found a list; allowed: a mapping of fields"),
        ("cluster", "x.yaml: found 'cluster'; allowed: a mapping of fields"),
        ("[" * 20_000, "x.yaml: nested too deeply"),
    ],
)
def test_what_is_no_configuration_file_is_refused(text: str, message: str) -> None:
    assert refusal(text).startswith(message)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    cases = {"missing.yaml": "No such file or directory", "folder": "Is a directory"}
    (tmp_path / "folder").mkdir()
    for name, reason in cases.items():
        with pytest.raises(ConfigurationError) as caught:
            load_configuration(tmp_path / name)
        assert str(caught.value) == f"{tmp_path / name}: cannot be read: {reason}"


def test_a_file_that_is_no_text_or_too_long_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(b"cluster: d\xe9mo")
    with pytest.raises(ConfigurationError, match=r"not UTF-8 text \(at byte 10\)"):
        load_configuration(path)
    path.write_bytes(b"#" * 1_000_001)
    with pytest.raises(ConfigurationError, match="longer than 1,000,000 bytes"):
        load_configuration(str(path))


def test_a_byte_order_mark_is_no_part_of_the_first_field(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(b"\xef\xbb\xbfcluster: demo")
    assert load_configuration(path).cluster == "demo"


# Where the data lies


def test_the_data_folder_is_resolved_from_file_then_variable_then_home(tmp_path: Path) -> None:
    assert resolve_data_dir("/disk", {"RAY_PAXOS_HOME": "/other"}) == Path("/disk")
    assert resolve_data_dir(None, {"RAY_PAXOS_HOME": str(tmp_path)}) == tmp_path
    assert resolve_data_dir(None, {}) == Path.home() / ".ray_paxos"
    assert resolve_data_dir("~/data", {}) == Path.home() / "data"


def test_a_relative_variable_or_an_unknown_home_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="RAY_PAXOS_HOME: found 'data'"):
        resolve_data_dir(None, {"RAY_PAXOS_HOME": "data"})
    with pytest.raises(ConfigurationError, match="~nobody_of_that_name"):
        resolve_data_dir("~nobody_of_that_name/data", {})


# README's reference


UNITS = {
    "bytes, a whole number from ": " bytes",
    "milliseconds, a whole number from ": " ms",
    "milliseconds from ": " ms",
    "a whole number from ": "",
}
SHOWN_DEFAULTS = {"members": "3", "groups": "1"}


def reference(model: type[BaseModel], prefix: str = "") -> list[str]:
    """The rows that README's reference should have for a part of the configuration."""
    rows = []
    for name, field in model.model_fields.items():
        if isinstance(field.default, BaseModel):
            rows += reference(type(field.default), f"{name}.")
            continue
        extra = field.json_schema_extra
        assert isinstance(extra, dict), name
        allowed = str(extra["allowed"])
        for start, unit in UNITS.items():
            if allowed.startswith(start):
                allowed = allowed.removeprefix(start) + unit
        shown = [f"`{prefix}{name}`", shown_default(name, field), allowed, field.description or ""]
        rows.append("| " + " | ".join(shown) + " |")
    return rows


def shown_default(name: str, field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if isinstance(field.default, bool):
        return str(field.default).lower()
    if isinstance(field.default, int | float):
        return f"{field.default:,}"
    if isinstance(field.default, dict):
        return ", ".join(f"{key}: {value}" for key, value in field.default.items()) or "none"
    return SHOWN_DEFAULTS.get(name, "none" if field.default is None else str(field.default))


def test_readme_names_every_field_with_default_unit_and_meaning(repository: Path) -> None:
    text = (repository / "README.md").read_text()
    readme = set(text.split("\n## Configuration reference\n")[1].split("\n## ")[0].splitlines())
    rows = [
        *reference(config.ClusterConfiguration),
        *reference(config.MemberConfiguration, "members[]."),
        *reference(config.GroupConfiguration, "groups[]."),
    ]
    assert len(rows) > 35
    assert [row for row in rows if row not in readme] == []
    # And no field that there is not.
    named = {row.split(" | ")[0] for row in readme if re.match(r"\| `[a-z]+(\[\])?\.", row)}
    assert named <= {row.split(" | ")[0] for row in rows}
