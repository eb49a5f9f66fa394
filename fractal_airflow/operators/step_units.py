"""The units of a step with what became of them, gathered from the XComs of its tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fractal_airflow.dataset import NO_IMAGE, ImageStatus
from fractal_airflow.execution.units import Outcome, UnitError, load_outcomes
from fractal_airflow.fractal import UnitResult, input_statuses, parse_task_output
from fractal_airflow.fractal.choice import about, untouched_by_failures
from fractal_airflow.fractal.merging import UnitStatus
from fractal_airflow.operators.xcoms import Batch

LOST = Outcome(
    "failed",
    error=UnitError(
        "job", "no result: its task instance ended before it could report; see that instance's log"
    ),
)

STANDS = (
    "counts as failed, since another unit of the step failed and the image has none of its own; "
    "what was made of it stands"
)


@dataclass(frozen=True, slots=True)
class UnitEnd:
    """
    How one unit ended.

    :param zarr_urls: the images it was given.
    :param whole_list: whether it was one command over all input images, not a unit of one image.
    :param init_args: what the init half of a compound task gave it.
    :param try_number: which try of its task instance told how it ended.
    """

    zarr_urls: Sequence[str]
    whole_list: bool
    outcome: Outcome
    map_index: int | None = None
    init_args: Mapping[str, Any] | None = None
    try_number: int | None = None

    @property
    def zarr_url(self) -> str | None:
        """The image of a unit that has one."""
        return None if self.whole_list else self.zarr_urls[0]

    @property
    def failed(self) -> bool:
        """Whether it failed."""
        return self.outcome.status == "failed"

    def result(self) -> UnitResult:
        """Return what the rules of merging want to know of it, its output included."""
        output = None if self.failed else parse_task_output(self.outcome.output)
        return UnitResult(self.zarr_url, output, self.failed)


def whole_list_unit(input_urls: Sequence[str], xcom: dict[str, Any] | None, read: ReadOutcomes) -> UnitEnd:
    """Return the one unit of a non-parallel task, of a converter, or of an init half that failed."""
    outcome = load_outcomes(xcom, read_outcomes=read)[0] if xcom else LOST
    return UnitEnd(input_urls, True, outcome, try_number=xcom.get("try") if xcom else None)


def mapped_units(
    batches: Sequence[Batch], xcoms: Sequence[dict[str, Any] | None], read: ReadOutcomes
) -> list[UnitEnd]:
    """Return the units of all batches in order; those of an instance that left no XCom are lost."""
    by_index = {xcom["index"]: xcom for xcom in xcoms if xcom}
    ends: list[UnitEnd] = []
    for batch in batches:
        xcom = by_index.get(batch["index"])
        count = len(batch["units"])
        outcomes = load_outcomes(xcom, read_outcomes=read) if xcom else [LOST] * count
        for unit, outcome in zip(batch["units"], outcomes, strict=True):
            init_args, tries = unit.get("init_args"), xcom.get("try") if xcom else None
            ends.append(UnitEnd([unit["zarr_url"]], False, outcome, batch["index"], init_args, tries))
    return ends


ReadOutcomes = Callable[[str, int], list[Outcome]]
"""Reads the outcomes of an attempt folder through the resource, where an XCom only refers to them."""


def image_statuses(
    input_urls: Sequence[str], ends: Sequence[UnitEnd], fingerprint: str, error: str | None = None
) -> list[ImageStatus]:
    """
    Return the status of every input image of a step, for the history; of a converter, that of ``NO_IMAGE``.

    :param error: an error of merging: then every image failed with it.
    """
    statuses = input_statuses(input_urls, [UnitResult(end.zarr_url, failed=end.failed) for end in ends])
    own = _deciding_ends(input_urls, ends)
    failed = [end for end in ends if end.failed]
    stand = set() if error else untouched_by_failures(input_urls, ((e.zarr_url, e.init_args) for e in failed))
    first_error = error or next((end.outcome.error.message for end in failed if end.outcome.error), None)
    return [
        _image_status(
            url,
            "failed" if error else statuses[url],
            own.get(url),
            fingerprint,
            first_error,
            computed=not error and (statuses[url] == "done" or url in stand),
        )
        for url in input_urls
    ]


def _deciding_ends(input_urls: Sequence[str], ends: Sequence[UnitEnd]) -> dict[str, UnitEnd]:
    """Return the unit that decides the status of an image: its own, or one about it; a failed one, if any."""
    if list(input_urls) == [NO_IMAGE]:
        return {NO_IMAGE: max(ends, key=lambda end: end.failed)} if ends else {}
    deciding: dict[str, UnitEnd] = {}
    for end in sorted(ends, key=lambda end: end.failed):
        deciding.update(dict.fromkeys(about(None, end.init_args), end))
    for end in sorted(ends, key=lambda end: end.failed):
        deciding.update(dict.fromkeys(end.zarr_urls, end))
    return deciding


def _image_status(
    url: str,
    status: UnitStatus,
    end: UnitEnd | None,
    fingerprint: str,
    first_error: str | None,
    *,
    computed: bool,
) -> ImageStatus:
    outcome = end.outcome if end else None
    error = first_error
    if outcome:
        error = outcome.error.message if outcome.error else STANDS if computed else first_error
    return ImageStatus(
        zarr_url=url,
        status=status,
        map_index=end.map_index if end else None,
        log=outcome.log if outcome else None,
        fingerprint=fingerprint,
        error=error if status == "failed" else None,
        started_at=_utc(outcome.started_at) if outcome else None,
        seconds=outcome.seconds if outcome else None,
        max_rss_mb=outcome.max_rss_mb if outcome else None,
        computed=computed,
        try_number=end.try_number if end else None,
        warnings=outcome.warnings if outcome else (),
    )


def _utc(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
