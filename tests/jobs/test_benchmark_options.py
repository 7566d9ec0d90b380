"""Wrong input of the benchmark: a message and exit status 2, before anything is started."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

import benchmark
import benchmark_cluster
from benchmark_options import Options, check
from benchmark_workload import NAMES
from ray_paxos.config import ClusterConfiguration
from ray_paxos.errors import ConfigurationError

CONFIG = str(Path(__file__).resolve().parents[2] / "configs" / "local.yaml")


def find_none(name: str) -> None:
    return None


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("--workload ycsb-g", "ycsb-g"),
        ("--in-flight 0", "--in-flight: found '0'"),
        ("--in-flight 10,x", "--in-flight: found '10,x'"),
        ("--in-flight ,", "--in-flight"),
        ("--in-flight 99999", "50,000"),
        ("--rate 100 --in-flight 5", "--rate is for an open load"),
        ("--rate 100 --batch 10", "--rate with --batch"),
        ("--rate 0", "--rate: found 0"),
        ("--seconds 0", "--seconds: found 0"),
        ("--seconds nan", "--seconds: found nan"),
        ("--repeat 0", "--repeat: found 0"),
        ("--groups 0", "--groups: found 0"),
        ("--value-size -1", "--value-size: found -1"),
        ("--roles apart", "--roles: found 'apart'"),
        ("--read-consistency eventual", "--read-consistency: found 'eventual'"),
        ("--batch 10 --workload get", "--batch with --workload get"),
        ("--batch 10 --workload ycsb-a", "--batch with --workload ycsb-a"),
        ("--batch 60000 --in-flight 2", "a client holds 100,000"),
        ("--json no/such/folder/out.json", "there is no folder"),
        ("--json .", "is a directory"),
        ("--report no/such/folder.html", "there is no folder"),
        ("--report out.pdf", "a file whose name ends in .html"),
        ("--figures no/such/folder", "no/such is no folder"),
        ("--beside no_such_file.json", "--beside no_such_file.json: cannot be read"),
        ("--suite readme --beside README.md", "README.md: is no JSON document"),
        ("--suite paper", "--suite: found 'paper'"),
        ("--suite readme --workload put", "--workload with --suite"),
        ("--suite readme --in-flight 5", "--in-flight with --suite"),
        ("--quick", "--quick; allowed: with --suite"),
        ("--peer redis", "--peer: found 'redis'"),
        ("--peer etcd --batch 10", "--batch with --peer"),
        ("--peer etcd --groups 2", "--peer with --groups"),
        ("--peer pysyncobj --workload ycsb-e", "peers are measured with puts and gets"),
        ("--config no_such_file.yaml", "no_such_file.yaml"),
        ("--in-flight", "requires an argument"),
    ],
)
def test_wrong_input_ends_with_two(
    arguments: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise AssertionError("nothing is started")

    for name in ("benchmark_cluster", "running_peer", "Suite", "measure_floor"):
        monkeypatch.setattr(benchmark, name, refuse)
    done = CliRunner().invoke(benchmark.main, arguments.split())
    assert done.exit_code == 2, done.output
    assert told in done.output.replace("\n", " ")


def test_a_file_that_cannot_be_written_is_told_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Root may write everywhere.
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(ConfigurationError, match="is not writable"):
        check(Options(CONFIG, json=str(tmp_path / "out.json")))
    with pytest.raises(ConfigurationError, match="is not writable"):
        check(Options(CONFIG, report=str(tmp_path / "out.html")))
    with pytest.raises(ConfigurationError, match="is not writable"):
        check(Options(CONFIG, figures=str(tmp_path / "figures")))


def test_peers_that_are_not_installed_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import benchmark_pysyncobj

    monkeypatch.setattr(benchmark_pysyncobj, "find_spec", find_none)
    with pytest.raises(ConfigurationError, match=r"ray_paxos\[benchmark\]"):
        check(Options(CONFIG, peer="pysyncobj"))
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigurationError, match="etcd-server"):
        check(Options(CONFIG, peer="etcd"))


def test_fused_roles_are_refused_where_the_configuration_has_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(benchmark_cluster, "has_roles", lambda roles: roles == "separate")
    with pytest.raises(ConfigurationError, match="no field `roles`"):
        check(Options(CONFIG, roles="fused"))


def test_roles_are_told_to_the_configuration_only_if_they_are_not_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts: list[str] = []

    def parse(text: str, source: str) -> ClusterConfiguration:
        texts.append(text)
        return ClusterConfiguration(cluster="x")

    monkeypatch.setattr(benchmark_cluster, "parse_configuration", parse)
    monkeypatch.setattr(benchmark_cluster, "has_roles", lambda roles: True)
    default = "roles: separate" in texts
    for roles in ("separate", "fused"):
        benchmark_cluster.benchmark_configuration(CONFIG, str(tmp_path), groups=1, roles=roles)
    assert "roles: fused" in texts[1]
    assert "roles: fused" not in texts[0]
    assert not default


def test_a_cluster_is_in_its_own_folder_and_on_a_ray_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    make = benchmark_cluster.benchmark_configuration
    made = make(CONFIG, str(tmp_path), groups=20, roles="separate")
    assert (made.cluster, made.data_dir, made.ray.address) == ("benchmark", str(tmp_path), "local")
    assert [group.group for group in made.groups] == list(range(1, 21))
    assert {tuple(group.machines) for group in made.groups} == {("kv",)}
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert make(CONFIG, str(tmp_path), groups=1, roles="separate").ray.address is None


@pytest.mark.parametrize("name", NAMES)
def test_all_workloads_are_taken(name: str) -> None:
    check(Options(CONFIG, workload=name, rate=100.0))


def test_settings_are_as_asked_for() -> None:
    def flights(options: Options) -> list[int | None]:
        return [setting.in_flight for setting in options.settings()]

    assert flights(Options(CONFIG)) == [1, 100, 1_000, 5_000]
    assert flights(Options(CONFIG, batch=1_000)) == [1, 4, 8]
    assert flights(Options(CONFIG, in_flight="3, 7")) == [3, 7]
    (setting,) = Options(CONFIG, rate=50.0, seconds=3.0, warmup_seconds=0.0).settings()
    assert (setting.in_flight, setting.rate, setting.seconds) == (None, 50.0, 3.0)
    assert Options(CONFIG, floor=True).is_only_floor()
    assert not Options(CONFIG, floor=True, workload="put").is_only_floor()
    check(Options(CONFIG, suite="readme", quick=True))


def test_an_interrupt_ends_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_arguments: object, **_options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(benchmark, "benchmark_cluster", interrupt)
    assert CliRunner().invoke(benchmark.main, ["--workload", "put"]).exit_code == 130
