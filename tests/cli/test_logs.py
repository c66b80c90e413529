"""Log lines: on stderr, for a person or as JSON, with the pool and cycle they belong to."""

from __future__ import annotations

import json
import logging

import pytest

from pipeline_project.cli import session
from pipeline_project.core.errors import UsageError
from tests.cli.conftest import CommandLine


def test_a_line_carries_pool_and_cycle(anywhere: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINE_LOG", "json")
    with session.logged(pool="p", cycle="c", other=None):
        logging.getLogger("pipeline_project.engine.x").warning("%s fell silent", "owner")
    out, err = anywhere.captured.readouterr()
    line = json.loads(err)
    assert out == ""
    assert (line["message"], line["level"], line["pool"], line["cycle"]) == ("owner fell silent", "warning", "p", "c")
    assert "other" not in line


def test_afterwards_lines_carry_them_no_more(anywhere: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINE_LOG", "json")
    with session.logged(pool="p"):
        pass
    logging.getLogger("pipeline_project.x").info("later")
    assert "pool" not in json.loads(anywhere.captured.readouterr().err)


def test_a_person_gets_plain_lines_once(anywhere: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIPELINE_LOG", raising=False)
    for _ in range(2):
        with session.logged(pool="p"):
            pass
    with session.logged(pool="p"):
        logging.getLogger("pipeline_project.x").info("hello")
        logging.getLogger("alembic").info("chatter of others")
    out, err = anywhere.captured.readouterr()
    assert out == ""
    assert err.count("hello") == 1
    assert "pool=p" in err
    assert "chatter" not in err
    assert "\x1b" not in err


def test_an_unknown_style_is_a_usage_error(anywhere: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINE_LOG", "xml")
    with pytest.raises(UsageError, match="PIPELINE_LOG: expected text or json, found 'xml'"), session.logged():
        pass
