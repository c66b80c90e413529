"""`pipeline audit`: the trail of what happened, sealed, verified and replayed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline_project.cli import console, session
from pipeline_project.cli.arguments import examples
from pipeline_project.core.errors import CheckFailed, UsageError

app = typer.Typer(no_args_is_help=True, help="The audit trail: seal it, verify that nobody changed it, replay it against the present.")

FROM_FILE = "Compare with this file of roots: the copy you keep elsewhere. Default: the installation's own."
ARCHIVE = "Read the files of the months that left the database too, and compare each row with its seal."
SINCE = "Begin after this seal, and trust it: verified before, and its number and chain kept."


@app.command(epilog=examples("pipeline audit seal", "pipeline audit seal --json"))
def seal(database: console.DatabaseName = None, as_json: console.Json = False) -> None:
    """Seal every row whose transaction has ended, and append the roots to their file. The sweep does it too.

    Exit code 4, and nothing sealed, where the file ends with a seal that the database does not have: somebody cut or rewrote the
    chain, or a backup was restored.
    """
    with session.engine(database) as engine, console.working("sealing: rows sealed") as progress:
        sealed = engine.audit.seal(progress)
        standing = engine.audit.status()
    console.emit({**sealed, **standing, "made": sealed["seals"]}, as_json=as_json, human=[console.facts("Sealed", {**sealed, **standing})])


@app.command(
    epilog=examples(
        "pipeline audit verify",
        "pipeline audit verify --from-file elsewhere/work-16402.jsonl",
        "pipeline audit verify --since 4711 --json",
        "pipeline audit verify --archive --replay",
    )
)
def verify(
    from_file: Annotated[Path | None, typer.Option("--from-file", metavar="ROOTS", help=FROM_FILE)] = None,
    since: Annotated[int, typer.Option("--since", metavar="SEAL", min=0, help=SINCE)] = 0,
    archive: Annotated[bool, typer.Option("--archive", help=ARCHIVE)] = False,
    replay: Annotated[bool, typer.Option("--replay", help="Replay the trail too, as `pipeline audit replay` does.")] = False,
    database: console.DatabaseName = None,
    as_json: console.Json = False,
) -> None:
    """Recompute every seal from the rows, and name the first row or seal that was edited, removed or inserted. Reads only.

    Exit code 4 when there is one. Rows that no seal covers yet are counted as `unsealed`: nothing can be said of them.
    """
    began = time.monotonic()
    with session.engine(database) as engine, console.working("verifying: rows verified") as progress:
        found = engine.audit.verify(since=since, roots=from_file, archive=engine.artifacts if archive else None, progress=progress)
        violated = engine.audit.replay() if replay else []
    document = {**found.as_dict(), **({"violated": violated} if replay else {}), "seconds": round(time.monotonic() - began, 3)}
    shown = {name: value for name, value in document.items() if name not in ("first", "violated")}
    human: list[Any] = [console.facts("Audit trail", shown)]
    if found.roots is None:
        human.append("no file of roots was there to compare with: a chain that was rewritten whole would not be noticed")
    elif found.compared < found.seals and not found.first:
        human.append(
            f"the file has {found.compared:,} of these {found.seals:,} seals: of the others a chain rewritten whole would not be noticed"
        )
    if found.first:
        human.append(f"{found.first.fault}: {found.first.message}")
        if found.first.row:
            human.append(console.facts("The row as it is now", found.first.row))
    if violated:
        human.append(console.listing("Replayed otherwise", violated, none=""))
    console.emit(document, as_json=as_json, human=human)
    if found.first or violated:
        raise typer.Exit(CheckFailed.exit_code)


@app.command(epilog=examples("pipeline audit replay", "pipeline audit replay --json"))
def replay(database: console.DatabaseName = None, as_json: console.Json = False) -> None:
    """Replay the trail from its beginning, and compare with the present: states, versions, tokens, cycles, revisions, in_use, spent.

    Exit code 4 where they differ. `pipeline db check` asks the same.
    """
    with session.engine(database) as engine, console.working("replaying"):
        began = time.monotonic()
        violated = engine.audit.replay()
    document = {"replayed": not violated, "violated": violated, "seconds": round(time.monotonic() - began, 3)}
    console.emit(
        document, as_json=as_json, human=[console.listing("Replayed otherwise", violated, none="the trail replays to the present")]
    )
    if violated:
        raise typer.Exit(CheckFailed.exit_code)


@app.command(epilog=examples("pipeline audit export elsewhere/work.jsonl"))
def export(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="File to append the roots to that it does not have yet.")],
    database: console.DatabaseName = None,
    as_json: console.Json = False,
) -> None:
    """Bring a file of roots up to date, such as the copy on another machine. What stands in it is never changed.

    Exit code 4, and nothing written, where its last seal is not one of the database's.
    """
    if path.is_dir():
        raise UsageError(f"audit export: expected a file to append to, found the folder {path}")
    with session.engine(database) as engine:
        exported = engine.audit.export(path)
    console.emit({"exported": exported, "roots": str(path)}, as_json=as_json, human=[f"{exported:,} seals appended to {path}"])
