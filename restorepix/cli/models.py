"""``restorepix models``: what weights are here, where they are, and how others come here."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from restorepix.cli.common import (
    AsJson,
    Debug,
    LogFile,
    Quiet,
    Talk,
    WeightsRepo,
    build_error,
    report_errors,
)
from restorepix.cli.help import Command
from restorepix.cli.streams import write_line
from restorepix.errors import ExitCode, RestorepixError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from restorepix.options import RestoreOptions
    from restorepix.weights import Model, Progress

app = typer.Typer(no_args_is_help=True, help="List, fetch, check and remove weights of networks.")

Names = Annotated[list[str] | None, typer.Argument(metavar="NAME", help="Models, as in the list.")]
All = Annotated[bool, typer.Option("--all", help="Every model but the laboratory's.")]

UNPUBLISHED = (
    "Nothing is published yet: no Hub repository is set. What is bundled works as it is; for the "
    "rest set RESTOREPIX_WEIGHTS_REPO=OWNER/NAME, or use models pull --from DIR."
)


@app.command("list", cls=Command)
def list_command(
    as_json: AsJson = False,
    weights_repo: WeightsRepo = None,
    log_file: LogFile = None,
    debug: Debug = False,
) -> None:
    """List every model that this version knows, where its weights are, and methods without."""
    with report_errors(debug):
        from restorepix.models.lab.catalogue import LAB_MODELS, METHODS
        from restorepix.weights import find_own_cache, list_laboratory, list_models

        talk = Talk(quiet=False, as_json=as_json)
        models = list((list_models() | list_laboratory()).values())
        records = [_describe(model, weights_repo) for model in models]
        records += [_describe_method(name) for name in METHODS]
        if as_json:
            for record in records:
                talk.emit(record)
            here = sum(record["state"] != "missing" for record in records)
            talk.emit({"summary": {"models": len(records), "here": here}})
            return
        rows = [("NAME", "STATE", "SIZE", "KIND", "SHA-256", "WHERE")]
        for record in records:
            weightless = record["state"] == "built-in"
            where = record["path"] or record["repo"] or "nowhere yet"
            rows.append(
                (
                    record["model"],
                    record["state"],
                    "-" if weightless else f"{record['size'] / 1e6:.1f} MB",
                    record["kind"],
                    "-" if weightless else record["sha256"][:12],
                    f"needs no weights ({METHODS[record['model']]})" if weightless else where,
                )
            )
        widths = [max(len(row[column]) for row in rows) for column in range(5)]
        for row in rows:
            cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
            write_line("  ".join([*cells, row[5]]))
        if not any(record["repo"] for record in records):
            talk.say(UNPUBLISHED)
        if untrained := [name for name in LAB_MODELS if name not in list_laboratory()]:
            talk.say(
                f"no weights yet: {', '.join(untrained)} (fix --model NAME says how to train them)"
            )
        talk.say(f"cache of models pull --from: {find_own_cache()}", detail=True)


@app.command(cls=Command)
def pull(
    names: Names = None,
    all_: All = False,
    from_: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="DIR",
            help="Copy them from a folder (a USB stick, a copied Hub cache) instead of fetching.",
        ),
    ] = None,
    weights_repo: WeightsRepo = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    log_file: LogFile = None,
    debug: Debug = False,
) -> None:
    """Fetch weights into the cache now, so that later runs need no network.

    [bold]Examples[/bold]

      restorepix models pull --all

      restorepix models pull inpaint --from /media/stick [dim]# without a network[/dim]

    A download that was interrupted goes on where it stopped. Every file is checked against the
    SHA-256 that this version pins. What is here and sound is left alone.
    """
    with report_errors(debug):
        talk = Talk(quiet=quiet, as_json=as_json)
        if from_ is not None and not from_.is_dir():
            raise UsageError(f"--from {from_}: expected a folder.")

        def act(model: Model) -> dict[str, Any]:
            return _pull_one(model, from_, weights_repo, talk)

        raise typer.Exit(_for_each(_choose(names, all_), act, talk))


@app.command(cls=Command)
def verify(
    names: Names = None,
    weights_repo: WeightsRepo = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    log_file: LogFile = None,
    debug: Debug = False,
) -> None:
    """Check the weights that are here: pinned content, sound headers, known architectures.

    Without names every model that is here is checked; one that is named has to be here.
    """
    with report_errors(debug):
        talk = Talk(quiet=quiet, as_json=as_json)

        def act(model: Model) -> dict[str, Any]:
            from restorepix.errors import MissingWeightsError
            from restorepix.weights import check_model, locate_model

            place = locate_model(model, weights_repo)
            if place is None:
                if names:
                    raise MissingWeightsError(
                        f"{model.name}: its weights are not on this machine. Fetch them with "
                        f"restorepix models pull {model.name}."
                    )
                return {"status": "missing", "path": None}
            check_model(model, place)
            return {"status": "sound", "path": str(place.path)}

        raise typer.Exit(_for_each(_choose(names, not names), act, talk))


@app.command(cls=Command)
def path(
    name: Annotated[str, typer.Argument(help="A model, as in the list.")],
    weights_repo: WeightsRepo = None,
    log_file: LogFile = None,
    debug: Debug = False,
) -> None:
    """Print where a model's file is; exit code 4 when it is not on this machine."""
    with report_errors(debug):
        from restorepix.errors import MissingWeightsError
        from restorepix.weights import find_model, locate_model

        place = locate_model(find_model(name), weights_repo)
        if place is None:
            raise MissingWeightsError(
                f"{name}: its weights are not on this machine. Fetch them with restorepix models "
                f"pull {name}."
            )
        write_line(str(place.path))


@app.command(cls=Command)
def remove(
    names: Names = None,
    all_: All = False,
    weights_repo: WeightsRepo = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    log_file: LogFile = None,
    debug: Debug = False,
) -> None:
    """Remove weights from the cache. What is bundled with the package stays."""
    with report_errors(debug):
        talk = Talk(quiet=quiet, as_json=as_json)

        def act(model: Model) -> dict[str, Any]:
            from restorepix.weights import locate_model, remove_model

            removed = [str(path) for path in remove_model(model, weights_repo)]
            place = locate_model(model, weights_repo)
            left = str(place.path) if place is not None else None
            status = "removed" if removed else "bundled" if left else "missing"
            return {"status": status, "path": left, "removed": removed}

        raise typer.Exit(_for_each(_choose(names, all_), act, talk))


def _choose(names: Sequence[str] | None, all_: bool) -> list[Model]:
    from restorepix.weights import find_model, list_models

    if bool(names) == all_:
        raise UsageError("expected names of models or --all (restorepix models list has them).")
    return list(list_models().values()) if all_ else [find_model(name) for name in names or ()]


def _for_each(
    models: Sequence[Model], act: Callable[[Model], dict[str, Any]], talk: Talk
) -> ExitCode:
    """Do something with every model, whatever happens to the others; return the exit code."""
    code = ExitCode.OK
    for model in models:
        try:
            outcome = act(model)
        except UsageError:
            raise
        except RestorepixError as error:
            code = max(code, error.exit_code)
            talk.console.print(build_error(str(error)), soft_wrap=True)
            outcome = {
                "status": "failed",
                "path": None,
                "error": {"code": error.code, "message": str(error)},
            }
        else:
            where = outcome["path"] or ", ".join(outcome.get("removed", ()))
            talk.say(f"{model.name}: {outcome['status']}{f' ({where})' if where else ''}")
        talk.emit({"model": model.name, **outcome})
    talk.emit({"summary": {"models": len(models), "exit_code": int(code)}})
    return code


def _describe(model: Model, weights_repo: str | None) -> dict[str, Any]:
    from restorepix.weights import choose_repo, locate_model

    place = locate_model(model, weights_repo)
    repo = choose_repo(model, weights_repo)
    return {
        "model": model.name,
        "state": "missing" if place is None else place.kind,
        "path": None if place is None else str(place.path),
        "kind": model.kind,
        "architecture": model.architecture,
        "size": model.size,
        "sha256": model.sha256,
        "repo": None if repo is None else repo.name,
        "revision": None if repo is None else repo.revision,
    }


def _describe_method(name: str) -> dict[str, Any]:
    from restorepix.weights import describe_method

    return {
        "model": name,
        "state": "built-in",
        "path": None,
        "kind": "inpainter",
        "architecture": "method",
        "size": 0,
        "sha256": describe_method(name).sha256,
        "repo": None,
        "revision": None,
    }


def _pull_one(
    model: Model, folder: Path | None, weights_repo: str | None, talk: Talk
) -> dict[str, Any]:
    from restorepix.errors import ChecksumError
    from restorepix.weights import (
        check_model,
        fetch_model,
        import_model,
        locate_model,
        remove_model,
    )

    place = locate_model(model, weights_repo)
    if place is not None:
        try:
            check_model(model, place)
        except ChecksumError as error:
            talk.say(build_error(str(error).partition(". ")[0] + ": fetching it again"))
            remove_model(model, weights_repo)
        else:
            return {"status": place.kind, "path": str(place.path)}
    if folder is not None:
        place, status = import_model(model, folder), "copied"
    else:
        with show_download(talk) as progress:
            place = fetch_model(model, repo=weights_repo, progress=progress)
        status = "fetched"
    check_model(model, place)
    return {"status": status, "path": str(place.path)}


@contextmanager
def show_download(talk: Talk) -> Generator[Progress]:
    """Show a bar on a terminal while a model is fetched; one line elsewhere."""
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    console: Console = talk.console
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    hidden = talk.quiet or not console.is_terminal
    told: set[str] = set()
    with Progress(*columns, console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task("", total=None)

        def tell(name: str, done: int, total: int) -> None:
            if name not in told:
                told.add(name)
                talk.say(f"fetching {name} ({total / 1e6:.1f} MB)")
            bar.update(task, description=name, completed=done, total=total)

        yield tell


def fetch_missing(
    options: RestoreOptions, talk: Talk, *, models: Sequence[str] = ("inpaint",)
) -> None:
    """Fetch, with a bar, the models of the manifest that a run needs and that are not here.

    Args:
        options: ``weights``, when given, stands for the model "inpaint"; ``download`` and
            ``weights_repo`` say whether and from where.
        talk: where to show it.
        models: names in the manifest; others are passed over.

    Raises:
        WeightsError: one is missing and cannot or may not be fetched.
        UsageError: what names the repository is none.
    """
    from restorepix.weights import (
        DEFAULT_MODEL,
        fetch_model,
        list_laboratory,
        list_models,
        locate_model,
    )

    known = list_models() | list_laboratory()
    for name in models:
        if name == DEFAULT_MODEL and options.weights is not None:
            if options.weights.exists():
                continue
            name = str(options.weights)
        model = known.get(name)
        if model is None or locate_model(model, options.weights_repo) is not None:
            continue
        with show_download(talk) as progress:
            fetch_model(
                model, download=options.download, repo=options.weights_repo, progress=progress
            )
