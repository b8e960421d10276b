"""Carry out a plan on a Ray cluster: Ray Data deals out jobs, restorers do them, results come back.

What is dealt out are numbers of jobs; pixels stay in the process that has a photograph in hand, or
go to a painter and back. So memory depends on the number of restorers, and a node that is lost
takes along only what it had in hand, which others begin again. What is known of outputs is in the
books, which one process keeps on the machine where the run was started.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import math
import pickle
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import Any, Final

from restorepix.cluster.actors import (
    BookKeeper,
    Painter,
    Restorer,
    Terms,
    find_sample,
    has_relative_paths,
    list_run_folders,
)
from restorepix.cluster.ray import connect
from restorepix.engine.run import GRACE_S, InterruptedRunError
from restorepix.engine.worker import Build, WorkerFaultError
from restorepix.errors import ClusterError, RestorepixError, UsageError
from restorepix.options import ClusterOptions, RestoreOptions
from restorepix.pipeline import build_repair
from restorepix.plan import Job, Plan
from restorepix.report import Result

MOST_TASKS: Final = 20_000
"""A task has more than one photograph from here on, so that Ray's own books stay small. A guess."""
_KEEPER_THREADS: Final = 64
_PAINTER_THREADS: Final = 16
"""Photographs whose windows share calls of one network. A guess."""
_CLOSE_S: Final = 600.0
"""Seconds for the books to be closed: in a store, a journal of gigabytes is sent once more."""


def run_on_ray(
    plan: Plan,
    options: RestoreOptions,
    cluster: ClusterOptions,
    weights_sha256: str,
    *,
    build: Build = build_repair,
    debug: bool = False,
    on_interrupt: Callable[[int], None] | None = None,
) -> Iterator[tuple[Job, Result]]:
    """Restore every job of a plan on a cluster; see :func:`restorepix.engine.run_plan`.

    Args:
        plan: what to do.
        options: how; ``jobs`` restorers, by default one for each core of the cluster.
        cluster: which one.
        weights_sha256: of the weights here, which every node must have.
        build: makes the repair: a function of a module that every node has.
        debug: tell of faults of ours with their traceback.
        on_interrupt: is told at Ctrl-C how many photographs may be in hand.

    Yields:
        Jobs with their results as they finish, in no particular order.

    Raises:
        ClusterError: the cluster cannot be reached, or its nodes cannot do this; or it was lost,
            and what is not done is left to the next run.
        InterruptedRunError: at Ctrl-C, after the results that could be waited for.
        PlanError: another run is writing into an output folder, or it may not be written.
        UsageError: Ray is not installed, or the options are for one machine only.
    """
    if options.compile:
        raise UsageError("--engine ray: not with --compile, of which a cluster's nodes would not "
                         "say whether they can.")  # fmt: skip
    if (
        options.in_place
        or len(options.devices) > 1
        or options.device == "mps"
        or (options.device.startswith("cuda:"))
    ):
        raise UsageError(
            "--engine ray: not with --in-place, and --device is auto, cpu or cuda there; Ray "
            "itself shares out GPUs."
        )
    if not plan.jobs:
        return
    with connect(cluster.address) as ray:
        run = _Run(ray, plan, options, cluster, debug=debug)
        with run.open_books() as owner:
            yield from run.carry_out(build, weights_sha256, owner, on_interrupt)


class _Run:
    def __init__(
        self,
        ray: Any,
        plan: Plan,
        options: RestoreOptions,
        cluster: ClusterOptions,
        *,
        debug: bool,
    ) -> None:
        self._ray, self._plan, self._options = ray, plan, options
        self._cluster, self._debug = cluster, debug
        resources: dict[str, float] = ray.cluster_resources()
        self._cores = max(1, int(resources.get("CPU", 0)))
        self._gpus = resources.get("GPU", 0.0)
        self._jobs = min(options.jobs or self._cores, len(plan.jobs))
        self._keeper: Any = None

    @contextlib.contextmanager
    def open_books(self) -> Generator[int]:
        """Open the books on this machine; yield the process id that their locks name."""
        ray = self._ray
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=False
        )
        hire = ray.remote(BookKeeper).options(
            num_cpus=0, max_concurrency=_KEEPER_THREADS, scheduling_strategy=here
        )
        self._keeper = hire.remote()
        folder = str(Path.cwd())
        owner = self._ask(self._keeper.open.remote(self._plan.jobs, self._options, folder))
        try:
            yield owner
        finally:
            with contextlib.suppress(ray.exceptions.RayError):
                ray.get(self._keeper.close.remote(), timeout=_CLOSE_S)
            ray.kill(self._keeper)

    def carry_out(
        self,
        build: Build,
        weights_sha256: str,
        owner: int,
        on_interrupt: Callable[[int], None] | None,
    ) -> Iterator[tuple[Job, Result]]:
        """Yield results as they come."""
        results: Queue[tuple[int, tuple[str, Any]] | BaseException | None] = Queue()
        painters = self._hire_painters(build)
        device = "cpu" if painters else self._options.device
        terms = Terms(
            build,
            replace(self._options, device=device, jobs=1, threads=self._options.threads or 1),
            weights_sha256,
            Path.cwd() if has_relative_paths(self._plan.jobs, self._options) else None,
            find_sample(self._plan.jobs),
            list_run_folders(self._plan.jobs),
            owner,
            self._debug,
        )
        rows = self._deal(painters, terms)
        Thread(target=_collect, args=(rows, results), name="results", daemon=True).start()
        yielded: set[int] = set()
        deadline = math.inf
        while True:
            try:
                left = deadline - time.monotonic()
                item = results.get(timeout=None if left == math.inf else max(0.0, left))
            except Empty:
                raise InterruptedRunError(is_busy=True) from None
            except KeyboardInterrupt as error:
                if deadline < math.inf:
                    raise InterruptedRunError(is_busy=True) from error
                deadline = time.monotonic() + GRACE_S
                self._keeper.stop.remote()
                if on_interrupt is not None:
                    on_interrupt(self._jobs)
                continue
            if item is None:
                break
            if isinstance(item, BaseException):
                raise self._explain(item) from item
            index, (word, content) = item
            match word:
                case "result":
                    if index not in yielded:  # a block that was lost comes again
                        yielded.add(index)
                        self._keeper.forget.remote(index)
                        yield self._plan.jobs[index], content
                case "refused":
                    raise content
                case "fault":
                    raise WorkerFaultError(content)
                case _:
                    pass  # stopped
        if deadline < math.inf:
            raise InterruptedRunError(is_busy=False)

    def _deal(self, painters: list[Any], terms: Terms) -> Iterator[dict[str, Any]]:
        """Return the rows that come back, a stream that Ray Data holds back when we are slow."""
        data: Any = importlib.import_module("ray.data")
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        context = data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        count = len(self._plan.jobs)
        rows = data.range(count, override_num_blocks=min(count, MOST_TASKS)).map(
            Restorer,
            fn_constructor_args=(self._keeper, painters, terms),
            compute=data.ActorPoolStrategy(size=self._jobs),
            num_cpus=min(1.0, self._cores / self._jobs),
        )
        return rows.iter_rows()

    def _hire_painters(self, build: Build) -> list[Any]:
        """Return processes with a share of a GPU each, or none where a CPU is to repaint."""
        options, share = self._options, self._cluster.gpu_share
        wants_gpu = options.device == "cuda" or (options.device == "auto" and self._gpus > 0)
        if self._cluster.painters is not None:
            count, needs = self._cluster.painters, {"num_cpus": 0}
        elif not wants_gpu:
            return []
        else:
            # Shares of one GPU: a painter never has parts of two.
            count, needs = int(self._gpus) * int(1 / share), {"num_gpus": share, "num_cpus": 0}
        if count < 1:
            raise ClusterError(
                "--device cuda: the cluster has no GPU that Ray knows of. See ray status, or pass "
                "--device auto."
            )
        device = "cuda:0" if "num_gpus" in needs else "cpu"  # Ray shows each its own GPU alone
        hire = self._ray.remote(Painter).options(
            **needs, max_restarts=-1, max_task_retries=-1, max_concurrency=_PAINTER_THREADS
        )
        return [hire.remote(build, replace(options, device=device)) for _ in range(count)]

    def _ask(self, answer: Any) -> Any:
        """Return what an actor of ours answers, or raise the error that it met."""
        try:
            return self._ray.get(answer)
        except self._ray.exceptions.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, RestorepixError):
                raise cause from None
            raise
        except self._ray.exceptions.RayError as error:
            raise self._explain(error) from error

    def _explain(self, error: BaseException) -> BaseException:
        """Return the error to raise for one that Ray met."""
        cause = getattr(error, "cause", None)
        if isinstance(cause, RestorepixError):
            return cause
        if isinstance(error, self._ray.exceptions.RayError):
            line = (str(error).strip().splitlines() or [""])[0]
            return ClusterError(
                f"The cluster was lost ({type(error).__name__}: {line}). What is done is in the "
                "journal: run the same command again to go on."
            )
        return error


def _collect(
    rows: Iterator[dict[str, Any]],
    results: Queue[tuple[int, tuple[str, Any]] | BaseException | None],
) -> None:
    """Hand over rows in a thread of its own, so that waiting for them can be interrupted."""
    try:
        for row in rows:
            results.put((int(row["id"]), pickle.loads(row["answer"])))
    except BaseException as error:  # noqa: BLE001 - raised again by who waits
        results.put(error)
    results.put(None)
