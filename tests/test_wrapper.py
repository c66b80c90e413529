"""The wrapper, with Pythons and a uv that only pretend: a whole set-up from an empty machine is what .ci/run begins with."""

from __future__ import annotations

import ast
import fcntl
import importlib.machinery
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import pipeline_project

PROJECT = Path(pipeline_project.__file__).parents[1]
LOCK = r"""setuptools==1 \
    --hash=sha256:aa
uv==2 ; sys_platform != 'x' \
    --hash=sha256:bb
wheel[extra]==3 \
    --hash=sha256:cc
other==4 \
    --hash=sha256:dd
"""
# Answers the wrapper's question, makes a .venv that contains itself, and as the .venv's Python says how it was called.
PYTHON = """#!/bin/sh
case "$*" in
    *find_spec*) echo {answer} ;;
    *"-m venv"*)
        for folder; do :; done
        mkdir -p "$folder/bin"
        cp "$0" "$folder/bin/python"
        echo "version = {version}" > "$folder/pyvenv.cfg"
        ;;
    *compileall*) echo "byte code of $4" ;;
    *bin/pipeline*) shift; echo "home=$PIPELINE_HOME arguments=$*" ;;
esac
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project folder with the real wrapper and a small lock."""
    folder = tmp_path / "a project"
    folder.mkdir()
    shutil.copy(PROJECT / "pipeline", folder)
    (folder / "requirements.lock").write_text(LOCK)
    (folder / "pyproject.toml").write_text("[project]\n")
    return folder


@pytest.fixture
def wrapper(project: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.delenv("PIPELINE_PYTHON", raising=False)
    return load(project / "pipeline")


def load(script: Path) -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("wrapper", str(script))
    spec = importlib.util.spec_from_loader("wrapper", loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def program(folder: Path, name: str, script: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(script)
    path.chmod(0o755)
    return path


def fake_python(folder: Path, version: str, modules: str = "venv ensurepip") -> Path:
    return program(folder, "python" + version.rpartition(".")[0], PYTHON.format(answer=f"{version} {modules}", version=version))


def fake_machine(tmp_path: Path, uv: str = 'echo "$@" >> "$0.log"') -> Path:
    """A folder for PATH with a Python and a uv; what uv was told is in uv.log."""
    fake_python(tmp_path / "bin", "3.12.4")
    program(tmp_path / "bin", "uv", f"#!/bin/sh\n{uv}\n")
    return tmp_path / "bin"


def start(project: Path, path: Path, *arguments: str, home: str | None = None) -> subprocess.Popen[str]:
    environment = {"PATH": f"{path}:/usr/bin:/bin", "HOME": str(path)} | ({"PIPELINE_HOME": home} if home else {})
    command = [sys.executable, str(project / "pipeline"), *arguments]
    return subprocess.Popen(command, cwd="/", env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(project: Path, path: Path, *arguments: str, home: str | None = None) -> tuple[int, str, str]:
    with start(project, path, *arguments, home=home) as started:
        out, err = started.communicate(timeout=60)
        return started.returncode, out, err


def test_the_first_call_sets_up_and_the_second_goes_straight_to_the_command(project: Path, tmp_path: Path) -> None:
    machine = fake_machine(tmp_path)
    code, out, err = run(project, machine, "demo", "--no-ui")
    assert (code, out) == (0, f"home={project}/.pipeline arguments=demo --no-ui\n")
    assert "creating .venv with Python 3.12.4" in err
    assert f"byte code of {project}/pipeline_project" in err
    assert "--no-deps --no-build-isolation -e" in (machine / "uv.log").read_text()
    (machine / "uv.log").unlink()
    assert run(project, machine, "demo", "--no-ui") == (0, out, "")
    assert not (machine / "uv.log").exists()


@pytest.mark.parametrize(("given", "found"), [("state", "{project}/state"), ("/elsewhere", "/elsewhere")])
def test_a_relative_home_is_the_projects_from_wherever_it_is_called(project: Path, tmp_path: Path, given: str, found: str) -> None:
    _, out, _ = run(project, fake_machine(tmp_path), home=given)
    assert out.startswith(f"home={found.format(project=project)} ")


def test_a_set_up_that_failed_is_repeated(project: Path, tmp_path: Path) -> None:
    machine = fake_machine(tmp_path, uv='case "$1" in --version) ;; *) exit 9 ;; esac')
    program(
        tmp_path / "bin", "python3.12", (machine / "python3.12").read_text().replace("case", '[ "$2 $3" = "-m pip" ] && exit 8\ncase', 1)
    )
    code, out, err = run(project, machine)
    assert (code, out) == (1, "")
    assert "failed with exit code 9; going on with pip" in err
    assert err.endswith("failed with exit code 8\n")
    code, out, _ = run(project, fake_machine(tmp_path))
    assert code == 0
    assert out.startswith("home=")


def test_the_second_of_two_waits_and_takes_what_the_first_has_made(project: Path, tmp_path: Path, wrapper: ModuleType) -> None:
    descriptor = os.open(project, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    machine = fake_machine(tmp_path)
    with start(project, machine, "--help") as waiting:
        assert waiting.stderr
        assert waiting.stdout
        assert "waiting for another set-up" in waiting.stderr.readline()
        while not waits_for_a_lock(waiting.pid):
            assert waiting.poll() is None, "it did not wait"
        finish(project, wrapper)
        os.close(descriptor)
        assert waiting.stdout.read().endswith("arguments=--help\n")
    assert not (machine / "uv.log").exists()


def waits_for_a_lock(pid: int) -> bool:
    return any("->" in line and f" {pid} " in line for line in Path("/proc/locks").read_text().splitlines())


def finish(project: Path, wrapper: ModuleType) -> None:
    """Make a .venv as a finished set-up leaves it."""
    python = fake_python(project, "3.11.9")
    (project / ".venv" / "bin").mkdir(parents=True)
    python.rename(project / ".venv" / "bin" / "python")
    (project / ".venv" / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.11.9\n")
    (project / ".venv" / "pipeline.stamp").write_text(wrapper.stamp("3.11.9"))


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("requirements.lock", "other==5\n"),
        ("pyproject.toml", "[tool]\n"),
        (".venv/pyvenv.cfg", "version = 3.12.1\n"),
        (".venv/pipeline.stamp", ""),
        (".venv/pipeline.stamp", None),
        (".venv/pyvenv.cfg", None),
        (".venv/bin/python", None),
    ],
)
def test_what_the_environment_was_made_from_is_watched(project: Path, wrapper: ModuleType, path: str, content: str | None) -> None:
    finish(project, wrapper)
    assert wrapper.is_current()
    (project / path).unlink() if content is None else (project / path).write_text(content)
    assert not wrapper.is_current()


def test_a_moved_project_is_set_up_anew(project: Path, wrapper: ModuleType) -> None:
    finish(project, wrapper)
    assert not load(project.rename(project.with_name("moved")) / "pipeline").is_current()


def test_another_python_on_request_is_another_environment(
    project: Path, tmp_path: Path, wrapper: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(project, wrapper)
    monkeypatch.setenv("PIPELINE_PYTHON", str(fake_python(tmp_path / "bin", "3.13.2")))
    assert not wrapper.is_current()
    monkeypatch.setenv("PIPELINE_PYTHON", str(fake_python(tmp_path / "bin", "3.11.9")))
    assert wrapper.is_current()


def test_a_shim_that_only_complains_is_passed_over(tmp_path: Path, wrapper: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    shims = tmp_path / "shims"
    program(shims, "python3.13", "#!/bin/sh\necho 'pyenv: python3.13: command not found' >&2; exit 127\n")
    program(shims, "python3.12", "#!/bin/sh\n")
    program(shims, "python3", PYTHON.format(answer="3.9.1 venv ensurepip", version="3.9.1"))
    good = program(tmp_path / "good", "python3", PYTHON.format(answer="3.12.4 venv ensurepip", version="3.12.4"))
    monkeypatch.setenv("PATH", f"{shims}:{good.parent}:{tmp_path}/no such folder")
    assert wrapper.find_python("ensurepip").path == str(good)


def test_a_python_without_venv_gives_way_to_one_with_it(tmp_path: Path, wrapper: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    bare, whole = fake_python(tmp_path / "bare", "3.13.1", "venv"), fake_python(tmp_path / "whole", "3.11.2")
    monkeypatch.setenv("PATH", f"{bare.parent}:{whole.parent}")
    assert wrapper.find_python("venv").path == str(bare)
    assert wrapper.find_python("ensurepip").path == str(whole)


def test_a_missing_venv_module_is_named_with_the_package_to_install(project: Path, tmp_path: Path) -> None:
    bare = fake_python(tmp_path / "bare", "3.12.4", "venv")
    environment = {"PATH": f"{bare.parent}:/usr/bin:/bin", "PIPELINE_PYTHON": str(bare)}
    done = subprocess.run([sys.executable, project / "pipeline"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"Python 3.12.4 ({bare}) comes without its module ensurepip" in done.stderr
    assert "apt install python3.12-venv" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("answer", "sentence"), [("exit 1", "does not run"), ("echo 3.10.2 venv", "expected Python 3.13 or 3.12 or 3.11, found 3.10.2")]
)
def test_a_wrong_python_on_request_is_refused(
    tmp_path: Path, wrapper: ModuleType, monkeypatch: pytest.MonkeyPatch, answer: str, sentence: str
) -> None:
    monkeypatch.setenv("PIPELINE_PYTHON", str(program(tmp_path / "bin", "python", f"#!/bin/sh\n{answer}\n")))
    with pytest.raises(wrapper.SetUpError, match=sentence):
        wrapper.find_python("venv")


def test_a_machine_without_a_fitting_python_is_told_so(tmp_path: Path, wrapper: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(wrapper.SetUpError, match=r"no Python 3\.13 or 3\.12 or 3\.11 on PATH"):
        wrapper.find_python("venv")


def test_a_folder_that_we_may_not_write_to_is_named(project: Path, wrapper: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wrapper.os, "access", lambda *_: False)
    with pytest.raises(wrapper.SetUpError, match=f"may not write to {project}"):
        wrapper.set_up()


def test_a_part_of_the_lock_keeps_the_hashes_of_its_packages(project: Path, wrapper: ModuleType) -> None:
    (project / ".venv").mkdir()
    part = Path(wrapper.part_of_lock(lambda name: name in ("wheel", "uv")))
    assert part.read_text() == "uv==2 ; sys_platform != 'x' \\\n    --hash=sha256:bb\nwheel[extra]==3 \\\n    --hash=sha256:cc\n"


def test_the_real_lock_holds_what_the_wrapper_needs_by_hash_and_no_address(wrapper: ModuleType) -> None:
    lock = (PROJECT / "requirements.lock").read_text()
    for name in (*wrapper.BUILD_TOOLS, "uv", "hatchling", "editables"):
        assert f"\n{name}==" in lock
    assert "://" not in lock
    assert " @ " not in lock
    assert all("--hash=sha256:" in line or line.endswith("\\") for line in lock.splitlines())


def test_pips_settings_reach_uv_and_foreign_environments_do_not(wrapper: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "mirror")
    monkeypatch.setenv("PYTHONHOME", "/elsewhere")
    environment = wrapper.environment()
    assert environment["UV_DEFAULT_INDEX"] == "mirror"
    assert "PYTHONHOME" not in environment


def test_an_old_python_can_read_the_wrapper() -> None:
    ast.parse((PROJECT / "pipeline").read_text(), feature_version=(3, 6))
