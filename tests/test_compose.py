"""The services of docker-compose.yml, run without containers: their commands, users and health checks as they stand there."""

from __future__ import annotations

import base64
import fcntl
import http.server
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import jsonschema
import psycopg
import pytest
import yaml

from pipeline_project.settings import Settings
from pipeline_project.store.embedded import SUPERUSER, EmbeddedPostgres

PROJECT: Final = Path(__file__).parents[1]
TEXT: Final = (PROJECT / "docker-compose.yml").read_text(encoding="utf-8")
COMPOSE: Final = yaml.safe_load(TEXT)
SERVICES: Final = COMPOSE["services"]
LASTING: Final = sorted(set(SERVICES) - {"init"})
OURS: Final = [name for name, service in SERVICES.items() if service["image"].startswith("pipeline-project:")]
START_S: Final = 180.0
WEB: Final = {"webserver": "3000", "viewer": "3002"}
PORTS: Final = (*WEB.values(), "4000", "6379", "8080", "8081", "8082")

OPEN_SESAME: Final = "$6$pipeline$6w9AO8AiE8vHmZnXHvsZBy5xz2XpTNqZ70XrNMl6M/guvMgJfWlCe4R60jQYo1tY6ACtupiuz7x.rUaevSbOf/"
"""As `openssl passwd -6` writes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What stands in for the containers: a server like the image's, ports, files with the secrets.

    ports  by service and the port it has in its container
    """

    server: EmbeddedPostgres
    home: Path
    ports: dict[tuple[str, str], int]

    def native(self, text: str, service: str = "") -> str:
        """A word of the file as the program in that container would see it, led to this ground."""
        places = {
            "$$": "$",
            "/run/secrets/": f"{self.home}/secrets/",
            "/app/deploy/workspace.yaml": str(self.home / "workspace.yaml"),
            "/etc/nginx/pipeline.conf": str(self.home / "nginx.conf"),
            "0.0.0.0": "127.0.0.1",  # noqa: S104  # replaced, not bound
            "@database:5432/pipeline": f"@/pipeline?host={self.server.server.socket}",
            "host: code": "host: 127.0.0.1",
            **{f"http://{name}:{port}": f"http://127.0.0.1:{self.port(name, port)}" for name, port in WEB.items()},
            "//redis:": "//127.0.0.1:",
            "pid /tmp/": f"pid {self.home}/",
            "_path /tmp/": f"_path {self.home}/",
        }
        for there, here in places.items():
            text = text.replace(there, here)
        return re.sub(rf"\b({'|'.join(PORTS)})\b", lambda found: str(self.port(service, found[0])), text)

    def port(self, service: str, inside: str) -> int:
        """Services that only call another one's port find its owner's."""
        owner = {"4000": "code", "6379": "redis", "8080": "proxy", "8081": "proxy", "8082": "proxy"}.get(inside, service)
        if (owner, inside) not in self.ports:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self.ports[owner, inside] = probe.getsockname()[1]
        return self.ports[owner, inside]

    def environment(self, name: str) -> dict[str, str]:
        folders = [str(Path(sys.executable).parent), str(self.server.server.binaries.folder), os.environ["PATH"], "/usr/sbin"]
        given = SERVICES[name].get("environment", {})
        variables = {key: self.native(value, name) for key, value in given.items() if not value.startswith("${")}
        return {**os.environ, **variables, "PATH": os.pathsep.join(folders), "PIPELINE_HOME": str(self.home)}

    def start(self, name: str) -> subprocess.Popen[bytes]:
        words = [self.native(word, name) for word in SERVICES[name]["command"]]
        with (self.home / f"{name}.log").open("wb") as log:
            return subprocess.Popen(words, env=self.environment(name), cwd=self.home, stdout=log, stderr=log, start_new_session=True)

    def pipeline(self, *words: str) -> dict[str, Any]:
        """What `docker compose exec code pipeline WORDS --json` answers."""
        command = ["pipeline", *words, "--json"]
        answered = subprocess.run(command, env=self.environment("code"), cwd=self.home, capture_output=True, text=True, check=True)
        answer: dict[str, Any] = json.loads(answered.stdout)
        return answer

    def log(self, name: str) -> str:
        return (self.home / f"{name}.log").read_text(errors="replace")[-3000:]

    def is_healthy(self, name: str) -> bool:
        kind, *words = SERVICES[name]["healthcheck"]["test"]
        assert kind == "CMD"
        command = [self.native(word, name) for word in words]
        asked = subprocess.run(command, env=self.environment(name), cwd=self.home, capture_output=True, check=False)
        return asked.returncode == 0


@pytest.fixture
def ground(settings: Settings, tmp_path: Path) -> Iterator[Ground]:
    """A server of its own, as empty as a new container's."""
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "postgres_password").write_text("o'a+b/c=\n")
    with EmbeddedPostgres(settings.home / f"compose-{tmp_path.name}") as server:
        made = Ground(server=server, home=tmp_path, ports={})
        (tmp_path / "workspace.yaml").write_text(made.native((PROJECT / "deploy/workspace.yaml").read_text()))
        yield made
    with (server.server.home / "reaper.lock").open() as reaper:
        fcntl.flock(reaper, fcntl.LOCK_EX)  # ours when the reaper has stopped the server, and touches its folder no more


def test_every_service_comes_up_on_an_empty_server(ground: Ground) -> None:
    initialise(ground)
    with running(ground, "code") as code:
        wait_until_healthy(ground, "code", code)
        with running(ground, "webserver") as webserver, running(ground, "viewer") as viewer, running(ground, "daemon") as daemon:
            wait_until_healthy(ground, "webserver", webserver)
            wait_until_healthy(ground, "viewer", viewer)
            assert may_launch(ground, "webserver")
            assert not may_launch(ground, "viewer")
            assert launched(ground, "viewer") == "UnauthorizedError"
            wait_for_a_heartbeat(ground, "daemon", daemon)
            wait_until_healthy(ground, "daemon", daemon)


@pytest.mark.skipif(not shutil.which("nginx", path="/usr/sbin:/usr/bin"), reason="nginx is not installed: Debian's package is nginx-light")
def test_the_proxy_lets_in_who_has_a_password_and_shows_each_their_own_webserver(ground: Ground) -> None:
    for name, user in {"operators": "ada", "viewers": "vic"}.items():
        (ground.home / "secrets" / name).write_text(f"{user}:{OPEN_SESAME}\n")
    stay = "user root;\n" if os.getuid() == 0 else ""  # else its workers become nobody, who may not enter a test's folder
    (ground.home / "nginx.conf").write_text(stay + ground.native((PROJECT / "deploy/nginx.conf").read_text(), "proxy"))
    command = [ground.native(word, "proxy") for word in SERVICES["proxy"]["command"]]
    tried = subprocess.run([*command, "-t"], env=ground.environment("proxy"), capture_output=True, text=True, check=False)
    assert tried.returncode == 0, tried.stderr
    with stand_in(ground, "webserver"), stand_in(ground, "viewer"), running(ground, "proxy") as proxy:
        wait_until_healthy(ground, "proxy", proxy)
        assert asked(ground, "8080") == (401, "")
        assert asked(ground, "8080", "ada:wrong") == (401, "")
        assert asked(ground, "8080", "vic:open sesame") == (401, ""), "a viewer is no operator"
        assert asked(ground, "8080", "ada:open sesame") == (200, "webserver, told no password")
        assert asked(ground, "8081") == (401, "")
        assert asked(ground, "8081", "vic:open sesame") == (200, "viewer, told no password")


def test_an_address_that_changes_hands_opens_nobody_elses_door() -> None:
    """Containers that are begun anew may swap addresses; a proxy that asked for them once would let viewers launch runs."""
    ports = {name: SERVICES[name]["command"][SERVICES[name]["command"].index("--port") + 1] for name in WEB}
    assert ports == WEB
    assert len(set(ports.values())) == len(WEB)
    assert re.findall(r"proxy_pass (\S+);", (PROJECT / "deploy/nginx.conf").read_text()) == ["$webserver", "$viewer"]


@pytest.mark.skipif(not shutil.which("redis-server"), reason="redis-server is not installed: it is a package of Debian's")
@pytest.mark.timeout(600)
def test_a_worker_decides_what_the_daemon_hands_it_through_redis(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINE_RUN_LAUNCHER", "celery")
    initialise(ground)
    with running(ground, "redis") as redis, running(ground, "code") as code:
        wait_until_healthy(ground, "redis", redis)
        wait_until_healthy(ground, "code", code)
        assert not ground.is_healthy("worker")
        with running(ground, "worker") as worker, running(ground, "daemon") as daemon:
            wait(ground, "worker", worker, lambda: "ready." in ground.log("worker"))
            assert ground.is_healthy("worker")
            ground.pipeline("pools", "create", "p")
            (ground.home / "items.csv").write_text("key,weight,demands\na,1,{}\n")
            ground.pipeline("items", "import", "items.csv", "--pool", "p")

            def is_decided() -> bool:  # the first run may be of the pool before its item came
                done = re.search(r"Task execute_job\S* succeeded", ground.log("worker"))
                return bool(done) and ground.pipeline("items", "show", "a", "--pool", "p")["state"] == "selected"

            wait(ground, "daemon", daemon, is_decided)


def compose_program() -> list[str] | None:
    """Docker Compose from version 2 on, which needs no engine to read a file; None where this machine has none."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]):
            version = subprocess.run([*command, "version", "--short"], capture_output=True, text=True, check=False).stdout
            if re.match(r"v?[2-9]", version):
                return command
    return None


@pytest.mark.skipif(compose_program() is None, reason="Docker Compose, from version 2 on, is not installed")
@pytest.mark.parametrize("profile", ["", "scale-out"])
def test_docker_compose_reads_the_file_as_we_do(profile: str) -> None:
    command = [*(compose_program() or []), "--project-directory", str(PROJECT), *(["--profile", profile] if profile else [])]
    read = subprocess.run([*command, "config", "--format", "json"], capture_output=True, text=True, check=True)
    services = json.loads(read.stdout)["services"]
    asked_for = {name: service for name, service in SERVICES.items() if set(service.get("profiles", [])) <= {profile}}
    assert {name: service["image"] for name, service in services.items()} == {name: one["image"] for name, one in asked_for.items()}
    assert read.stderr == ""


def test_the_file_is_what_the_compose_specification_says() -> None:
    """Its schema, as published by compose-spec (Apache 2.0)."""
    schema = json.loads((PROJECT / "tests/compose_schema.json").read_text(encoding="utf-8"))
    assert [f"{fault.json_path}: {fault.message}" for fault in jsonschema.Draft7Validator(schema).iter_errors(COMPOSE)] == []


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_what_an_administrator_asks_for(name: str) -> None:
    service = SERVICES[name]
    assert service["mem_limit"]
    assert set(service.get("depends_on", {})) <= set(SERVICES)
    if name != "database":  # its image begins as root to hand the volume to its user, and then is that user
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]


def test_only_the_proxy_is_reachable() -> None:
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["proxy"]
    assert [name for name, service in SERVICES.items() if service.get("profiles") == ["scale-out"]] == ["redis", "worker"]


def test_the_user_of_the_engine_is_no_superuser() -> None:
    content = COMPOSE["configs"]["user"]["content"]
    url = SERVICES["init"]["environment"]["PIPELINE_DATABASE_URL"]
    assert re.search(r"create role pipeline login createrole createdb password :'password';", content)
    assert url == "postgresql://pipeline@database:5432/pipeline"


@pytest.mark.parametrize("name", LASTING)
def test_a_lasting_service_is_looked_after(name: str) -> None:
    assert SERVICES[name]["restart"] == "unless-stopped"
    assert SERVICES[name]["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}


def test_dagster_loads_the_workspace_of_the_image() -> None:
    named = {SERVICES[name]["command"][-1] for name in ("webserver", "viewer", "daemon")}
    assert named == {"/app/deploy/workspace.yaml"}
    assert re.search(r"^WORKDIR /app$", (PROJECT / "Dockerfile").read_text(), re.MULTILINE)
    assert (PROJECT / "deploy/workspace.yaml").is_file()


def test_images_are_pinned() -> None:
    used = [service["image"] for service in SERVICES.values()]
    bases = re.findall(r"^FROM (\S+)", (PROJECT / "Dockerfile").read_text(), re.MULTILINE)
    assert len(set(bases)) == 1
    used += bases
    assert [image for image in used if not re.search(r":\d+\.\d+", image)] == []


def test_nothing_is_reachable_from_other_machines_and_nothing_reaches_the_engine_of_containers() -> None:
    assert [port for service in SERVICES.values() for port in service.get("ports", []) if not port.startswith("127.0.0.1:")] == []
    assert [name for name, service in SERVICES.items() if "network_mode" in service] == [], (
        "on the machine's network all its ports are open"
    )
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
    assert {secret["file"] for secret in COMPOSE["secrets"].values()} == {f"./secrets/{name}" for name in COMPOSE["secrets"]}
    assert [
        name for name in OURS if any("password" in value for value in SERVICES[name]["environment"].values() if "/run/" not in value)
    ] == []


def initialise(ground: Ground) -> None:
    """What happens once, before all others: the database's user, and `init`."""
    make_user = ground.native(COMPOSE["configs"]["user"]["content"])
    variables = {**ground.environment("init"), "PGHOST": str(ground.server.server.socket)}
    subprocess.run(["/bin/sh", "-ec", make_user], env=variables, check=True)
    with running(ground, "init") as init:
        assert init.wait(START_S) == 0, ground.log("init")


def may_launch(ground: Ground, name: str) -> bool:
    answer = graphql(ground, name, "{ permissions { permission value } }")
    return bool({row["permission"]: row["value"] for row in answer["permissions"]}["launch_pipeline_execution"])


def launched(ground: Ground, name: str) -> str:
    """What the webserver answers to somebody who wants a sweep."""
    place = "pipeline_project.orchestration.definitions"
    selector = {"repositoryLocationName": place, "repositoryName": "__repository__", "jobName": "sweep"}
    question = "mutation($asked: ExecutionParams!) { launchRun(executionParams: $asked) { __typename } }"
    answer = graphql(ground, name, question, {"asked": {"selector": selector, "runConfigData": {}}})
    return str(answer["launchRun"]["__typename"])


def graphql(ground: Ground, name: str, question: str, variables: dict[str, Any] | None = None) -> dict[str, Any]:
    body = json.dumps({"query": question, "variables": variables or {}}).encode()
    url = f"http://127.0.0.1:{ground.port(name, WEB[name])}/graphql"
    request = urllib.request.Request(url, body, {"content-type": "application/json"})  # our own server
    with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310  # as above
        document: dict[str, Any] = json.load(response)
    assert "errors" not in document, document
    answer: dict[str, Any] = document["data"]
    return answer


@contextmanager
def stand_in(ground: Ground, name: str) -> Iterator[None]:
    """A webserver that says who it is, and what it was told."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told = self.headers.get("Authorization") or "no password"
            self.send_response(200)
            self.end_headers()
            self.wfile.write(f"{name}, told {told}".encode())

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", ground.port(name, WEB[name])), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield
        server.shutdown()


def asked(ground: Ground, door: str, credentials: str = "") -> tuple[int, str]:
    """(status, text) of one request through a door."""
    headers = {"Authorization": f"Basic {base64.b64encode(credentials.encode()).decode()}"} if credentials else {}
    request = urllib.request.Request(f"http://127.0.0.1:{ground.port('proxy', door)}/", headers=headers)  # our own server
    try:
        with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310  # as above
            return response.status, response.read().decode()
    except urllib.error.HTTPError as refused:
        refused.close()
        return refused.code, ""


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
