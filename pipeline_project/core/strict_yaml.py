"""YAML without its traps: no anchors, no tags, no repeated keys, and only true, false, null and decimal numbers are not text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import yaml

from pipeline_project.core.errors import Refusal, Refused

TEXT_LENGTH_LIMIT: Final = 64 * 1024
DEPTH_LIMIT: Final = 20

Path = tuple[str | int, ...]


class YamlRefused(Refused):
    """The text is not the YAML we read; the refusal says where and why."""

    def __init__(self, line: int, expected: str, found: str) -> None:
        self.refusal = Refusal(line=line, field="document", expected=expected, found=found)
        super().__init__(str(self.refusal))


def load(text: str) -> tuple[Any, dict[Path, int]]:
    """The document, and the 1-based line of each of its parts. Raises YamlRefused."""
    if len(text) > TEXT_LENGTH_LIMIT:
        raise YamlRefused(1, f"at most {TEXT_LENGTH_LIMIT} characters", str(len(text)))
    try:
        _refuse_traps(text)
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None, {}
        lines = dict(_lines(node))
        return loader.construct_document(node), lines
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise YamlRefused(mark.line + 1 if mark else 1, "YAML", str(error.problem or error.context)) from None
    except yaml.YAMLError as error:  # a character that YAML does not allow: it comes without a mark
        raise YamlRefused(1, "YAML", " ".join(str(error).split())) from None


class _Loader(yaml.SafeLoader):
    """Safe, and deaf to YAML 1.1: there `no` is false, `010` is 8 and `1:30` is 90."""

    yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012  # the stubs call it an instance variable


_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$"), list("tf"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(?:null|~|)$"), ["n", "~", ""])
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^-?(?:0|[1-9][0-9]{0,18})$"), list("-0123456789"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"^-?(?:0|[1-9][0-9]*)\.[0-9]+$"), list("-0123456789"))


def _refuse_traps(text: str) -> None:
    """Look at the events before anything is built from them: an alias can make a small text a huge document."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        line = event.start_mark.line + 1 if event.start_mark else 1
        if getattr(event, "anchor", None):
            raise YamlRefused(line, "every value written out", "an anchor or an alias (& or *)")
        if tag := getattr(event, "tag", None):
            raise YamlRefused(line, "plain values", f"the tag {tag}")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEPTH_LIMIT:
            raise YamlRefused(line, f"at most {DEPTH_LIMIT} levels of nesting", "more")


def _lines(node: yaml.Node, path: Path = ()) -> Iterator[tuple[Path, int]]:
    """Where each part stands; refuses a key that stands twice in one mapping, of which YAML would silently keep the last."""
    yield path, node.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode):
        for index, child in enumerate(node.value):
            yield from _lines(child, (*path, index))
    if isinstance(node, yaml.MappingNode):
        first: dict[str, int] = {}
        for key, child in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str":
                raise YamlRefused(line, "a plain name before the colon", f"{key.value!r:.80}")
            if key.value in first:
                raise YamlRefused(line, "each key once", f"{key.value!r:.80} again, first on line {first[key.value]}")
            first[key.value] = line
            yield (*path, key.value), line
            yield from ((part, at) for part, at in _lines(child, (*path, key.value)) if part != (*path, key.value))
