"""``restorepix doctor``: is everything there that a run needs."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from restorepix.cli.common import AsJson, Debug, LogFile, Talk, report_errors
from restorepix.cli.streams import write_line
from restorepix.errors import ExitCode

if TYPE_CHECKING:
    from restorepix.doctor import Check

_MARKS = {"ok": "ok     ", "note": "note   ", "problem": "PROBLEM"}


def doctor(
    online: Annotated[
        bool, typer.Option("--online", help="Ask the Hugging Face Hub for an answer too.")
    ] = False,
    as_json: AsJson = False,
    log_file: LogFile = None,
    debug: Debug = False,
) -> None:
    """Check versions, devices, weights, caches and permissions, and say how to cure what is wrong.

    [bold]Examples[/bold]

      restorepix doctor

      restorepix doctor --online --json > doctor.json [dim]# to add to a report of a fault[/dim]

    Nothing connects to a network without --online. The exit code is 0 when nothing is wrong, 4
    when weights or a device cannot be used, 1 for any other problem.
    """
    with report_errors(debug):
        from restorepix.doctor import examine

        talk = Talk(quiet=False, as_json=as_json)
        checks: list[Check] = []
        for check in examine(online=online):
            checks.append(check)
            if as_json:
                talk.emit(asdict(check))
            else:
                _print_check(check)
        problems = [check for check in checks if check.state == "problem"]
        code = ExitCode.OK
        if problems:
            is_unavailable = any(check.topic in ("weights", "device") for check in problems)
            code = ExitCode.UNAVAILABLE if is_unavailable else ExitCode.SOME_FAILED
        counts = {"checks": len(checks), "problems": len(problems), "exit_code": int(code)}
        talk.emit({"summary": counts})
        talk.say(f"{len(checks)} checks, {len(problems)} problems")
        raise typer.Exit(code)


def _print_check(check: Check) -> None:
    from restorepix.report import show_name

    write_line(show_name(f"{_MARKS[check.state]}  {check.name:<24}{check.found}"))
    if check.cure:
        write_line(show_name(f"{'':<9}{'cure':<24}{check.cure}"))
