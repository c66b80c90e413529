"""Sends one message to one receiver, by Apprise, in a process of its own that can reach no network it must not.

Apprise knows a hundred services and opens connections in a hundred places. What it may reach is therefore judged at the one place
that all of them pass, the connect of a socket: whatever name was resolved to whatever address, at first or after a redirect, and
however often a name server changes its mind. Such a hook lasts as long as its process, so the process is made for one message;
it also ends a receiver that never answers.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

from pipeline_project.core.errors import PipelineError, UsageError

if TYPE_CHECKING:  # the process of a message starts with as little as it can
    from pipeline_project.core.alert_routes import Severity

SECONDS_MAX: Final = 45.0
MAIL: Final = ("mailto", "mailtos")
"""A mail relay on one's own network is the rule; everything else speaks HTTP or worse, and is asked to stay outside."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

NAT64: Final = ipaddress.ip_network("64:ff9b::/96")


class NotSent(PipelineError):
    """The receiver did not take the message, or could not be reached. It is tried again; nothing is lost."""


class TargetRefused(NotSent):
    """A webhook would go to a loopback or private address. Set PIPELINE_ALERT_TARGETS to the networks you allow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What a receiver is shown. good_news: something has recovered, whatever its severity was."""

    title: str
    body: str
    severity: Severity
    good_news: bool = False


def send(url: str, message: Message, allowed: Iterable[str] = ()) -> None:
    """Give the message to the receiver of an Apprise URL.

    allowed  private networks that may be reached
    Raises NotSent, TargetRefused. No message of theirs holds the URL.
    """
    kind = "success" if message.good_news else {"info": "info", "warning": "warning", "error": "failure"}[message.severity]
    order = {"url": url, "title": message.title, "body": message.body, "kind": kind, "allowed": list(allowed)}
    command = [sys.executable, "-m", "pipeline_project.engine.sending"]
    try:
        done = subprocess.run(command, input=json.dumps(order), capture_output=True, text=True, timeout=SECONDS_MAX, check=False)
    except subprocess.TimeoutExpired:
        raise NotSent(f"the receiver did not answer within {SECONDS_MAX:.0f} s") from None
    try:
        answer: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        raise NotSent(f"the sender ended with exit code {done.returncode}: {without_secrets(done.stderr[-300:], url)}") from None
    if answer["outcome"] == "refused":
        raise TargetRefused(without_secrets(answer["reason"], url))
    if answer["outcome"] != "sent":
        raise NotSent(without_secrets(answer["reason"], url))


def resolve(reference: str) -> str:
    """The URL that a route refers to. Raises UsageError; the message has the reference, never the URL."""
    if reference.startswith("env:"):
        url = os.environ.get(reference.removeprefix("env:"), "").strip()
    elif reference.startswith("file:"):
        try:
            url = Path(reference.removeprefix("file:")).read_text(encoding="utf-8").strip()
        except OSError as failure:
            raise UsageError(f"{reference}: expected a file that holds an Apprise URL, found none ({failure.strerror})") from None
    else:
        url = reference
    if "://" not in url:
        raise UsageError(f"{reference}: expected an Apprise URL there, found {'something else' if url else 'nothing'}")
    return url


def networks(texts: Iterable[str]) -> list[Network]:
    """Raises UsageError."""
    found = []
    for text in texts:
        try:
            found.append(ipaddress.ip_network(text))
        except ValueError as error:
            raise UsageError(
                f"PIPELINE_ALERT_TARGETS: expected networks such as 10.1.0.0/16, separated by commas, found {text!r} ({error})"
            ) from None
    return found


def is_permitted(text: str, allowed: Iterable[Network]) -> bool:
    """Whether an address is out in the world, in all the disguises that an address has, or is allowed."""
    address = _undisguised(ipaddress.ip_address(text.partition("%")[0]))
    if any(address in network for network in allowed):
        return True
    return address.is_global and not address.is_multicast


def without_secrets(text: str, url: str) -> str:
    """What may be logged and stored: no part of the URL that is long enough to be a token or a password."""
    parts = urlsplit(url)
    secrets = {url, *(unquote(part) for part in re.split(r"[/?&=:@,#]", url)), *re.split(r"[/?&=:@,#]", url)}
    host = parts.hostname or ""  # where it has no dot it may be a token
    keep = {parts.scheme, *([host] if "." in host or host == "localhost" else []), "insecure", "starttls"}
    for secret in sorted((s for s in secrets if len(s) >= 4 and s.lower() not in keep), key=len, reverse=True):
        text = text.replace(secret, "***")
    return text.strip()[:500]


def _undisguised(address: Address) -> Address:
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return address.ipv4_mapped
        if address.sixtofour:
            return address.sixtofour
        if address in NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


# -- the process


def refuse_connections(allowed: list[Network]) -> list[str]:
    """From here on this process connects to nothing that is not permitted. Returns a list that will hold what it refused."""
    refused: list[str] = []

    def judge(event: str, arguments: tuple[Any, ...]) -> None:
        if event in ("socket.connect", "socket.sendto") and arguments[0].family in (socket.AF_INET, socket.AF_INET6):
            host = str(arguments[1][0])
            try:
                permitted = is_permitted(host, allowed)
            except ValueError:  # a name, which would be resolved once more behind our back
                permitted = False
            if not permitted:
                refused.append(host)
                raise PermissionError(f"{host} is a loopback or private address")

    sys.addaudithook(judge)
    return refused


def _private_addresses(host: str, allowed: list[Network]) -> list[str]:
    """Of all addresses of a name, those that are not permitted; a name that resolves to nothing is left to fail by itself."""
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
    except OSError:
        return []
    return sorted(address for address in found if not is_permitted(address, allowed))


def _deliver(order: dict[str, Any]) -> dict[str, str]:
    url, allowed = order["url"], networks(order["allowed"])
    if urlsplit(url).scheme.lower() not in MAIL:
        for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
            del os.environ[name]  # a proxy is a private address itself, and would resolve names where nobody judges them
        private = _private_addresses(urlsplit(url).hostname or "", allowed)
        if private:
            return {"outcome": "refused", "reason": _refusal(private)}
        refused = refuse_connections(allowed)
    else:
        refused = []
    said: list[str] = []
    logging.getLogger("apprise").addHandler(_Listening(said))
    from apprise import Apprise

    sender = Apprise()
    if not sender.add(url):
        return {"outcome": "failed", "reason": "expected a URL that Apprise knows, found another; see its list of services"}
    if sender.notify(title=order["title"], body=order["body"], notify_type=order["kind"], body_format="text"):  # else a mail has it as HTML
        return {"outcome": "sent", "reason": ""}
    if refused:
        return {"outcome": "refused", "reason": _refusal(refused)}
    return {"outcome": "failed", "reason": "; ".join(said[:3]) or "the receiver did not take it"}


def _refusal(private: list[str]) -> str:
    return f"expected a receiver in the public internet, found {', '.join(private)}; PIPELINE_ALERT_TARGETS allows networks of your own"


class _Listening(logging.Handler):
    """Apprise tells only its log why something failed."""

    def __init__(self, said: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._said = said

    def emit(self, record: logging.LogRecord) -> None:
        self._said.append(record.getMessage())


if __name__ == "__main__":
    logging.getLogger("apprise").propagate = False
    sys.stdout.write(json.dumps(_deliver(json.load(sys.stdin))) + "\n")
