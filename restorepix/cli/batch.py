"""A plan carried out for people: what the commands that restore files say and print meanwhile."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer

from restorepix.cli.common import STDIO, Talk, build_error, get_settings, say_interrupted
from restorepix.cli.settings import refuse_among_pictures
from restorepix.cli.streams import is_stdout_terminal, write_line
from restorepix.errors import ExitCode, RestorepixError, UsageError
from restorepix.options import ClusterOptions, RestoreOptions
from restorepix.stores.place import is_remote

if TYPE_CHECKING:
    from rich.text import Text

    from restorepix.engine.worker import Build
    from restorepix.estimate import Estimate
    from restorepix.pipeline import Repair
    from restorepix.plan import Job, Plan
    from restorepix.report import Result


def collect_paths(names: Sequence[str], files_from: str | None, null: bool) -> list[Path]:
    """Return the inputs that arguments and ``--files-from`` name.

    Args:
        names: the arguments.
        files_from: a file with more names, ``-`` for stdin, or None.
        null: whether NUL parts those names, not line ends.

    Raises:
        UsageError: there is none, the list cannot be read, or ``null`` has no list.
    """
    from restorepix.inputs import read_file_list

    if null and files_from is None:
        raise UsageError("-0 says how --files-from is separated: pass --files-from too.")
    paths = [Path(name) for name in names]
    if files_from is not None:
        paths += read_file_list(files_from, null_separated=null)
    elif not paths:
        raise UsageError("no inputs: name pictures or folders, or pass --files-from.")
    refuse_among_pictures(get_settings(), paths)
    return paths


def check_page(page: Path | None, places: Iterable[Path | None]) -> None:
    """Refuse, before any work, a page of ``--report`` that could not be written.

    Args:
        page: the page, or None.
        places: inputs, masks and outputs, as far as they are named.

    Raises:
        UsageError: one of the places is in a store, or something else has the page's name.
    """
    if page is None:
        return
    if any(is_remote(place) for place in places):
        raise UsageError("--report shows files of this machine, not of a store.")
    from restorepix.gallery.page import check_place

    check_place(page)


def check_pipe(output: Path | None) -> None:
    """Refuse, before any work, a picture on stdin that cannot come in or go out.

    Args:
        output: ``-o``, if any.

    Raises:
        UsageError: the output is not stdout, or one of the two is a terminal.
    """
    if output is not None and str(output) != STDIO:
        raise UsageError(f"-o {output}: what is made of a picture on stdin goes to stdout.")
    if sys.stdin.isatty():
        raise UsageError("-: expected a picture on stdin, found a terminal.")
    if is_stdout_terminal():
        raise UsageError("-: the picture would be written to a terminal. Redirect stdout.")


def say_ignored(plan: Plan, talk: Talk) -> None:
    """Say how many files are passed over, and name those that claim to be pictures."""
    from rich.text import Text

    from restorepix.inputs import PICTURE_SUFFIXES, is_broken_link
    from restorepix.report import show_name

    if plan.masks:
        talk.say(f"masks among the pictures, not restored: {len(plan.masks)}")
    if plan.copies:
        talk.say(f"restored copies beside their originals, left out: {len(plan.copies)}")
    if plan.ignored:
        talk.say(f"files that are no pictures, passed over: {len(plan.ignored)}")
    for path in plan.ignored:
        claims = path.suffix.lower() in PICTURE_SUFFIXES
        what = "it leads nowhere" if is_broken_link(path) else "its content is none"
        note = f" (named like a picture, but {what})" if claims else ""
        talk.say(Text(f"  {show_name(str(path))}{note}"), detail=not claims)


def print_plan(
    plan: Plan,
    talk: Talk,
    options: RestoreOptions | None = None,
    judge: Callable[[Job, RestoreOptions], Estimate] | None = None,
) -> None:
    """Print what would be done, to stdout: one line a photograph, what it costs at the end.

    Args:
        plan: what would be done.
        talk: where to print.
        options: how it would be done; None to leave the costs out.
        judge: says what a photograph is going to cost, in place of
            :func:`restorepix.estimate.estimate_job`.
    """
    from restorepix.estimate import estimate_job
    from restorepix.report import count_noun, show_name
    from restorepix.write import is_taken

    estimates: list[Estimate] = []
    judge = judge or estimate_job
    for job in plan.jobs:
        exists = job.backup is None and is_taken(job.output)
        estimate = None if options is None else judge(job, options)
        if estimate is not None:
            estimates.append(estimate)
        if talk.as_json:
            record: dict[str, object] = {
                "input": str(job.source.path),
                "output": str(job.output),
                "mask": None if job.mask is None else str(job.mask),
                "mask_reason": _explain_mask(job),
                "backup": None if job.backup is None else str(job.backup),
                "output_exists": exists,
            }
            if estimate is not None:
                record |= {
                    "holes": estimate.holes,
                    "hole_pixels": estimate.hole_pixels,
                    "windows": estimate.windows,
                    "memory_bytes": estimate.memory_bytes,
                    "problem": estimate.problem or None,
                }
                if estimate.decision:
                    record["decision"] = estimate.decision
            talk.emit(record)
            continue
        reason = _explain_mask(job)
        notes = [reason if job.mask is None else f"mask {job.mask}, {reason}"]
        if job.mask is None and estimate is not None and (estimate.decision or estimate.problem):
            notes = []
        if job.backup is not None:
            notes.append(f"original to {job.backup}")
        if exists:
            notes.append("output exists")
        if estimate is not None and estimate.problem:
            notes.append(f"will fail: {estimate.problem.rstrip('.')}")
        elif estimate is not None and estimate.windows is not None:
            holes = count_noun(estimate.holes or 0, "hole")
            notes.append(f"{holes}, {count_noun(estimate.windows, 'window')}")
        if estimate is not None and estimate.decision:
            notes.append(estimate.decision)
        write_line(show_name(f"{job.source.path} -> {job.output}  ({'; '.join(notes)})"))
    if options is not None and estimates:
        _print_costs(estimates, options, talk)
    failing = sum(bool(estimate.problem) for estimate in estimates)
    count = count_noun(len(plan.jobs), "photograph") + (f", {failing} will fail" if failing else "")
    talk.say(f"{count}; nothing was written")


def _explain_mask(job: Job) -> str:
    """Say why a photograph has the mask that it has, or why it has none."""
    if job.mask is None:
        return job.mask_problem or "damage is looked for"
    name, mask = job.source.relative.name, job.mask.name
    if mask == f"{name}.png":
        return "named after the file"
    if job.mask.stem == job.source.relative.stem:
        return "of the same name"
    if job.mask.stem == f"{job.source.relative.stem}_mask":
        return "of the same name with _mask"
    return "one for all"


def _print_costs(estimates: Sequence[Estimate], options: RestoreOptions, talk: Talk) -> None:
    """Time the network and print what the run is going to take."""
    from dataclasses import replace

    from restorepix.engine.run import share_cores
    from restorepix.estimate import estimate_run, time_window
    from restorepix.pipeline import load_network
    from restorepix.report import count_noun

    jobs = share_cores(options, len(estimates)).jobs or 1
    windows = sum(estimate.windows or 0 for estimate in estimates)
    try:
        network = load_network(replace(options, download=False))
        speed = time_window(network.inpainter) if windows else 0.0
    except RestorepixError as error:
        if talk.as_json:
            talk.emit({"plan": {"photographs": len(estimates), "problem": str(error)}})
        talk.console.print(build_error(f"this run could not begin: {error}"), soft_wrap=True)
        return
    seconds, memory = estimate_run(estimates, speed, jobs)
    unknown = sum(estimate.windows is None and not estimate.problem for estimate in estimates)
    failing = sum(bool(estimate.problem) for estimate in estimates)
    talk.emit(
        {
            "plan": {
                "photographs": len(estimates),
                "windows": windows,
                "without_windows": unknown,
                "failing": failing,
                "device": network.device,
                "jobs": jobs,
                "seconds": round(seconds, 1),
                "memory_bytes": memory,
                "problem": None,
            }
        }
    )
    unfound = f", and the holes of {count_noun(unknown, 'photograph')}, yet to be found"
    more = unfound if unknown else ""
    talk.say(
        f"{count_noun(windows, 'window')} on {network.device}, "
        f"{count_noun(jobs, 'photograph')} at a time: about "
        f"{_show_time(seconds)} and {memory / 2**20:.0f} MiB{more}"
    )


def _show_time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def run_plan(
    plan: Plan,
    options: RestoreOptions,
    repair: Repair,
    talk: Talk,
    *,
    debug: bool,
    build: Build | None = None,
    page: Path | None = None,
    cluster: ClusterOptions | None = None,
) -> ExitCode:
    """Carry out a plan, telling of each result as it comes; return the exit code.

    Args:
        plan: what to do.
        options: how.
        repair: what finds and repaints holes.
        talk: where to print.
        debug: stop at a fault of ours.
        build: makes the same repair in worker processes, a function of a module; None for
            :func:`restorepix.pipeline.build_repair`.
        page: where to write the page of ``--report``, if anywhere.
        cluster: where to run, if not on this machine.

    Raises:
        typer.Exit: interrupted, after the summary of what was done until then.
        WriteError: the page cannot be written; everything else is done.
    """
    from restorepix import engine
    from restorepix.cli.progress import show_progress
    from restorepix.pipeline import build_repair
    from restorepix.report import render_result

    begin = time.perf_counter()
    finished: dict[Job, Result] = {}

    def list_results() -> list[Result]:
        return [finished[job] for job in plan.jobs if job in finished]

    try:
        with show_progress(talk, len(plan.jobs)) as advance:
            run = _begin(
                plan,
                options,
                repair,
                cluster,
                build=build or build_repair,
                debug=debug,
                on_interrupt=lambda count: _say_finishing(count, talk),
            )
            for job, result in run:
                finished[job] = result
                talk.emit(result.to_record())
                talk.say(render_result(result))
                talk.say(_describe_details(result, job.mask), detail=True)
                advance()
    except BrokenPipeError:
        left = len(plan.jobs) - len(finished)
        talk.say(f"stdout was closed by its reader: {left} of {len(plan.jobs)} not done.")
        leave_at_once(ExitCode.INTERRUPTED)  # threads at work would not survive Python's own end
    except KeyboardInterrupt as error:
        seconds = time.perf_counter() - begin
        finish_run(list_results(), seconds, talk, code=ExitCode.INTERRUPTED)
        left = f"{len(plan.jobs) - len(finished)} of {len(plan.jobs)} not done"
        say_interrupted(f"{left}. Run the same command again to go on.")
        if isinstance(error, engine.InterruptedRunError) and error.is_busy:
            leave_at_once(ExitCode.INTERRUPTED)
        raise typer.Exit(ExitCode.INTERRUPTED) from error
    results = list_results()
    code = finish_run(results, time.perf_counter() - begin, talk)
    if page is not None:
        _save_page(plan, results, page, options, talk)
    return code


def _begin(
    plan: Plan,
    options: RestoreOptions,
    repair: Repair,
    cluster: ClusterOptions | None,
    *,
    build: Build,
    debug: bool,
    on_interrupt: Callable[[int], None],
) -> Iterator[tuple[Job, Result]]:
    """Return the results of a run on this machine or on a cluster."""
    if cluster is None:
        from restorepix import engine

        return engine.run_plan(
            plan, options, repair, build=build, debug=debug, on_interrupt=on_interrupt
        )
    from restorepix.cluster import run_on_ray

    return run_on_ray(
        plan,
        options,
        cluster,
        repair.weights_sha256,
        build=build,
        debug=debug,
        on_interrupt=on_interrupt,
    )


def _say_finishing(count: int, talk: Talk) -> None:
    from restorepix.engine.run import GRACE_S

    talk.console.print(
        f"interrupted: finishing what is in hand ({count}), for at most {GRACE_S:g} s. "
        "Press Ctrl-C again to leave at once.",
        soft_wrap=True,
    )


def leave_at_once(code: ExitCode) -> NoReturn:
    """End the process while threads are still at work, without their temporary files."""
    from restorepix.write import remove_temporaries

    remove_temporaries()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _save_page(
    plan: Plan, results: Sequence[Result], page: Path, options: RestoreOptions, talk: Talk
) -> None:
    from rich.text import Text

    from restorepix.cli.report import save_page
    from restorepix.gallery.entries import collect_entries
    from restorepix.gallery.page import title_jobs
    from restorepix.report import show_name

    entries = collect_entries(plan.jobs, results, options.dilate)
    save_page(entries, page, title_jobs(plan.jobs), talk, options.max_mpixels)
    talk.say(Text(f"report: {show_name(str(page))}"))


def finish_run(
    results: Sequence[Result], seconds: float, talk: Talk, *, code: ExitCode | None = None
) -> ExitCode:
    """Print the failures and the summary; return the exit code.

    Args:
        results: what became of the inputs that were come to.
        seconds: wall time of the run.
        talk: where to print.
        code: the exit code of a run that did not end by itself; None to choose by the results.
    """
    from restorepix.report import build_summary, choose_exit_code, render_failure, render_summary

    if code is None:
        code = choose_exit_code(results, fail_on_review=talk.fail_on_review)
    talk.emit(build_summary(results, seconds, code))
    failed = [result for result in results if result.error is not None]
    if failed:
        talk.console.print("failed:", style="bold red")
        for result in failed:
            talk.console.print(render_failure(result), soft_wrap=True)
    if results or code != ExitCode.INTERRUPTED:
        talk.say(render_summary(results, seconds))
    return code


def _describe_details(result: Result, mask: Path | None) -> Text:
    from rich.text import Text

    from restorepix.report import show_name

    parts = [f"mask {show_name(str(mask))}"] if mask is not None else []
    parts += [f"{stage} {spent:.2f} s" for stage, spent in result.seconds.items()]
    return Text(f"           {', '.join(parts)}", "dim")
