"""The services of docker-compose.yml, run without containers: their commands, users and health checks as they stand there."""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
import yaml

from pipeline_project.settings import Settings
from pipeline_project.store.embedded import SUPERUSER, EmbeddedPostgres

PROJECT: Final = Path(__file__).parents[1]
TEXT: Final = (PROJECT / "docker-compose.yml").read_text(encoding="utf-8")
COMPOSE: Final = yaml.safe_load(TEXT)
SERVICES: Final = COMPOSE["services"]
LASTING: Final = ("database", "webserver", "daemon")
SECRET: Final = "/run/secrets/postgres_password"
START_S: Final = 180.0
KNOWN: Final = {
    "image", "build", "entrypoint", "command", "environment", "secrets", "configs", "volumes", "init", "cap_drop", "security_opt",
    "ports", "depends_on", "healthcheck", "restart",
}  # fmt: skip  # one a line would be longer than the tests


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What stands in for the containers: a server like the image's, a port, a file with the secret."""

    server: EmbeddedPostgres
    home: Path
    secret: Path
    port: int

    def native(self, text: str) -> str:
        """A word of the file as the program in a container would see it, led to this ground."""
        places = {
            "$$": "$",
            SECRET: str(self.secret),
            "/app/workspace.yaml": str(self.home / "workspace.yaml"),
            "0.0.0.0": "127.0.0.1",  # noqa: S104  # replaced, not bound
            "@database:5432/pipeline": f"@/pipeline?host={self.server.server.socket}",
            "3000": str(self.port),
        }
        for there, here in places.items():
            text = text.replace(there, here)
        return text

    def environment(self, service: Mapping[str, Any]) -> dict[str, str]:
        folders = [str(Path(sys.executable).parent), str(self.server.server.binaries.folder), os.environ["PATH"]]
        variables = {name: self.native(value) for name, value in service["environment"].items() if not value.startswith("${")}
        return {**os.environ, **variables, "PATH": os.pathsep.join(folders), "PIPELINE_HOME": str(self.home)}

    def start(self, name: str) -> subprocess.Popen[bytes]:
        service = SERVICES[name]
        words = [self.native(word) for word in [*service["entrypoint"], *service["command"]]]
        with (self.home / f"{name}.log").open("wb") as log:
            return subprocess.Popen(words, env=self.environment(service), cwd=self.home, stdout=log, stderr=log, start_new_session=True)

    def log(self, name: str) -> str:
        return (self.home / f"{name}.log").read_text(errors="replace")[-3000:]

    def is_healthy(self, name: str) -> bool:
        kind, *words = SERVICES[name]["healthcheck"]["test"]
        command = [self.native(word) for word in (["sh", "-c", *words] if kind == "CMD-SHELL" else words)]
        asked = subprocess.run(command, env=self.environment(SERVICES[name]), cwd=self.home, capture_output=True, check=False)
        return asked.returncode == 0


@pytest.fixture
def ground(settings: Settings, tmp_path: Path) -> Iterator[Ground]:
    """A server of its own, as empty as a new container's."""
    secret = tmp_path / "postgres_password"
    secret.write_text("o'a+b/c=\n")
    # Nothing to load: loading the real definitions twice costs more than all the rest, and `pipeline up` is tested with them.
    (tmp_path / "workspace.yaml").write_text("load_from: []\n")
    with socket.socket() as probe, EmbeddedPostgres(settings.home / "compose") as server:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        yield Ground(server=server, home=tmp_path, secret=secret, port=port)
    with (server.server.home / "reaper.lock").open() as reaper:
        fcntl.flock(reaper, fcntl.LOCK_EX)  # ours when the reaper has stopped the server, and touches its folder no more


def test_every_service_comes_up_on_an_empty_server(ground: Ground) -> None:
    make_user = ground.native(COMPOSE["configs"]["user"]["content"])
    variables = {**ground.environment(SERVICES["init"]), "PGHOST": str(ground.server.server.socket)}
    subprocess.run(["/bin/sh", "-ec", make_user], env=variables, check=True)
    with running(ground, "init") as init:
        assert init.wait(START_S) == 0, ground.log("init")
    with running(ground, "webserver") as webserver, running(ground, "daemon") as daemon:
        wait_until_healthy(ground, "webserver", webserver)
        wait_for_a_heartbeat(ground, "daemon", daemon)
        wait_until_healthy(ground, "daemon", daemon)


def test_the_user_of_the_engine_is_no_superuser() -> None:
    content = COMPOSE["configs"]["user"]["content"]
    url = SERVICES["init"]["environment"]["PIPELINE_DATABASE_URL"]
    assert re.search(r"create role pipeline login createrole createdb password :'password';", content)
    assert url == "postgresql://pipeline@database:5432/pipeline"


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_written_with_keys_that_compose_knows(name: str) -> None:
    assert set(SERVICES[name]) <= KNOWN
    assert set(SERVICES[name].get("depends_on", {})) <= set(SERVICES)


@pytest.mark.parametrize("name", LASTING)
def test_a_lasting_service_is_looked_after(name: str) -> None:
    assert SERVICES[name]["restart"] == "unless-stopped"
    assert SERVICES[name]["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}


def test_dagster_loads_the_workspace_of_the_image() -> None:
    named = {SERVICES[name]["command"][-1] for name in ("webserver", "daemon")}
    assert named == {"/app/workspace.yaml"}
    assert re.search(r"^WORKDIR /app$", (PROJECT / "Dockerfile").read_text(), re.MULTILINE)
    assert (PROJECT / "workspace.yaml").is_file()


def test_images_are_pinned() -> None:
    used = [service["image"] for service in SERVICES.values()]
    used += re.findall(r"^FROM (\S+)", (PROJECT / "Dockerfile").read_text(), re.MULTILINE)
    assert [image for image in used if not re.search(r":\d+\.\d+", image)] == []


def test_nothing_is_reachable_from_other_machines_and_nothing_reaches_the_engine_of_containers() -> None:
    assert [port for service in SERVICES.values() for port in service.get("ports", []) if not port.startswith("127.0.0.1:")] == []
    assert "docker.sock" not in TEXT
    assert "privileged: true" not in TEXT


def test_the_image_runs_as_an_ordinary_user() -> None:
    users = re.findall(r"^USER (\S+)", (PROJECT / "Dockerfile").read_text(), re.MULTILINE)
    assert users == ["pipeline"]


def test_dollars_are_for_the_shell_or_have_a_default() -> None:
    assert re.findall(r"(?<!\$)\$(?!\$|\{\w+:-)", TEXT) == []


def test_every_volume_and_secret_that_is_used_is_declared() -> None:
    volumes = {volume.partition(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}
    secrets = {secret for service in SERVICES.values() for secret in service.get("secrets", [])}
    assert (volumes, secrets) == (set(COMPOSE["volumes"]), set(COMPOSE["secrets"]))


def test_no_secret_and_no_data_goes_into_the_image() -> None:
    ignored = (PROJECT / ".dockerignore").read_text().split()
    assert {".git", ".venv", ".pipeline", "secrets"} <= set(ignored)
    assert shlex.split(COMPOSE["secrets"]["postgres_password"]["file"]) == ["./secrets/postgres_password"]


@contextmanager
def running(ground: Ground, name: str) -> Iterator[subprocess.Popen[bytes]]:
    """A service and all that it starts, ended with the block."""
    started = ground.start(name)
    try:
        yield started
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(started.pid, number)
                started.wait(10)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue


def wait_until_healthy(ground: Ground, name: str, process: subprocess.Popen[bytes]) -> None:
    wait(ground, name, process, lambda: ground.is_healthy(name))


def wait_for_a_heartbeat(ground: Ground, name: str, process: subprocess.Popen[bytes]) -> None:
    """Asked of the database, because each health check of the daemon is a Dagster to import."""
    with psycopg.connect(ground.server.url("pipeline_dagster", SUPERUSER), autocommit=True) as connection:
        question = "select count(*) filter (where timestamp is not null) from daemon_heartbeats"
        wait(ground, name, process, lambda: connection.execute(question).fetchone() != (0,))


def wait(ground: Ground, name: str, process: subprocess.Popen[bytes], come: Callable[[], bool]) -> None:
    give_up = time.monotonic() + START_S
    while not come():
        assert process.poll() is None, f"{name} ended with {process.returncode}:\n{ground.log(name)}"
        assert time.monotonic() < give_up, f"{name} does not come up:\n{ground.log(name)}"
        time.sleep(0.5)
