"""The pages as HTML: what they say, and that nothing of what others have named gets into their markup."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

from fractal_airflow.dataset.records import StepRecord
from fractal_airflow.execution.run_files import UnitFiles
from fractal_airflow.web import pages
from fractal_airflow.web.lookup import ShownUnits, Step

EVIL = "\"'><script>alert(1)</script>&amp;{x}"


def step(text: str = "plain") -> Step:
    facts: dict[str, Any] = dict.fromkeys(
        ("package", "version", "arguments", "fingerprint", "started_at", "ended_at")
    )
    counts: dict[str, Any] = {
        "merge": 0,
        "versions": [],
        "statuses": {},
        "made": 0,
        "edited": 0,
        "removed": 0,
    }
    names = {"dag_id": text, "run_id": text, "task": f"pkg/{text}", "name": text, "resource": text}
    return Step(text, "/data", StepRecord(step=2, **names, **facts, **counts))


def tags(html: str) -> set[str]:
    found = set()

    class Parser(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.add(tag)
            found.update(name for name, _ in attrs)

    Parser().feed(html)
    return found


def texts(html: str) -> list[str]:
    body = html.partition("<body>")[2]
    return [text.strip() for text in re.split(r"<[^>]*>", body) if text.strip()]


def test_a_task_instance_with_its_units() -> None:
    units = [
        UnitFiles("/data/p.zarr/B/03/0", "done", "/w/0-log.txt", 1.25),
        UnitFiles("/elsewhere/B/04/0", "failed", "/w/1-log.txt", 2, "exit code 1\nand more"),
        UnitFiles("/data/p.zarr/B/05/0", "waiting", "/w/2-log.txt"),
    ]

    html = pages.units_page(ShownUnits(step(), 7, units, "/w"))

    assert texts(html)[:9] == [
        *("Unit logs: step 2, plain", "Run", "plain", "of", "plain", ", on dataset", "plain"),
        *(", map index 7", "Logs are in"),
    ]
    assert texts(html)[10:] == [
        *("Unit", "Status", "Seconds", "Error"),
        *("p.zarr/B/03/0", "done", "1.2", "log"),
        *("/elsewhere/B/04/0", "failed", "2.0", "exit code 1", "log"),
        *("p.zarr/B/05/0", "waiting"),
    ]
    assert re.findall('href="(.*?)"', html) == ["7/0", "7/1"]


def test_a_command_over_all_images() -> None:
    html = pages.units_page(ShownUnits(step(), None, [UnitFiles(None, "started", "/w/0-log.txt")], "/w"))

    assert "the command over all images" in texts(html)
    assert re.findall('href="(.*?)"', html) == ["command/log"]


def test_where_logs_are_gone_there_is_no_way_to_them() -> None:
    html = pages.units_page(ShownUnits(step(), 7, [UnitFiles("/data/a", "failed", "/w/0-log.txt")]))

    assert "`airflow fractal clean` has removed it" in html
    assert "href" not in html


def test_where_nothing_is_known_the_page_says_so() -> None:
    html = pages.units_page(ShownUnits(step(), 7))

    assert "No unit of this task instance has begun" in html
    assert "<table" not in html


def test_no_name_and_no_error_becomes_markup() -> None:
    units = [UnitFiles(f"/data/{EVIL}", EVIL, EVIL, 1, EVIL)]

    for html in (
        pages.units_page(ShownUnits(step(EVIL), 7, units, EVIL)),
        pages.units_page(ShownUnits(step(EVIL), None, units)),
        pages.message_page(EVIL, EVIL),
        pages.no_asset_page(EVIL),
    ):
        assert tags(html) <= {
            *("html", "lang", "head", "meta", "charset", "title", "style", "body", "h1", "p", "code"),
            *("table", "tr", "th", "td", "span", "class", "a", "href"),
        }
        assert "&lt;script&gt;alert(1)&lt;/script&gt;&amp;amp;{x}" in html


def test_of_very_many_units_the_page_has_the_first() -> None:
    units = [UnitFiles("/data/a", "done", "/w/0-log.txt")] * (pages.MOST_UNITS + 7)

    html = pages.units_page(ShownUnits(step(), 0, units, "/w"))

    assert html.count("<tr>") == pages.MOST_UNITS + 1
    assert "And 7 more units." in html
