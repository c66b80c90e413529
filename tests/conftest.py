"""One embedded server for the whole test run, shared by all xdist workers, and a fresh clone of the schema for every test."""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import hypothesis
import pytest
import sqlalchemy as sa

from pipeline_project.engine.engine import Engine
from pipeline_project.settings import Settings
from pipeline_project.store import schema
from pipeline_project.store.artifacts import Artifacts
from pipeline_project.store.database import Database
from pipeline_project.store.embedded import EmbeddedPostgres
from tests.world import NOON, World, entered

hypothesis.settings.register_profile("no clock", deadline=None)  # the first call of a compiled loop loads it: no example is to blame
hypothesis.settings.load_profile("no clock")

HOME = "PIPELINE_TEST_HOME"
SEED = "PIPELINE_TEST_SEED"
TEMPLATE = "template_of_tests"


def pytest_addoption(parser: pytest.Parser) -> None:
    """How deep tests/chaos looks, see its depth.py; whether tests/browser does. Here, as they must be known before the collection."""
    group = parser.getgroup("pipeline")
    group.addoption("--soak", type=float, metavar="SECONDS", help="only tests/chaos, its killings and random calls for so long")
    group.addoption("--every-statement", action="store_true", help="tests/chaos breaks and interleaves at every statement, not at a few")
    group.addoption(
        "--seed", type=int, metavar="N", help="where a few are taken, which: 1, or with --soak by chance; it is shown when a test fails"
    )
    group.addoption("--browser", action="store_true", help="tests/browser too, which looks at a real `pipeline up`; minutes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--soak") is not None:
        chaos = [item for item in items if Path(__file__).with_name("chaos") in item.path.parents]
        config.hook.pytest_deselected(items=[item for item in items if item not in chaos])
        items[:] = chaos


def pytest_configure(config: pytest.Config) -> None:
    """The first process makes folder and seed; workers inherit both. Not below pytest's own, which the server's account cannot enter."""
    if not hasattr(config, "workerinput"):
        home = Path(tempfile.mkdtemp(prefix="pipeline-tests-"))
        home.chmod(0o711)
        os.environ[HOME] = str(home)
        chosen = config.getoption("--seed")
        usual = random.SystemRandom().randrange(10**6) if config.getoption("--soak") else 1  # a change is judged by what it changed
        os.environ[SEED] = str(usual if chosen is None else chosen)
        os.environ["PIPELINE_PG_FSYNC"] = "off"


def pytest_unconfigure(config: pytest.Config) -> None:
    """It also ends the server: when it comes here, all workers have ended."""
    if not hasattr(config, "workerinput") and HOME in os.environ:
        home = Path(os.environ.pop(HOME))
        if (home / "postgres").exists():
            EmbeddedPostgres(home).stop()
        gone = home.rename(home.with_suffix(".gone"))  # in one step: the reaper finds no folder any more to lay its locks into
        shutil.rmtree(gone)


@pytest.fixture(scope="session")
def settings() -> Settings:
    """What every test of this run shares: where the server is. Artifacts go elsewhere, see `engine`."""
    return Settings(home=Path(os.environ[HOME]))


@pytest.fixture(scope="session")
def server(settings: Settings) -> Iterator[EmbeddedPostgres]:
    """Keeps the server running from a worker's first database test to its last."""
    with EmbeddedPostgres(settings.state_dir) as running:
        yield running


@pytest.fixture(scope="session")
def template(settings: Settings, server: EmbeddedPostgres) -> str:
    """A database with the schema and nothing else, made by whichever worker comes first."""
    made = settings.home / "template-made"
    with _locked(settings.home / "template.lock"):
        if not made.exists():
            database = Database.find(TEMPLATE, settings)
            schema.create(database)
            database.close()
            made.touch()
    return TEMPLATE


@pytest.fixture(scope="session")
def clones(settings: Settings, template: str) -> Callable[[], AbstractContextManager[Database]]:
    """Fresh databases with the schema, each a clone of the template that is dropped after its block."""

    original = Database.find(template, settings)

    @contextmanager
    def clone() -> Iterator[Database]:
        name = f"t{uuid4().hex}"
        doors = {door: getattr(original, door).set(database=name) for door in ("url", "admin")}
        database = replace(original, name=name, _engines=[], **doors)  # without looking for the server again, a tenth of a second
        with maintenance(database) as connection:
            connection.execute(sa.text(f'create database "{database.name}" template "{template}"'))
        yield database
        schema.drop(database)

    return clone


@pytest.fixture
def database(clones: Callable[[], AbstractContextManager[Database]]) -> Iterator[Database]:
    """An empty database that lives in real time."""
    with clones() as clone:
        yield clone


@pytest.fixture
def engine(database: Database, tmp_path: Path) -> Engine:
    """The engine over it, with artifacts of its own."""
    return Engine.over(database, Artifacts(str(tmp_path / "artifacts")), timezone="UTC")


@pytest.fixture
def simulation(database: Database) -> Database:
    """The same, but it is told the time, and believes that it is noon."""
    with entered(database) as connection:
        connection.execute(sa.text("insert into pipeline.clock (at) values (:at)"), {"at": NOON})
        connection.execute(sa.text("select pipeline.ensure_partitions(2)"))
    return database


@pytest.fixture
def world(simulation: Database, tmp_path: Path) -> Iterator[World]:
    """A pool in simulated time. Whatever a test did to it, every invariant holds in the end."""
    made = World(Engine.over(simulation, Artifacts(str(tmp_path / "artifacts")), timezone="UTC"))
    made.engine.intake.create_pool(made.pool)
    yield made
    assert made.engine.upkeep.check() == []


@contextmanager
def maintenance(database: Database) -> Iterator[sa.Connection]:
    """The server's maintenance database, as its superuser, outside of transactions."""
    engine = sa.create_engine(database.admin.set(database="postgres"), poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        yield connection


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
