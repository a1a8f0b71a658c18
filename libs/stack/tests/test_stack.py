"""The embedded stack on real servers, with a small service in place of the platform's."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import signal
import socket
import stat
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nats
import psutil
import pytest
from minio import Minio
from pymongo import MongoClient
from pymongo.errors import OperationFailure
from typer.testing import CliRunner, Result

from millrace.errors import Conflict, DeadlineExceeded, NotFound, Unavailable
from millrace_stack import cli, process, stack
from millrace_stack.config import ServiceSpec, StackConfig
from millrace_stack.layout import Layout
from millrace_stack.servers.seaweed import client as s3_client
from millrace_stack.stack import Stack
from millrace_stack.sweeping import MARKER

HERE = Path(__file__).parent


def fake(name: str, *, port: int = 8700) -> ServiceSpec:
    prefix = f"MILLRACE_{name.upper().replace('-', '_')}"
    env = {"PYTHONPATH": str(HERE), "FAKE_PORT_VARIABLE": f"{prefix}_PORT"}
    return ServiceSpec(name=name, module="fake_service", port=port, env=env, grace=2)


def config(**changes: object) -> StackConfig:
    changes.setdefault("services", (fake("catalog"), fake("cache-manager", port=8702)))
    changes.setdefault("servers", ("nats", "mongo", "s3"))
    changes.setdefault("ports", "auto")
    return StackConfig.model_validate(changes)


def bare(**changes: object) -> StackConfig:
    """A stack of nats alone, which starts at once."""
    return config(servers=("nats",), services=(fake("ingest"),), **changes)


def marked(layout: Layout) -> list[psutil.Process]:
    return process.marked(f"{MARKER}={(layout.root / 'stack-id').read_text().strip()}")


def eventually(look, seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


@contextlib.contextmanager
def started(folder: Path, wanted: StackConfig) -> Iterator[Stack]:
    try:
        yield stack.up(folder, wanted, seconds=60)
    finally:
        stack.down(folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with started(tmp_path_factory.mktemp("stack"), config(failpoints={"catalog": "commit.D6.after=kill"})) as running:
        yield running


pytestmark = [pytest.mark.servers]


def told(running: Stack, service: str) -> dict[str, str]:
    return json.loads((running.layout.work(service) / "told.json").read_text())


@contextlib.contextmanager
def bucket_of(running: Stack) -> Iterator[Minio]:
    keys = [path.read_text().strip() for path in (running.layout.s3_access_key, running.layout.s3_secret_key)]
    with s3_client(running.state.urls["s3"], keys[0], keys[1], region="us-east-1") as s3:
        yield s3


class TestWhole:
    def test_everything_is_ready_and_a_second_up_finds_it(self, whole: Stack) -> None:
        state = whole.state
        assert state.ready
        assert set(state.processes) == {"nats", "mongo", "s3", "catalog", "cache-manager"}
        again = stack.up(whole.layout.root, config(), seconds=10)
        assert again.found
        assert again.state.pid == state.pid
        assert not whole.found

    def test_secrets_are_for_the_owner_alone_and_in_no_argument(self, whole: Stack) -> None:
        files = [file for file in whole.layout.secrets.rglob("*") if file.is_file()]
        assert len(files) > 15
        for file in files:
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
        secrets = {line for file in files if file.name != "bootstrap.json" for line in file.read_text().split()}
        arguments = [argument for one in marked(whole.layout) for argument in one.cmdline()]
        assert len(arguments) > 20
        for secret in secrets:
            assert not any(secret in argument for argument in arguments)
            for service in ("catalog", "cache-manager"):
                assert secret not in told(whole, service).values()
        assert stat.S_IMODE(whole.layout.secrets.stat().st_mode) == 0o700
        assert stat.S_IMODE((whole.layout.data("nats") / "nats.conf").stat().st_mode) == 0o600

    def test_services_are_told_where_everything_is(self, whole: Stack) -> None:
        catalog, cache = told(whole, "catalog"), told(whole, "cache-manager")
        assert catalog["MILLRACE_CACHE_MANAGER_URL"] == whole.state.urls["cache-manager"]
        assert catalog["MILLRACE_FAILPOINTS"] == "commit.D6.after=kill"
        assert "MILLRACE_FAILPOINTS" not in cache
        site = json.loads(cache["MILLRACE_CACHE_MANAGER_SITES"])[0]
        assert Path(site["path"]).is_dir()
        principals = json.loads(Path(catalog["MILLRACE_CATALOG_BOOTSTRAP_FILE"]).read_text())
        assert {"owner", "catalog", "cache-manager", "etl-default"} == {one["principal"] for one in principals}

    def test_a_mongo_user_has_its_own_database_and_no_other(self, whole: Stack) -> None:
        uri = Path(told(whole, "catalog")["MILLRACE_CATALOG_MONGO_URI_FILE"]).read_text()
        with MongoClient(uri) as mongo:
            mongo["catalog"]["things"].insert_one({"_id": 1})
            with pytest.raises(OperationFailure):
                mongo["cache_manager"]["things"].find_one()
        with MongoClient(whole.state.urls["mongo"], directConnection=True) as nobody, pytest.raises(OperationFailure):
            nobody["catalog"]["things"].find_one()

    async def test_a_broker_user_may_do_its_own_and_nothing_else(self, whole: Stack) -> None:
        errors: list[Exception] = []

        async def note(error: Exception) -> None:
            errors.append(error)

        with socket.create_connection(("127.0.0.1", whole.state.ports["nats"]), timeout=5) as nobody:
            nobody.sendall(b'CONNECT {"verbose":true}\r\nPING\r\n')
            assert b"Authorization Violation" in nobody.makefile("rb").read()
        seed = whole.layout.seed("provisioner").read_text().strip()
        admin = await nats.connect(
            whole.state.urls["nats"], nkeys_seed_str=seed, inbox_prefix=b"_INBOX_provisioner", error_cb=note
        )
        assert (await admin.jetstream().account_info()).streams == 0
        seen = await admin.subscribe("_INBOX_provisioner.x")
        await admin.publish("evt.dataset.committed.v1.default", b"forged")
        await admin.publish("_INBOX_provisioner.x", b"denied too")
        await admin.flush()
        async with asyncio.timeout(5):
            while sum("permissions violation" in str(error).lower() for error in errors) < 2:
                await asyncio.sleep(0.02)
        assert seen.pending_msgs == 0
        await admin.close()

    def test_the_bucket_exists(self, whole: Stack) -> None:
        with bucket_of(whole) as s3:
            assert s3.bucket_exists("millrace")

    @pytest.mark.parametrize("name", ["catalog", "nats", "mongo"])
    def test_a_killed_process_comes_back(self, whole: Stack, name: str) -> None:
        before = whole.kill(name)
        whole.wait_restarted(name, before, 20)
        one = whole.state.processes[name]
        assert one.restarts >= 1
        whole.wait_ready(20)

    def test_a_service_that_waits_says_why(self, whole: Stack) -> None:
        flag = whole.layout.work("catalog") / "wait-for"
        flag.touch()
        eventually(lambda: whole.state.waiting() == {"catalog": "bus: no broker"})
        with pytest.raises(DeadlineExceeded, match="catalog: bus: no broker"):
            whole.wait_ready(0.1)
        flag.unlink()
        whole.wait_ready(10)

    def test_what_does_not_run_cannot_be_killed(self, whole: Stack) -> None:
        with pytest.raises(NotFound):
            whole.kill("trainer")


def test_a_wiped_broker_comes_back_empty(tmp_path: Path) -> None:
    with started(tmp_path, bare()) as running:
        (running.layout.data("nats") / "store" / "mark").touch()
        running.wipe_broker()
        assert not (running.layout.data("nats") / "store" / "mark").exists()
        running.wait_ready(10)


def test_down_leaves_no_process_and_keeps_the_data(tmp_path: Path) -> None:
    with started(tmp_path, bare()) as running:
        layout, state = running.layout, running.state
        grandchild = int((layout.work("ingest") / "child").read_text())
        assert {one.pid for one in marked(layout)} >= {grandchild, state.processes["nats"].pid}
        token = layout.owner_token.read_text()
        assert stack.down(tmp_path)
        assert marked(layout) == []
        assert not state.alive
        assert stack.running(layout) is None
        assert not stack.down(tmp_path)
        with pytest.raises(Unavailable, match="no stack runs"):
            _ = running.state
        again = stack.up(tmp_path, bare(), seconds=30)
        assert layout.owner_token.read_text() == token
        assert again.state.ports == state.ports, "addresses last while they are free"


def test_a_killed_supervisor_takes_its_children_along_and_the_next_up_recovers(tmp_path: Path) -> None:
    with started(tmp_path, bare()) as running:
        state = running.state
        grandchild = int((running.layout.work("ingest") / "child").read_text())
        os.kill(state.pid, signal.SIGKILL)
        eventually(lambda: not state.alive and not any(one.identity.alive() for one in state.processes.values()))
        assert stack.running(running.layout) is None
        assert psutil.pid_exists(grandchild), "it has a session of its own, so only the next start can find it"
        again = stack.up(tmp_path, bare(), seconds=30)
        assert not again.found
        assert again.state.pid != state.pid
        assert not psutil.pid_exists(grandchild)


def test_a_pid_that_somebody_else_has_now_is_not_ours(tmp_path: Path) -> None:
    with started(tmp_path, bare()) as running:
        layout, state = running.layout, running.state
    recycled = state.model_copy(update={"pid": os.getpid(), "started": state.started})
    stack.states.save(layout, recycled)
    assert stack.running(layout) is None
    assert not stack.down(tmp_path), "a process that only has the number must live"


def test_a_taken_port_is_a_clear_error(tmp_path: Path) -> None:
    from millrace.runtime import listen

    with listen("127.0.0.1", 0) as mine:
        port = mine.getsockname()[1]
        with pytest.raises(Conflict, match=rf"port {port} for ingest is taken by process {os.getpid()}") as caught:
            stack.up(tmp_path, bare(named_ports={"ingest": port}), seconds=20)
    assert "--ports auto" in (caught.value.hint or "")
    assert stack.running(Layout(tmp_path)) is None
    assert marked(Layout(tmp_path)) == []


def test_a_missing_program_is_a_clear_error(tmp_path: Path) -> None:
    environ = {**os.environ, "MILLRACE_STACK_NATS_BIN": str(tmp_path / "nothing")}
    with pytest.raises(Unavailable, match=r"MILLRACE_STACK_NATS_BIN names .*nothing, which is no executable file"):
        stack.up(tmp_path / "s", bare(), environ=environ)


def test_servers_keep_their_data_on_other_ports(tmp_path: Path) -> None:
    wanted = config(servers=("mongo", "s3"), services=(fake("ingest"),))
    with started(tmp_path, wanted) as running:
        ports = running.state.ports
        with MongoClient(running.layout.mongo_uri("ingest").read_text()) as mongo:
            mongo["ingest"]["things"].insert_one({"_id": 7})
        with bucket_of(running) as s3:
            s3.put_object("millrace", "a", io.BytesIO(b"bytes"), 5)
        stack.down(tmp_path)
        stopped = stack.states.load(running.layout)
        stack.states.save(running.layout, stopped.model_copy(update={"ports": {}}))
        again = stack.up(tmp_path, wanted, seconds=60)
        assert not set(again.state.ports.values()) & set(ports.values())
        with MongoClient(running.layout.mongo_uri("ingest").read_text()) as mongo:
            assert mongo["ingest"]["things"].find_one() == {"_id": 7}
        with bucket_of(again) as s3:
            answer = s3.get_object("millrace", "a")
            assert answer.read() == b"bytes"
            answer.close()


def test_two_starters_at_once_get_one_stack(tmp_path: Path) -> None:
    try:
        with ThreadPoolExecutor(2) as pool:
            both = [pool.submit(stack.up, tmp_path, bare(), seconds=30) for _ in range(2)]
            first, second = (one.result() for one in both)
        assert {first.found, second.found} == {True, False}
        assert first.state.pid == second.state.pid
        assert sum(one.name() == "nats-server" for one in marked(first.layout)) == 1
    finally:
        stack.down(tmp_path)


def test_the_commands_tell_a_person_what_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*arguments: str) -> Result:
        return CliRunner().invoke(cli.app, [*arguments, "--dir", str(tmp_path)])

    monkeypatch.setattr(cli, "_config", lambda ports, lake: bare())
    try:
        assert f"the stack runs in {tmp_path}" in run("up").stdout
        assert f"the stack already runs in {tmp_path}" in run("up").stdout
        shown = run("status")
        assert shown.exit_code == 0
        assert "ingest" in shown.stdout
        (tmp_path / "work" / "ingest" / "wait-for").touch()
        eventually(lambda: not stack.running(Layout(tmp_path)).ready)
        waiting = run("status")
        assert waiting.exit_code == 6
        assert "bus: no broker" in " ".join(waiting.stdout.split())
        assert json.loads(run("status", "--json").stdout)["processes"]["nats"]["ready"] is True
        assert run("logs", "ingest").stdout == '{"event": "service started"}\n'
    finally:
        assert "is stopped; its data stays" in run("down").stdout
    assert run("status").exit_code == 6


def test_up_with_a_taken_port_exits_with_a_hint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mine:
        monkeypatch.setattr(cli, "_config", lambda ports, lake: bare(named_ports={"ingest": mine.getsockname()[1]}))
        done = CliRunner().invoke(cli.app, ["up", "--dir", str(tmp_path)])
    assert done.exit_code == 1
    assert "for ingest is taken by process" in done.stderr
    assert "hint: free it, or set MILLRACE_INGEST_PORT" in done.stderr
