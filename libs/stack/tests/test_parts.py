"""Ports, configuration, environment and log files, without a server."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from millrace.bus.topology import PERMISSIONS
from millrace.errors import Conflict, Invalid, Unavailable
from millrace_stack import cli, natsconf, ports, process, secret_files
from millrace_stack.addresses import addresses
from millrace_stack.config import SERVICES, StackConfig
from millrace_stack.environment import ServiceEnvironment, inherited
from millrace_stack.launch import OPEN_FILES
from millrace_stack.layout import Layout, locate
from millrace_stack.log_files import Follower
from millrace_stack.prepare import prepare


def test_ports_are_free_different_and_not_given_twice() -> None:
    found = ports.free_ports(50)
    try:
        assert len(set(found)) == 50
        other = [sys.executable, "-c", f"from millrace_stack.ports import reserve; print(reserve({found[0]}))"]
        assert subprocess.run(other, capture_output=True, text=True, check=True).stdout.strip() == "False"
    finally:
        ports.release(found)
    assert ports.reserve(found[0])
    ports.release(found)


def test_a_port_that_somebody_listens_on_cannot_be_reserved() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert not ports.reserve(server.getsockname()[1])


def test_a_services_port_is_named_then_from_the_environment_then_its_own() -> None:
    catalog = SERVICES[0]
    assert StackConfig().wanted_port(catalog, {}) == 8700
    assert StackConfig(ports="auto").wanted_port(catalog, {}) is None
    assert StackConfig(ports="auto").wanted_port(catalog, {"MILLRACE_CATALOG_PORT": "9000"}) == 9000
    assert StackConfig(named_ports={"catalog": 9001}).wanted_port(catalog, {"MILLRACE_CATALOG_PORT": "9000"}) == 9001
    with pytest.raises(Invalid, match="MILLRACE_CATALOG_PORT is no port"):
        StackConfig().wanted_port(catalog, {"MILLRACE_CATALOG_PORT": "eighty"})


def test_the_platform_is_six_services_on_their_ports_and_the_provisioner() -> None:
    assert {spec.name: spec.port for spec in SERVICES} == {
        "catalog": 8700,
        "serving": 8701,
        "cache-manager": 8702,
        "ingest": 8703,
        "trainer": 8704,
        "drift-monitor": 8705,
        "provisioner": None,
    }


def test_services_inherit_settings_but_no_credentials() -> None:
    environ = {
        "PATH": "/bin",
        "MILLRACE_LOG_LEVEL": "debug",
        "MILLRACE_OTLP_ENDPOINT": "http://127.0.0.1:4318",
        "MILLRACE_TOKEN": "mlr_x",
        "MILLRACE_S3_SECRET_KEY_FILE": "/somewhere",
        "MILLRACE_FAILPOINTS": "x=kill",
        "MILLRACE_STACK_NATS_BIN": "/x",
        "AWS_SECRET_ACCESS_KEY": "s",
        "PYTHONPATH": "/evil",
    }
    assert set(inherited(environ)) == {
        "PATH",
        "MILLRACE_LOG_LEVEL",
        "MILLRACE_OTLP_ENDPOINT",
        "MILLRACE_S3_SECRET_KEY_FILE",
    }


def test_a_server_that_the_environment_names_is_used() -> None:
    environ = {"MILLRACE_STACK_MONGO_ADDRESS": "mongodb://a:b@db.example:27017/?replicaSet=rs0"}
    where = addresses({"nats": 4222}, environ)
    assert where.nats == "nats://127.0.0.1:4222"
    assert where.mongo_uri("catalog", "ignored") == "mongodb://a:b@db.example:27017/catalog?replicaSet=rs0"
    assert where.external == {"mongo"}


def test_the_directory_is_named_or_found(tmp_path: Path) -> None:
    assert locate(tmp_path, environ={"MILLRACE_HOME": "/x"}).root == tmp_path
    assert locate(None, environ={"MILLRACE_HOME": str(tmp_path)}).root == tmp_path
    assert locate(None, environ={}).root == Path.cwd() / ".millrace"


def test_secrets_stay_what_they_are(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    made = [secret_files.ensure(layout.seed("catalog"), secret_files.new_seed) for _ in range(2)]
    assert made[0] == made[1]
    assert made[0].startswith("SU")
    assert secret_files.public_key(made[0]).startswith("U")


def test_a_directory_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 4_711)
    with pytest.raises(Invalid, match="belongs to another user"):
        secret_files.private(tmp_path)


def test_the_brokers_configuration_lists_every_user_by_public_key() -> None:
    seeds = {name: secret_files.new_seed() for name in PERMISSIONS}
    text = natsconf.accounts(PERMISSIONS, {name: secret_files.public_key(seed) for name, seed in seeds.items()})
    assert text.count("nkey:") == len(PERMISSIONS)
    assert not any(seed in text for seed in seeds.values())
    assert '"evt.data.landed.v1.default"' in text


def test_a_pid_is_told_from_another_process_with_its_number() -> None:
    me = process.identify(os.getpid())
    assert me.alive()
    assert not process.ProcessId(me.pid, me.started - 100).alive()


def test_a_command_dies_with_its_parent(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib\n"
        "from millrace_stack.process import Command, spawn\n"
        f"folder = pathlib.Path({str(tmp_path)!r})\n"
        "child = spawn(Command('sleep', ('/bin/sleep', '600'), cwd=folder, log=folder / 'log'))\n"
        "print(child.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        child = process.identify(int(parent.stdout.readline()))
        assert child.alive()
        parent.kill()
        parent.wait()
        for _ in range(200):
            if not child.alive():
                break
            time.sleep(0.02)
        assert not child.alive()


def test_a_command_may_open_as_many_files_as_this_user_may(tmp_path: Path) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    program = (
        "import pathlib, resource\n"
        "from millrace_stack.process import Command, spawn\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, (256, {hard}))\n"
        f"folder = pathlib.Path({str(tmp_path)!r})\n"
        "spawn(Command('limit', ('/bin/sh', '-c', 'ulimit -n'), cwd=folder, log=folder / 'log')).wait(timeout=30)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    assert int((tmp_path / "log").read_text()) == (
        OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    )


def test_log_lines_are_followed_across_a_rotation(tmp_path: Path) -> None:
    file = tmp_path / "catalog.log"
    file.write_text("one\ntwo\nthree\n")
    lines = Follower({"catalog": file}, last=2).lines(forever=True)
    assert [next(lines), next(lines)] == [("catalog", "two"), ("catalog", "three")]
    with file.open("a") as opened:
        opened.write("four\nhalf")
    assert next(lines) == ("catalog", "four")
    file.write_text("new\n")
    assert next(lines) == ("catalog", "new")


class TestCommands:
    def run(self, *arguments: str):
        return CliRunner().invoke(cli.app, list(arguments))

    def test_status_of_nothing_is_unavailable(self, tmp_path: Path) -> None:
        done = self.run("status", "--dir", str(tmp_path))
        assert done.exit_code == 6
        assert "no stack runs" in done.output
        assert "millrace up" in done.output

    def test_a_wrong_port_is_a_usage_error(self, tmp_path: Path) -> None:
        for wrong in ("catalog=0", "nobody=80", "8700"):
            done = self.run("up", "--dir", str(tmp_path), "--ports", wrong)
            assert done.exit_code == 2
            assert "is not `default`" in done.output

    def test_down_of_nothing_says_so(self, tmp_path: Path) -> None:
        done = self.run("down", "--dir", str(tmp_path))
        assert done.exit_code == 0
        assert "did not run" in done.output

    def test_logs_of_an_unknown_process_name_the_known_ones(self, tmp_path: Path) -> None:
        assert self.run("logs", "--dir", str(tmp_path)).exit_code == 6
        layout = Layout(tmp_path)
        layout.logs.mkdir()
        layout.log("catalog").write_text('{"event": "a"}\n')
        done = self.run("logs", "nobody", "--dir", str(tmp_path))
        assert done.exit_code == 2
        assert "one of catalog" in done.output
        assert self.run("logs", "catalog", "--dir", str(tmp_path)).output == '{"event": "a"}\n'
        assert self.run("logs", "--dir", str(tmp_path)).output == 'catalog        {"event": "a"}\n'


def test_one_server_plays_the_lake_and_services_are_told_which(tmp_path: Path) -> None:
    for lake, server, told in (("s3", "s3", "MILLRACE_S3_ENDPOINT"), ("azure", "azurite", "MILLRACE_AZURE_ENDPOINT")):
        config = StackConfig(lake=lake)  # type: ignore[arg-type]
        assert config.wanted_servers == ("nats", "mongo", server, "triton", "prometheus")
        where = addresses({"azurite": 10_000, "s3-s3": 8_333}, {})
        environment = ServiceEnvironment(Layout(tmp_path), config, {}, where, {}).of(SERVICES[0])
        assert environment["MILLRACE_LAKE"] == lake
        assert told in environment
        keys = [name for name in environment if "KEY" in name]
        assert keys
        assert all(name.endswith("_FILE") for name in keys)


def test_a_directory_with_one_lakes_data_does_not_start_another(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.data("s3").mkdir(parents=True)
    with pytest.raises(Conflict, match="lake of kind s3"):
        prepare(layout, StackConfig(lake="azure", servers=("nats", "s3"), services=()), {"PATH": os.environ["PATH"]})


def test_what_lacks_for_azurite_is_said(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"no Node\.js"):
        prepare(Layout(tmp_path), StackConfig(lake="azure", servers=("s3",), services=()), {"PATH": str(tmp_path)})
