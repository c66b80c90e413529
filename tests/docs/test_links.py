"""No page points into nothing, and none knows on which machine it was written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, PROJECT, name, read, without_blocks

LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
MACHINE = re.compile(r"(?<![\w.~}>])/(?:work|root|home|Users|mnt|opt)/")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_inside_the_project_leads_somewhere(page: Path) -> None:
    dead = [link for link in LINK.findall(without_blocks(read(page))) if "://" not in link and not _leads_somewhere(page, link)]
    assert dead == []


@pytest.mark.parametrize("page", [page for page in PAGES if page.parent == PROJECT / "docs" and page.name != "index.md"], ids=name)
def test_the_index_leads_to_every_page(page: Path) -> None:
    assert f"]({page.name})" in read(PROJECT / "docs" / "index.md")


@pytest.mark.parametrize("page", sorted((PROJECT / "docs" / "decisions").glob("0*.md")), ids=name)
def test_the_list_of_decisions_leads_to_every_decision(page: Path) -> None:
    assert f"[{page.name[:4]}]({page.name})" in read(page.with_name("README.md"))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_no_page_holds_a_path_of_its_authors_machine(page: Path) -> None:
    assert MACHINE.findall(read(page)) == []


def _leads_somewhere(page: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = page.parent / path if path else page
    return target.exists() and (not anchor or anchor in map(_anchor, HEADING.findall(read(target))))


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-")
