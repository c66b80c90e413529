"""`pipeline policy`: what a pool's policy may say, and whether a file says it right."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from pipeline_project.cli import console
from pipeline_project.core import policy_reference
from pipeline_project.core.errors import UsageError
from pipeline_project.core.policy import Policy, PolicyRefused

app = typer.Typer(no_args_is_help=True, help="The policy of a pool: what is worth more, for how long, how hard to search.")


@app.command()
def lint(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A policy in YAML.")],
    as_json: console.Json = False,
) -> None:
    """Name every error of a policy file at once. Exit code 5 when there is one."""
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


@app.command()
def show(
    *,
    defaults: Annotated[bool, typer.Option("--defaults", help="A policy file with every default and what it means.")] = False,
    reference: Annotated[bool, typer.Option("--reference", help="The reference page docs/policy.md.")] = False,
    as_json: console.Json = False,
) -> None:
    """Print a policy."""
    if reference:
        text = policy_reference.as_markdown(Policy)
        console.emit({"markdown": text}, as_json=as_json, human=[Text(text.rstrip("\n"))])
    elif defaults:
        policy = Policy()
        document = {"policy": policy.model_dump(mode="json"), "hash": policy.hash}
        console.emit(document, as_json=as_json, human=[Text(Policy.defaults_yaml().rstrip("\n"))])
    else:
        raise UsageError("policy show: expected --defaults or --reference")


def read(file: Path) -> Policy:
    """The policy in a file. Raises UsageError when there is no such text, PolicyRefused when it is no policy."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: expected a YAML file in UTF-8, found {error}") from None
    return Policy.from_yaml(text, str(file))
