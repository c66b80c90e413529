"""A real `pipeline up` on loopback, and Debian's Chromium to look at it. Only with --browser: it waits for Dagster's turns of 30 s."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from pipeline_project.engine.engine import Engine
from pipeline_project.settings import Settings
from pipeline_project.store import dagster_database
from pipeline_project.store.artifacts import Artifacts
from pipeline_project.store.database import Database

if TYPE_CHECKING:
    from playwright.sync_api import Page

CHROMIUM: Final = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS: Final = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),  # it asks for hosts of its maker's otherwise
)
VIEW: Final = {"width": 1440, "height": 760}
PATIENCE_MS: Final = 240_000
UP_S: Final = 1700
"""However a test ends, its servers end by themselves after so long."""
SCREENSHOTS: Final = "PIPELINE_SCREENSHOTS"
"""The folder, where somebody wants them: PIPELINE_SCREENSHOTS=docs/images ./pipeline test tests/browser --browser"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """A running control room and the engine beneath it."""

    url: str
    engine: Engine
    database: Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where it will run: a test furnishes the engine before it opens the doors, or the daemon decides what the test wanted to."""

    engine: Engine
    opened: Callable[..., AbstractContextManager[Installation]]
    """days = how many partitions of days there are"""


@pytest.fixture
def site(clones: Callable[[], AbstractContextManager[Database]], settings: Settings, tmp_path: Path) -> Iterator[Site]:
    """A database; the servers start when it is opened."""
    with clones() as database:
        folder = tmp_path / "artifacts"
        engine = Engine.over(database, Artifacts(f"{folder}/{database.url.database}"), timezone="UTC")
        variables = {
            **os.environ,
            "PIPELINE_HOME": str(settings.home),
            "PIPELINE_ARTIFACTS": str(folder),
            "PIPELINE_DATABASE_URL": database.name,
        }

        def opened(*, days: int = 5) -> AbstractContextManager[Installation]:
            first_day = engine.inquiry.today() - timedelta(days=days - 1)
            return _up(engine, database, {**variables, "PIPELINE_FIRST_DAY": str(first_day)})

        yield Site(engine=engine, opened=opened)
        dagster_database.drop(database, settings)


@contextmanager
def _up(engine: Engine, database: Database, variables: dict[str, str]) -> Iterator[Installation]:
    command = [str(Path(sys.executable).with_name("pipeline")), "up", "--port", "0", "--json", "--seconds", str(UP_S)]
    with subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            assert process.stderr
            line = process.stdout.readline()
            shown: dict[str, Any] = json.loads(line or process.stderr.read())
            yield Installation(url=shown["url"], engine=engine, database=database)
        finally:
            process.terminate()
            process.communicate(timeout=90)
            shutil.copytree(Path(variables["PIPELINE_HOME"]) / "logs", Path(variables["PIPELINE_ARTIFACTS"]).with_name("logs"))


@pytest.fixture
def page(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Page]:
    """An empty tab."""
    if not request.config.getoption("--browser"):
        pytest.skip("a browser is asked for by --browser: ./pipeline test tests/browser --browser")
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="Playwright is not installed: run ./pipeline once, requirements.lock has it"
    )
    if CHROMIUM is None:
        pytest.skip("no Chromium: apt-get install chromium libatomic1")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        tab = browser.new_page(viewport=VIEW)
        tab.set_default_timeout(PATIENCE_MS)
        yield tab
        tab.screenshot(path=tmp_path / "last.png")  # pytest keeps the folder of a test that failed
        browser.close()


def photograph(page: Page, name: str) -> None:
    """Keep what the page shows, in few colours, where somebody asked for pictures."""
    from PIL import Image

    if folder := os.environ.get(SCREENSHOTS):
        picture = Image.open(io.BytesIO(page.screenshot()))
        picture.convert("RGB").quantize(128).save(Path(folder) / f"{name}.png", optimize=True)
