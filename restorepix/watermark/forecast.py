"""What a run would do to each photograph and what it would cost, for ``--dry-run``."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from restorepix.detect.repair import Finder
from restorepix.errors import PhotoError
from restorepix.estimate import Estimate, estimate_job
from restorepix.formats import read_photo
from restorepix.masks import FoundMask, limit_detected
from restorepix.options import RestoreOptions
from restorepix.pipeline import read_file, read_mask_file
from restorepix.plan import Job
from restorepix.tiles import plan_windows
from restorepix.watermark.repair import find_marks, list_lost, read_known
from restorepix.watermark.study import Study


def estimate_removal(
    study: Study, finder: Finder | None, job: Job, options: RestoreOptions
) -> Estimate:
    """Return what is going to be done to a photograph, decided as in the run, and its cost.

    Args:
        study: what is known of the folder.
        finder: sees marks on photographs that repeat nothing, or None.
        job: the photograph; it is read, and nothing is written.
        options: how it would be restored.
    """
    estimate = estimate_job(job, options)
    if estimate.problem:
        return estimate
    name = str(job.source.path)
    try:
        data = read_file(job.source.path, PhotoError, "cannot be opened")
        photo = read_photo(data, name, max_mpixels=options.max_mpixels)
        sizes = [(page.height, page.width) for page in photo.pages]
        given = None if job.mask is None else read_mask_file(job.mask)
        known = read_known(photo, given, options)
        found, plans = find_marks(study, finder, photo, known, name)
    except PhotoError as error:
        return replace(estimate, problem=str(error))
    if not options.force:
        found = limit_detected(found, sizes)
    lost = [hole for hole in list_lost(found, plans) if hole is not None]
    windows = [window for hole in lost for window in plan_windows(hole)]
    return replace(
        estimate,
        holes=found.mask.count_holes(),
        hole_pixels=found.mask.hole_pixels,
        windows=len(windows),
        window_pixels=sum(window.box.height * window.box.width for window in windows),
        decision=_describe(found, sum(int(np.count_nonzero(hole)) for hole in lost)),
    )


def _describe(found: FoundMask, lost: int) -> str:
    covered = found.mask.hole_pixels
    reasons = "".join(f"; review: {reason}" for reason in (*found.mask.review, *found.review))
    if not covered:
        return f"nothing would change{reasons}"
    if not lost:
        return f"{covered} pixels would be un-blended{reasons}"
    if lost >= covered:
        return f"{covered} pixels would be repainted{reasons}"
    return f"{covered - lost} pixels would be un-blended, {lost} repainted{reasons}"
