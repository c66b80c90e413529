"""Who is told of which alerts: the routes file, one route a receiver."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema

from pipeline_project.core import strict_yaml
from pipeline_project.core.columns import shown, suggestion
from pipeline_project.core.errors import Refusal, Refused
from pipeline_project.core.policy import PositiveDuration, seconds

Severity = Literal["info", "warning", "error"]

_A_NAME: Final = "1 to 64 of A-Z a-z 0-9 _ -"
_A_URL: Final = "env:NAME of a variable, file:PATH of a file that holds the URL, or an Apprise URL without a password"
_REQUIRED: Final = {"name": _A_NAME, "url": _A_URL}

EXAMPLE: Final = """\
routes:
  - name: on-call                      # tells of errors in any pool
    url: env:ONCALL_URL                # an Apprise URL in an environment variable ...
    severities: [error]
  - name: render-team                  # and of everything in some pools
    url: file:/run/secrets/render-url  # ... or in a file, such as slack://token-a/token-b/token-c/#render
    pools: [farm, night-*]
    severities: [warning, error]
    at_most: {messages: 10, per: 1h}
  - name: archive                      # a mail that nobody has to answer
    url: mailto://relay.example.org:25?from=pipeline@example.org&to=archive@example.org&mode=insecure
    kinds: [check_failed, run_failed]
    recovery: false
"""


class RoutesRefused(Refused):
    """The routes file is not valid, and nobody is told of anything by it. The message names every place."""

    def __init__(self, where: str, refusals: Iterable[Refusal]) -> None:
        self.refusals = list(refusals)
        super().__init__("\n".join(f"{where}: {refusal}" for refusal in self.refusals))


def _name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", text):
        raise ValueError(_A_NAME)
    return text


def _reference(text: str) -> str:
    """Secrets are not written into this file: it is read by people, and kept beside other settings."""
    if re.fullmatch(r"env:[A-Za-z_][A-Za-z0-9_]*|file:\S+", text):
        return text
    url = urlsplit(text)
    if not url.scheme or "://" not in text or url.password:
        raise ValueError(_A_URL)
    return text


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class AtMost(_Section):
    """What comes beyond it waits, and then comes in one message."""

    messages: int = Field(default=20, ge=1, le=10_000, description="Messages that the route is sent at most in that time")
    per: PositiveDuration = Field(default=seconds("1h"), description="The time they are counted in")


class Route(_Section):
    """One receiver, and of what it is told."""

    name: Annotated[str, AfterValidator(_name), WithJsonSchema({"type": "string", "expected": _A_NAME})] = Field(
        description="Its name; deliveries are remembered under it"
    )
    url: Annotated[str, AfterValidator(_reference), WithJsonSchema({"type": "string", "expected": _A_URL})] = Field(
        description="Where to: an Apprise URL, or where one is kept"
    )
    severities: list[Severity] = Field(default=["warning", "error"], description="Which severities it hears of")
    pools: list[str] = Field(default=["*"], description="Which pools, by name or pattern; what belongs to no pool is heard by all")
    kinds: list[str] = Field(default=["*"], description="Which kinds of alert, by name or pattern")
    recovery: bool = Field(default=True, description="Whether it is told when the condition has ended, too")
    at_most: AtMost = Field(default=AtMost(), description="How often it may be disturbed")

    def hears(self, *, severity: str, kind: str, pool: str | None) -> bool:
        """Whether it is told of such an alert; pool: None = it belongs to none."""
        return (
            severity in self.severities
            and any(fnmatchcase(kind, pattern) for pattern in self.kinds)
            and (pool is None or any(fnmatchcase(pool, pattern) for pattern in self.pools))
        )


class _Routes(_Section):
    routes: list[Route] = Field(default=[], description="The routes")


def parse(text: str, where: str) -> tuple[Route, ...]:
    """The routes of a file. Raises RoutesRefused with every error at once, each with its line."""
    try:
        document, lines = strict_yaml.load(text)
    except strict_yaml.YamlRefused as refused:
        raise RoutesRefused(where, [refused.refusal]) from None
    try:
        routes = _Routes.model_validate({} if document is None else document).routes
    except ValidationError as invalid:
        raise RoutesRefused(where, [_refusal(error, lines) for error in invalid.errors(include_url=False)]) from None
    if twice := [name for name, times in Counter(route.name for route in routes).items() if times > 1]:
        again = max(index for index, route in enumerate(routes) if route.name == twice[0])
        line = lines["routes", again, "name"]
        raise RoutesRefused(where, [Refusal(line=line, field="routes.name", expected="each name once", found=f"{twice[0]!r} again")])
    return tuple(routes)


def _refusal(error: Mapping[str, Any], lines: Mapping[strict_yaml.Path, int]) -> Refusal:
    """What stood in a `url` is not repeated: it may be a secret that should have been somewhere else."""
    path: strict_yaml.Path = tuple(error["loc"])
    line = next((lines[path[:depth]] for depth in range(len(path), -1, -1) if path[:depth] in lines), 1)
    expected = str(error["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")
    if error["type"] == "extra_forbidden":
        model: type[BaseModel] = _Routes if len(path) == 1 else AtMost if len(path) == 4 else Route
        expected = "one of " + ", ".join(model.model_fields)
        found = shown(path[-1]) + suggestion(path[-1], model.model_fields)
        return Refusal(line=line, field=_place(path[:-1]), expected=expected, found=found)
    if error["type"] == "missing":
        return Refusal(line=line, field=_place(path), expected=_REQUIRED[str(path[-1])], found="nothing")
    found = "something else" if "url" in path else shown(error["input"])
    return Refusal(line=line, field=_place(path), expected=expected, found=found)


def _place(path: strict_yaml.Path) -> str:
    return ".".join(map(str, path)) or "document"
