"""Messages reach a mail server and a web server; nothing reaches an address that is not allowed, by whatever detour."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from aiosmtpd.controller import Controller

from pipeline_project.core import alert_routes
from pipeline_project.core.errors import UsageError
from pipeline_project.engine import sending
from pipeline_project.engine.sending import Message, NotSent, TargetRefused, is_permitted, networks, send, without_secrets
from pipeline_project.store.alerts import Alert
from tests.world import World

MESSAGE = Message(title="it broke", body="look at it", severity="error")
HERE = ["127.0.0.1/32"]


class Web(BaseHTTPRequestHandler):
    """Takes what is posted, but at /down; at /away it sends the caller to another address of this machine."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        port = self.server.server_address[1]
        if self.path == "/away":
            self.send_response(307)
            self.send_header("location", f"http://127.0.0.2:{port}/hook")
        elif self.path == "/down":
            self.send_response(503)
        else:
            self.server.got.append(json.loads(body))  # type: ignore[attr-defined]
            self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def web() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("0.0.0.0", 0), Web) as server:  # noqa: S104  # also as 127.0.0.2, where a redirect leads
        server.got = []  # type: ignore[attr-defined]
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@dataclass
class Postbox:
    mails: list[bytes] = field(default_factory=list)

    async def handle_DATA(self, _server: object, _session: object, envelope: Any) -> str:  # noqa: N802  # aiosmtpd's name
        self.mails.append(envelope.content)
        return "250 OK"


def hook(web: ThreadingHTTPServer, path: str = "/hook") -> str:
    return f"json://127.0.0.1:{web.server_address[1]}{path}"


def test_a_webhook_on_ones_own_network_is_refused_unless_allowed(web: Any) -> None:
    with pytest.raises(TargetRefused, match=r"found 127.0.0.1; PIPELINE_ALERT_TARGETS allows"):
        send(hook(web), MESSAGE)
    with pytest.raises(TargetRefused, match=r"found 127.0.0.1"):
        send(hook(web).replace("127.0.0.1", "localhost"), MESSAGE, ["::1/128"])
    assert web.got == []
    send(hook(web), MESSAGE, HERE)
    assert (web.got[0]["title"], web.got[0]["type"]) == ("it broke", "failure")


def test_a_redirect_to_where_it_may_not_go_is_not_followed(web: Any) -> None:
    with pytest.raises(TargetRefused, match=r"found 127.0.0.2"):
        send(hook(web, "/away"), MESSAGE, HERE)
    assert web.got == []


def test_a_sender_that_is_down_then_up_and_a_recovery_by_mail_and_by_web(world: World, web: Any, tmp_path: Path) -> None:
    """The whole way: from the table through Apprise to two servers, one of which comes up only later."""
    postbox = Postbox()
    mail = Controller(postbox, hostname="127.0.0.1", port=_free_port())
    (tmp_path / "mail").write_text(f"mailto://127.0.0.1:{mail.port}?from=p@example.org&to=duty@example.org&mode=insecure\n")
    (tmp_path / "web").write_text(hook(web))
    names = ("mail", "web")
    routes = alert_routes.parse(json.dumps({"routes": [{"name": n, "url": f"file:{tmp_path / n}"} for n in names]}), "test")

    def deliver() -> dict[str, str]:
        return world.engine.alerts.deliver(routes, lambda url, message: send(url, message, HERE)).failed

    world.engine.alerts.begin(Alert(dedupe_key="k", kind="run_failed", severity="error", pool="p", message="the <sweep> failed"))
    assert list(deliver()) == ["mail"]
    assert [one["title"] for one in web.got] == ["[pipeline] error: pool p: run failed"]
    mail.start()
    try:
        world.advance(hours=1)
        world.engine.alerts.end("k")
        assert deliver() == {}
    finally:
        mail.stop()
    (letter,) = map(message_from_bytes, postbox.mails)
    assert letter["to"].endswith("duty@example.org>") or letter["to"] == "duty@example.org"
    assert letter.get_content_type() == "text/plain", "a mail program would show one long line, and read the rest as HTML"
    said = str(letter.get_payload(decode=True), "utf-8").replace("\r", "")
    assert "the <sweep> failed\nSince" in said
    assert "RECOVERED in pool p" in said
    assert [one["title"] for one in web.got][1:] == ["[pipeline] recovered: pool p: run failed"]


def test_what_a_receiver_says_is_told_without_the_secrets_of_its_url(web: Any) -> None:
    url = hook(web, "/down").replace("127.0.0.1", "ann:hunter22@127.0.0.1")
    with pytest.raises(NotSent, match="503") as failure:
        send(url, MESSAGE, HERE)
    assert "hunter22" not in str(failure.value)
    assert without_secrets("tokenA/tokenB said no", "slack://tokenA/tokenB/c") == "***/*** said no"


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "192.168.0.9", "172.16.0.1", "169.254.169.254", "100.64.0.1", "::1", "fe80::1%eth0", "fd00::1",
     "::ffff:127.0.0.1", "2002:7f00:1::", "64:ff9b::a00:1", "224.0.0.1"],
)  # fmt: skip
def test_an_address_that_is_not_out_in_the_world_is_known_in_every_disguise(address: str) -> None:
    assert not is_permitted(address, [])
    assert is_permitted("93.184.216.34", [])
    assert is_permitted("2606:4700::1111", [])


def test_every_address_of_a_name_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(None, None, None, None, (address, 0)) for address in ("93.184.216.34", "10.0.0.7")]
    monkeypatch.setattr(sending.socket, "getaddrinfo", lambda *_: found)
    assert sending._private_addresses("mixed.example.org", []) == ["10.0.0.7"]
    assert sending._private_addresses("mixed.example.org", networks(["10.0.0.0/8"])) == []


def test_a_network_that_is_none_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="PIPELINE_ALERT_TARGETS: expected networks such as"):
        networks(["my lan"])


def _free_port() -> int:
    with sending.socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
