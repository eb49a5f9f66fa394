"""The report of a run in Markdown: what became of each step, which images failed, and what to do."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from fractal_airflow.provenance.facts import FailedUnit, RunFacts, StepFacts
from fractal_airflow.provenance.markdown import code, cut, error_line, first_line, link, one_line, plain

MOST_FAILURES = 200
NOTE_LENGTH = 1000
"""The longest note that Airflow takes."""


def render_report(run: RunFacts) -> str:
    """Return the report of a run."""
    lines = [
        f"# {plain(run.workflow_name)}: {_verdict(run)}",
        "",
        f"Run {code(run.run_id)} of the DAG {code(run.dag_id)}{_dataset(run)}.",
        "",
        *_table(run.steps),
        *_failures(run),
        *_what_to_do(run),
    ]
    return "\n".join(lines) + "\n"


def render_warnings(warnings: Sequence[str]) -> str:
    """Return the end of a report: what went wrong beside the run itself; nothing where nothing did."""
    return "".join(["\n## Warnings\n\n", *(f"- {plain(text)}\n" for text in warnings)]) if warnings else ""


def render_note(run: RunFacts, where: str | None) -> str:
    """
    Return the short form of a report that Airflow takes as a note.

    :param where: where the whole report is.
    """
    end = f"\n\nReport: {code(where)}" if where else ""
    room = NOTE_LENGTH - len(end)
    lines = [f"**{plain(run.workflow_name)}: {_verdict(run)}**", ""]
    for line in _note_lines(run):
        if sum(len(each) + 1 for each in lines) + len(line) + 3 > room:
            lines.append("- …")
            break
        lines.append(line)
    return ("\n".join(lines)[:room] + end)[:NOTE_LENGTH]


def render_error(run: RunFacts, where: str | None) -> str:
    """Return why a run failed, in short: the message of the error that its last task ends with."""
    found = [f"step {step.index} ({step.name}): {_short_failure(step)}" for step in run.failed_steps]
    report = f" Report: {where}" if where else ""
    return f"{run.workflow_name}: {_verdict(run)}. First: {'; '.join(found[:1])}.{report}"


def _verdict(run: RunFacts) -> str:
    failed = run.failed_steps
    if failed:
        steps = f"{len(failed)} of {len(run.steps)} steps failed"
        units = [step for step in failed if step.failed_count and not step.is_converter]
        if len(units) != len(failed):
            return steps
        images = sum(step.failed_count for step in units)
        return f"{images} image{'s' * (images != 1)} failed in {_steps(len(failed))}"
    return "done" if run.steps_that_ran else "nothing to do"


def _steps(count: int) -> str:
    return f"{count} step{'s' * (count != 1)}"


def _dataset(run: RunFacts) -> str:
    if not run.dataset:
        return ""
    before, after = run.versions
    versions = [str(each) for each in dict.fromkeys((before, after)) if each is not None]
    known = f", version {' to '.join(versions)}" if versions else ""
    return f" on the dataset {code(run.dataset)}{known}"


def _table(steps: Sequence[StepFacts]) -> Iterator[str]:
    yield "| | Step | | Images done | Images written | Time |"
    yield "| ---: | --- | --- | ---: | --- | ---: |"
    for step in steps:
        cells = (
            str(step.index), plain(step.name), _end(step), _done(step), _written(step), _duration(step.seconds),
        )  # fmt: skip
        yield f"| {' | '.join(cells)} |"


def _end(step: StepFacts) -> str:
    if step.end == "failed":
        return "**failed**"
    return "nothing to do" if step.end == "skipped" else step.end


def _done(step: StepFacts) -> str:
    if step.is_converter or not step.image_count:
        return ""
    return f"{step.counts.get('done', 0)} of {step.image_count}"


def _written(step: StepFacts) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in step.written.items() if count)


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _failures(run: RunFacts) -> Iterator[str]:
    left = MOST_FAILURES
    for step in run.failed_steps:
        yield from ("", f"## {step.index}. {plain(step.name)}: {_failed_images(step) or 'failed'}", "")
        if step.error:
            where = f" ({link('log in Airflow', step.error_link)})" if step.error_link else ""
            yield f"- {code(cut(one_line(step.error), 1000))}{where}"
        if step.standing:
            yield (
                f"{step.standing} more of its images count as failed in the history, by Fractal's rule for "
                "compound tasks; what was made of them stands."
            )
            yield ""
        for unit in step.failed[:left]:
            yield from _failure(run, step, unit)
        if len(step.failed) > left:
            history = _command(run, step, "history", "--status", "failed")
            yield f"- and {len(step.failed) - left} more: {code(history)} lists them"
        left = max(0, left - len(step.failed))


def _failure(run: RunFacts, step: StepFacts, unit: FailedUnit) -> Iterator[str]:
    if unit.zarr_urls:
        more = f" and {len(unit.zarr_urls) - 1} more" if len(unit.zarr_urls) > 1 else ""
        yield f"- {code(unit.zarr_urls[0])}{more}: {code(error_line(unit.error))}"
        if unit.log:
            yield f"  - read its log: {code(_command(run, step, 'logs', unit.zarr_urls[0]))}"
    else:
        yield f"- {code(error_line(unit.error))}"
    if unit.log:
        yield f"  - log file: {code(unit.log)}"
    if unit.link:
        yield f"  - {link('task instance in Airflow', unit.link)}"


def _command(run: RunFacts, step: StepFacts, name: str, *more: str) -> str:
    """Return the command that tells more of a step of this very run, as a shell takes it."""
    where = ["--dag", run.dag_id, "--run", run.run_id, "--step", str(step.number)]
    return shlex.join(["airflow", "fractal", name, run.dataset, *more, *where])


def _short_failure(step: StepFacts) -> str:
    if step.error and not step.failed:
        return first_line(step.error)
    first = error_line(step.failed[0].error) if step.failed else "see the log of its tasks"
    counts = _failed_images(step)
    return f"{counts}. First error: {first}" if counts else first


def _failed_images(step: StepFacts) -> str:
    if step.is_converter or not step.failed_count:
        return ""
    return f"{step.failed_count} of {step.image_count} images failed"


def _what_to_do(run: RunFacts) -> Iterator[str]:
    if not run.failed_steps:
        return
    yield from ("", "## What to do", "")
    if any(step.failed for step in run.failed_steps):
        yield (
            "Read the logs, and mend what is wrong with these images or with the arguments. "
            f"Then run the DAG again with the parameter {code('images')} = {code('failed')}: "
            "it runs these images alone, and what follows from them."
        )
    if any(step.error for step in run.failed_steps):
        yield (
            f"Where a step failed as a whole, mend what its error names. Then clear its task {code('select')}, with "
            "all that comes after it, or run the DAG again."
        )


def _note_lines(run: RunFacts) -> Iterator[str]:
    for step in run.failed_steps:
        yield f"- {step.index}. {plain(step.name)}: {plain(_short_failure(step))}"
        for unit in step.failed:
            if unit.zarr_urls:
                yield f"  - {code(unit.zarr_urls[0])}"
