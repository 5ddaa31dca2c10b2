"""The command line, and the door that dvc.yaml uses (``python -m pipelines stage …``).

Imports nothing heavy until a verb needs it.
"""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from ops.core.errors import UnderstudyError

app = typer.Typer(
    name="understudy", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    help="A private image set in, a judged synthetic stand-in out.",
)  # fmt: skip
WorkspaceOption = Annotated[
    Path, typer.Option("--workspace", "-w", help="Folder of the workspace.", envvar="UNDERSTUDY_WORKSPACE")
]
HERE = Path(".")


@app.callback()
def _options(debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False) -> None:
    if debug:
        os.environ["UNDERSTUDY_DEBUG"] = "1"


@app.command()
def run(
    family: Annotated[
        list[str] | None, typer.Option("--family", "-f", help="Activate and run this family too.")
    ] = None,
    force: Annotated[bool, typer.Option(help="Run stages even where they are current.")] = False,
    workspace: WorkspaceOption = HERE,
) -> None:
    """Run the whole graph through Dagster in this process; exit 0 when every verdict was reached."""
    from pipelines.launching import run_everything

    raise typer.Exit(run_everything(workspace.resolve(), family or [], force))


@app.command()
def stage(
    name: Annotated[str, typer.Argument(help="Stage of dvc.yaml.")],
    family: Annotated[str | None, typer.Option("--family", "-f")] = None,
    workspace: WorkspaceOption = HERE,
) -> None:
    """Run one stage without Dagster: what dvc.yaml calls. DVC commits its outputs, this does not."""
    from ops.core.progress import ConsoleReporter
    from ops.stages import admit
    from pipelines import expectations
    from pipelines.running import Runner

    admit(name, family)
    runner = Runner(workspace.resolve())
    outcome = runner.perform(runner.versioning.node(name, family), ConsoleReporter(prefix="  "), {"door": "dvc"})
    expectations.enforce(outcome.findings)


@app.command()
def new(
    directory: Annotated[Path, typer.Argument(help="Folder to make.")],
    source: Annotated[str, typer.Option(help="Folder, zip, tar, torchvision:NAME or racecars.")],
    preset: Annotated[str, typer.Option(help="Settings to start from (presets/).")] = "demo",
    set_: Annotated[
        list[str] | None, typer.Option("--set", "-S", help="KEY=VALUE over the preset; repeatable.")
    ] = None,
) -> None:
    """Make a workspace for your images."""
    from pipelines.workspaces import create

    create(directory, source, preset, set_ or [])
    typer.echo(f"made {directory}; next: understudy run --workspace {directory}")


@app.command()
def sync(workspace: WorkspaceOption = HERE) -> None:
    """Tell Dagster what dvc.lock holds (after dvc repro, checkout or pull)."""
    from pipelines.syncing import sync_workspace

    reported = sync_workspace(workspace.resolve())
    typer.echo(
        f"reported {len(reported)} assets" + (": " + ", ".join(reported) if reported else "; Dagster and DVC agree")
    )


@app.command()
def status(workspace: WorkspaceOption = HERE) -> None:
    """What is current, what is stale and why, and the verdicts so far."""
    from pipelines.launching import show_status

    show_status(workspace.resolve())


@app.command()
def ui(workspace: WorkspaceOption = HERE, dagster_port: int = 3000, mlflow_port: int = 5000) -> None:
    """Serve Dagster (UI and daemon) and MLflow on 127.0.0.1 until interrupted."""
    from pipelines.serving import serve

    raise typer.Exit(serve(workspace.resolve(), dagster_port, mlflow_port))


BundleArgument = Annotated[Path, typer.Argument(help="Folder of the bundle.")]


@app.command()
def verify(
    bundle: BundleArgument, key: Annotated[Path, typer.Option(help="Public key (PEM) of whoever released it.")]
) -> None:
    """Check every byte of a bundle and its signature; needs no private data. Exit 1 where anything differs."""
    from ops.bundles import seal

    checked = seal.check(bundle, seal.public_key(key))
    for problem in checked.problems:
        typer.echo(f"✗ {problem}")
    if checked.problems:
        raise typer.Exit(1)
    decision, made = checked.predicate["decision"], checked.predicate["provenance"]
    typer.echo(f"✓ {checked.files} files as signed by {seal.fingerprint(seal.public_key(key))} on {made['created']}")
    typer.echo(f"  {decision['images']} images by {decision['family']} · {decision['verdict']}: {decision['because']}")


@app.command()
def unpack(bundle: BundleArgument, folder: Annotated[Path, typer.Argument(help="New folder to fill.")]) -> None:
    """Write a bundle's images as PNG files, a folder a class."""
    from ops.bundles import shards

    typer.echo(f"wrote {shards.unpack(bundle, folder)} images to {folder}")


@app.command()
def trace(
    bundle: BundleArgument,
    image_id: Annotated[str, typer.Argument(help="Name of an image.")],
    workspace: WorkspaceOption = HERE,
) -> None:
    """Where an image of a bundle comes from: seed, model, run, code, data. Only inside the private workspace."""
    from ops.core.files import canonical_json
    from ops.core.paths import Workspace
    from pipelines import releasing

    typer.echo(canonical_json(releasing.trace(Workspace(workspace.resolve()), bundle, image_id)), nl=False)


@app.command()
def recall(subject: str, workspace: WorkspaceOption = HERE) -> None:
    """List and mark every release whose generator was fitted to a subject who withdraws."""
    from ops.core.paths import Workspace
    from pipelines import releasing

    touched = releasing.recall(Workspace(workspace.resolve()), subject)
    for entry in touched:
        typer.echo(f"release {entry['digest']} of {entry['created']} by {entry['family']}: recalled")
    typer.echo(f"{len(touched)} releases touched; withdraw the bundles, remove the subject's images and run again")


@app.command()
def doctor(workspace: WorkspaceOption = HERE) -> None:
    """Say what this machine has and lacks; exit 1 where something needed is missing."""
    from pipelines.doctor import examine

    raise typer.Exit(examine(workspace.resolve()))


def main() -> None:
    """Run the command line: errors in one line, exit 0 done, 1 failed or refused, 2 wrong call."""
    try:
        app()
    except UnderstudyError as error:
        if "UNDERSTUDY_DEBUG" in os.environ:
            raise
        print(f"understudy: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
