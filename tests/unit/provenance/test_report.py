"""The report's text: all of it once, and what it does with texts of others and with many failures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fractal_airflow.provenance.facts import FailedUnit
from fractal_airflow.provenance.report import (
    NOTE_LENGTH,
    render_error,
    render_note,
    render_report,
    render_warnings,
)
from tests.unit.provenance.runs import ERROR, LOG, a_run, a_step, of_every_kind

GOLDEN = Path(__file__).with_name("golden")


def test_a_report_of_everything_there_is() -> None:
    warnings = ["The crate could not be written: *disk* full"]

    report = render_report(of_every_kind()) + render_warnings(warnings)

    assert report == (GOLDEN / "report.md").read_text(encoding="utf-8")


def test_a_run_in_which_all_is_well_says_so_in_its_title() -> None:
    report = render_report(a_run(a_step(0, "Segment")))

    assert report.startswith("# Count nuclei: done\n")
    assert "What to do" not in report
    assert not render_warnings([])


def test_of_many_failures_the_first_are_listed_and_the_others_counted() -> None:
    failed = [FailedUnit([f"/data/zarr/{index}"], ERROR, LOG) for index in range(250)]
    steps = [
        a_step(index, "Segment", end="failed", counts={"failed": 250}, failed=failed) for index in (0, 1)
    ]

    report = render_report(a_run(*steps))

    assert report.startswith("# Count nuclei: 500 images failed in 2 steps\n")
    assert report.count("- read its log") == 200
    history = "airflow fractal history 'my plate' --status failed --dag plate --run monday --step"
    assert f"- and 50 more: `{history} 0` lists them" in report
    assert f"- and 250 more: `{history} 1` lists them" in report


def test_names_of_users_are_quoted_for_the_shell() -> None:
    failed = [FailedUnit(["/data/zarr/it's"], ERROR, LOG)]
    step = a_step(0, "Segment", end="failed", counts={"failed": 1}, failed=failed)

    report = render_report(a_run(step, dataset="$(rm)", dag_id="a b", run_id="manual__1; rm"))

    command = (
        """airflow fractal logs '$(rm)' '/data/zarr/it'"'"'s' --dag 'a b' --run 'manual__1; rm' --step 0"""
    )
    assert f"read its log: `{command}`" in report


def test_texts_of_users_and_tasks_mean_nothing_in_markdown() -> None:
    url = "/data/zarr/`rm -rf`|<b>\n# a"
    error = "<script>alert(1)</script> `` | [x](http://evil)\n- more"
    failed = [FailedUnit([url], error, log="/runs/`x`", link="http://airflow/a b)c")]
    step = a_step(0, "# <i>a|b</i> *c* [d](e)", end="failed", counts={"failed": 1}, failed=failed)

    report = render_report(a_run(step, workflow_name="[a](http://b)\n# c", run_id="r`1"))

    lines = report.splitlines()
    assert lines[0] == "# \\[a\\](http://b) # c: 1 image failed in 1 step"
    assert r"\<i\>a\|b\</i\> \*c\* \[d\](e)" in lines[6]
    assert "- ``/data/zarr/`rm -rf`|<b> # a``: ```<script>alert(1)</script> `` | [x](http://evil)```" in lines
    assert "(http://airflow/a%20b%29c)" in report
    assert not [line for line in lines if line.startswith(("- more", "# a"))]


class TestNote:
    """The short form, which Airflow limits."""

    def test_it_names_the_failed_images_and_the_file(self) -> None:
        note = render_note(of_every_kind(), "/runs/report.md")

        assert note.startswith("**Count nuclei: 6 images failed in 3 steps**\n")
        assert "\n  - `/data/zarr/plate.zarr/B/03/0`\n" in note
        assert note.endswith("\n\nReport: `/runs/report.md`")

    def test_it_is_never_too_long(self) -> None:
        failed = [FailedUnit([f"/data/zarr/{'long/' * 20}{index}"], ERROR) for index in range(50)]
        step = a_step(0, "Segment", end="failed", counts={"failed": 50}, failed=failed)

        note = render_note(a_run(step), "/runs/report.md")

        assert len(note) <= NOTE_LENGTH
        assert note.endswith("- …\n\nReport: `/runs/report.md`")

    def test_a_long_name_alone_does_not_make_it_too_long(self) -> None:
        run = replace(of_every_kind(), workflow_name="n" * 2000)

        assert len(render_note(run, "/runs/" + "r" * 2000)) <= NOTE_LENGTH


def test_the_error_of_a_run_is_short() -> None:
    error = render_error(of_every_kind(), "/runs/report.md")

    assert error == (
        "Count nuclei: 6 images failed in 3 steps. First: step 1 (Segment <all>): 1 of 3 images failed. "
        "First error: the task ended with exit code 1: ValueError: out of focus. Report: /runs/report.md"
    )
