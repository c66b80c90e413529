"""What may stand where in a policy, read off the models: the commented YAML, the reference page and every error say the same."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from pipeline_project.core.columns import shown, suggestion
from pipeline_project.core.errors import Refusal
from pipeline_project.core.strict_yaml import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One field of the policy.

    path      from the top, for example ("ttl", "hold")
    meaning   its description
    accepts   what may stand there, in words
    default   as YAML text; empty for a section, which is the sum of its fields
    optional  a section that is null unless somebody writes it
    """

    path: tuple[str, ...]
    meaning: str
    accepts: str
    default: str
    optional: bool


@cache
def entries(model: type[BaseModel]) -> tuple[Entry, ...]:
    """All fields in the order of the models, each section before its own fields."""
    return tuple(_walk(model, ()))


def as_yaml(model: type[BaseModel]) -> str:
    """A file of all defaults, each with its meaning; a section that is null by default is written as a comment."""
    lines: list[str] = []
    hidden: tuple[str, ...] | None = None
    for entry in entries(model):
        margin = "  " * (len(entry.path) - 1)
        if hidden is None or entry.path[: len(hidden)] != hidden:
            hidden = None
        prefix = "# " if hidden else ""
        if len(entry.path) == 1:
            lines.append("")
        takes = f". Takes {entry.accepts}" if entry.default and not entry.optional else ""
        lines.append(f"{prefix}{margin}# {entry.meaning}{takes}")
        lines.append(f"{prefix}{margin}{entry.path[-1]}: {entry.default}".rstrip())
        if entry.optional:
            hidden = entry.path
            lines.append(f"# {margin}{entry.path[-1]}:")
    return "\n".join(lines[1:]) + "\n"


def as_markdown(model: type[BaseModel]) -> str:
    """The reference page docs/policy.md."""
    rows = [_ROW.format(field="field", default="default", accepts="accepts", meaning="meaning"), "|---|---|---|---|"]
    for entry in entries(model):
        default = f"`{entry.default}`" if entry.default else ""
        rows.append(_ROW.format(field=f"`{'.'.join(entry.path)}`", default=default, accepts=entry.accepts, meaning=entry.meaning))
    return _PAGE.format(table="\n".join(rows))


def refusals(invalid: ValidationError, model: type[BaseModel], lines: Mapping[Path, int]) -> list[Refusal]:
    """Every error of a document, in the order of its lines: the place, what is accepted there, what was found."""
    known = {entry.path: entry for entry in entries(model)}
    found = []
    for error in invalid.errors(include_url=False):
        path: Path = tuple(error["loc"])
        expected = known[path].accepts if path in known else "a mapping of the policy's fields"  # type: ignore[index]
        value = shown(_masked(error["input"]))
        if error["type"] == "extra_forbidden":
            siblings = [entry.path[-1] for entry in known.values() if entry.path[:-1] == path[:-1]]
            expected, value = "one of " + ", ".join(siblings), shown(path[-1]) + suggestion(path[-1], siblings)
        elif error["type"] == "missing":
            value = "nothing"
        line = next((lines[path[:depth]] for depth in range(len(path), -1, -1) if path[:depth] in lines), 1)
        found.append(Refusal(line=line, field=_name(path), expected=expected, found=value))
    return sorted(found, key=lambda refusal: refusal.line)


def _walk(model: type[BaseModel], above: tuple[str, ...]) -> Iterator[Entry]:
    schemas = model.model_json_schema()["properties"]
    defaults = model.model_construct().model_dump(mode="json")
    for name, field in model.model_fields.items():
        path, section = (*above, name), _section(field)
        optional = section is not None and field.default is None
        default = json.dumps(defaults[name]).strip('"') if name in defaults else "(required)"
        if section is not None and not optional:
            default = ""
        accepts = _accepts(schemas[name])
        yield Entry(path=path, meaning=field.description or "", accepts=accepts, default=default, optional=optional)
        if section is not None:
            yield from _walk(section, path)


def _name(path: Path) -> str:
    """The path as a person writes it; a part of it may be a stranger's text, which is shown escaped where it must be."""
    return ".".join(str(part) if str(part).isprintable() else shown(part) for part in path) or "document"


def _masked(value: object) -> object:
    """A message goes to logs and terminals; a password that should not have been there stops here."""
    return _SECRET.sub("***", value) if isinstance(value, str) else value


def _section(field: FieldInfo) -> type[BaseModel] | None:
    """The model behind a field, also behind an optional one."""
    for kind in (field.annotation, *get_args(field.annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _accepts(schema: Mapping[str, Any]) -> str:
    if "expected" in schema:
        return str(schema["expected"])
    if "anyOf" in schema:
        return ", or ".join(_accepts(part) for part in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(schema["enum"])
    words = {"integer": "a whole number", "number": "a number", "boolean": "true or false", "null": "null", "string": "text"}
    kind = words.get(schema.get("type", ""), "a mapping")
    return f"{kind} from {schema['minimum']} to {schema['maximum']}" if "maximum" in schema else kind


_SECRET = re.compile(r"(?<=://)\S*(?=@)|(?<=password=)[^&\s]*", re.IGNORECASE)

_ROW = "| {field} | {default} | {accepts} | {meaning} |"

_PAGE = """\
# Policy reference

Each pool has one policy: a YAML document, versioned and hashed. Every field has a default, so a policy says only what differs;
`pipeline policy show --defaults` prints them all with comments, `pipeline policy lint FILE` names every error of a file at once.

{table}

Durations are whole seconds, minutes, hours or days. The hash of a policy is the SHA-256 of its canonical form (JSON with sorted names and
all defaults filled in): how the file is written does not change it, an upgrade that changes a default does.

Not read, because they mislead: anchors and aliases, tags, a key that stands twice, more than 65,536 characters. Only `true`, `false`,
`null` and decimal numbers are not text: `no` is the word no, `010` is not eight.

This page is printed by `pipeline policy show --reference`; a test holds it equal to the code.
"""
