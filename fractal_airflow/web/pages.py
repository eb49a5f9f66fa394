"""The pages as HTML. All that comes from users, tasks or their logs is escaped; there are no scripts."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fractal_airflow.execution.run_files import UnitFiles
    from fractal_airflow.web.lookup import ShownUnits

MOST_UNITS = 5000
COMMAND_TEXT = "the command over all images"

_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem; color: #1f2933; background: #fff }}
h1 {{ font-size: 1.3rem }}
table {{ border-collapse: collapse }}
th, td {{ text-align: left; vertical-align: top; padding: .25rem 1.5rem .25rem 0; border-bottom: 1px solid #dde3e9 }}
code {{ font-size: .9em; overflow-wrap: anywhere }}
.failed {{ color: #b42318 }}
.done {{ color: #18794e }}
.quiet {{ color: #66788a }}
</style>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""


def units_page(shown: ShownUnits) -> str:
    """Return the page of a task instance: its units, and how each ended or how far it is."""
    step, units = shown.step, shown.units
    instance = "" if shown.instance is None else f", map index {shown.instance}"
    about = (
        f"<p>Run <code>{escape(step.record.run_id)}</code> of <code>{escape(step.record.dag_id)}</code>, "
        f"on dataset <code>{escape(step.dataset)}</code>{instance}</p>\n"
    )
    title = f"Unit logs: step {step.record.step}, {step.name}"
    return page(title, about + _where(shown) + (_table(shown) if units else ""))


def no_asset_page(dataset: str) -> str:
    """Return the page of a dataset that Airflow does not know of yet."""
    return message_page(
        f"Dataset {dataset}",
        "It has no asset page yet: Airflow knows of it once a step has been merged into it.",
    )


def message_page(title: str, text: str) -> str:
    """Return a page with a message."""
    return page(title, f"<p>{escape(text)}</p>")


def page(title: str, body: str) -> str:
    """
    Return a page.

    :param title: any text.
    :param body: HTML.
    """
    return _PAGE.format(title=escape(title), body=body)


def _where(shown: ShownUnits) -> str:
    if shown.folder is not None:
        return f'<p class="quiet">Logs are in <code>{escape(shown.folder)}</code></p>\n'
    resource = f"resource {shown.step.resource_name!r}"
    if shown.units:
        text = (
            f"The folder with their logs is not there: `airflow fractal clean` has removed it, or it is on a worker "
            f"whose files the API server does not see ({resource}). This is what the history knows."
        )
    else:
        text = (
            f"No unit of this task instance has begun, as far as the API server can see ({resource}). "
            "Logs are shown as soon as units run."
        )
    return f"<p>{escape(text)}</p>\n"


def _table(shown: ShownUnits) -> str:
    rows = [_row(shown, number, unit) for number, unit in enumerate(shown.units[:MOST_UNITS])]
    left = len(shown.units) - MOST_UNITS
    more = f"<p>And {left} more units.</p>\n" if left > 0 else ""
    head = "<tr><th>Unit</th><th>Status</th><th>Seconds</th><th>Error</th><th></th></tr>\n"
    return f"<table>\n{head}{''.join(rows)}</table>\n{more}"


def _row(shown: ShownUnits, number: int, unit: UnitFiles) -> str:
    image = unit.zarr_url and unit.zarr_url.removeprefix(shown.step.zarr_dir.rstrip("/") + "/")
    seconds = "" if unit.seconds is None else f"{unit.seconds:.1f}"
    address = "command/log" if shown.instance is None else f"{shown.instance}/{number}"
    readable = shown.folder is not None and unit.status != "waiting"
    log = f'<a href="{address}">log</a>' if readable else ""
    kind = unit.status if unit.status in ("done", "failed") else "quiet"
    cells = (
        f"<code>{escape(image or COMMAND_TEXT)}</code>",
        f'<span class="{kind}">{escape(unit.status)}</span>',
        seconds,
        escape((unit.error or "").partition("\n")[0]),
        log,
    )
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>\n"
