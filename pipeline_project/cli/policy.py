"""`pipeline policy`: what a pool's policy says, may say, and said before."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from pipeline_project.cli import console, session
from pipeline_project.cli.arguments import Pool, examples
from pipeline_project.core.errors import UsageError

if TYPE_CHECKING:  # imported inside the functions: `pipeline --help` must not wait for pydantic
    from pipeline_project.core.policy import Policy

app = typer.Typer(no_args_is_help=True, help="The policy of a pool: what is worth more, for how long, how hard to search.")

File = Annotated[Path, typer.Argument(metavar="FILE", help="A policy in YAML.")]
Version = Annotated[int | None, typer.Option("--version", metavar="N", min=1, help="An earlier version. Default: the one in force.")]


@app.command(epilog=examples("pipeline policy lint nightly.yaml"))
def lint(file: File, as_json: console.Json = False) -> None:
    """Name every error of a policy file at once. Exit code 5 when there is one."""
    from pipeline_project.core.policy import PolicyRefused

    try:
        policy = read(file)
    except PolicyRefused as refused:
        errors = [refusal.as_dict() for refusal in refused.refusals]
        console.emit({"file": str(file), "valid": False, "errors": errors}, as_json=as_json)
        if not as_json:
            console.err.print(str(refused), markup=False)
        raise typer.Exit(refused.exit_code) from None
    document = {"file": str(file), "valid": True, "errors": [], "hash": policy.hash}
    console.emit(document, as_json=as_json, human=[Text(f"{file}: valid, hash {policy.hash}")])


@app.command(
    epilog=examples(
        "pipeline policy show --defaults > nightly.yaml", "pipeline policy show --pool nightly", "pipeline policy show --reference"
    )
)
def show(
    *,
    pool: Annotated[str | None, typer.Option("--pool", metavar="POOL", help="The policy of this pool.")] = None,
    version: Version = None,
    defaults: Annotated[bool, typer.Option("--defaults", help="A policy file with every default and what it means.")] = False,
    reference: Annotated[bool, typer.Option("--reference", help="The reference page docs/policy.md.")] = False,
    database: console.DatabaseName = None,
    as_json: console.Json = False,
) -> None:
    """Print a policy: one of a pool, the defaults with their meaning, or the reference page."""
    if [pool is not None, defaults, reference].count(True) != 1:
        raise UsageError("policy show: expected one of --pool POOL, --defaults and --reference")
    if pool:
        with session.engine(database, pool=pool) as engine:
            version, policy = engine.inquiry.policy(pool, version)
        document = {"pool": pool, "version": version, **_document(policy)}
        console.emit(document, as_json=as_json, human=[Text(f"# pool {pool}, version {version}, hash {policy.hash}\n{_yaml(policy)}")])
    elif reference:
        _show_reference(as_json=as_json)
    else:
        _show_defaults(as_json=as_json)


@app.command(epilog=examples("pipeline policy apply nightly.yaml --pool nightly"))
def apply(file: File, pool: Pool, database: console.DatabaseName = None, as_json: console.Json = False) -> None:
    """Make this file the pool's policy, as a new version. The same policy again is no new version. Exit code 5 when it has errors."""
    policy = read(file)
    with session.engine(database, pool=pool) as engine:
        before, _ = engine.inquiry.policy(pool)
        version = engine.intake.apply_policy(pool, policy, actor=session.actor())
    document = {"pool": pool, "version": version, "hash": policy.hash, "changed": version != before}
    said = f"pool {pool}: policy version {version} is in force" + ("" if version != before else ", as it was")
    console.emit(document, as_json=as_json, human=[said])


@app.command(epilog=examples("pipeline policy diff nightly.yaml --pool nightly", "pipeline policy diff --pool nightly --version 1"))
def diff(
    pool: Pool,
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="A policy in YAML to compare with.")] = None,
    version: Version = None,
    database: console.DatabaseName = None,
    as_json: console.Json = False,
) -> None:
    """What `apply FILE` would change, or what has changed since an earlier version."""
    if (file is None) == (version is None):
        raise UsageError("policy diff: expected either a FILE or --version N to compare the policy in force with")
    given = read(file) if file else None
    with session.engine(database, pool=pool) as engine:
        _, in_force = engine.inquiry.policy(pool)
        before, after = (in_force, given) if given else (engine.inquiry.policy(pool, version)[1], in_force)
    changes = _changes(_document(before)["policy"], _document(after)["policy"])
    human = [console.listing(f"Policy of {pool}", changes, none="no difference")]
    console.emit({"pool": pool, "changes": changes}, as_json=as_json, human=human)


def read(file: Path) -> Policy:
    """The policy in a file. Raises UsageError when there is no such text, PolicyRefused when it is no policy."""
    from pipeline_project.core.policy import Policy

    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: expected a YAML file in UTF-8, found {error}") from None
    return Policy.from_yaml(text, str(file))


def _show_reference(*, as_json: bool) -> None:
    from pipeline_project.core import policy_reference
    from pipeline_project.core.policy import Policy

    text = policy_reference.as_markdown(Policy)
    console.emit({"markdown": text}, as_json=as_json, human=[Text(text.rstrip("\n"))])


def _show_defaults(*, as_json: bool) -> None:
    from pipeline_project.core.policy import Policy

    console.emit(_document(Policy()), as_json=as_json, human=[Text(Policy.defaults_yaml().rstrip("\n"))])


def _document(policy: Policy) -> dict[str, Any]:
    return {"policy": policy.model_dump(mode="json"), "hash": policy.hash}


def _yaml(policy: Policy) -> str:
    """A file that `apply` takes back."""
    import yaml

    return yaml.safe_dump(_document(policy)["policy"], sort_keys=False, allow_unicode=True).rstrip("\n")


def _changes(before: Any, after: Any, path: str = "") -> list[dict[str, Any]]:
    """Fields that differ, by their path; a section that is only on one side is one change."""
    if isinstance(before, dict) and isinstance(after, dict):
        names = dict.fromkeys([*before, *after])
        return [change for name in names for change in _changes(before.get(name), after.get(name), f"{path}.{name}".lstrip("."))]
    return [] if before == after else [{"field": path, "before": before, "after": after}]
