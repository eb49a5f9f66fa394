"""What a DAG does with reported acquisitions: find those of its run, and let no two have one place."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fractal_airflow.exceptions import DatasetError

if TYPE_CHECKING:
    from airflow.sdk import Asset

BY_HAND = timedelta(days=7)
CLAIM = Path(".fractal_airflow", "acquisition.json")


def acquisitions_of_run(asset: Asset, context: Mapping[str, Any]) -> list[dict[str, str]]:
    """
    Return the acquisitions that a run is for: the events' payloads, each once, in order.

    Of events that come within moments, Airflow gives the run that they start only the first, and the others to
    the next one, whenever that is. So a run takes all that have come since its first event; what was taken by the
    run before it is there twice: start nothing twice by :func:`run_id_of`. A run that was started by hand takes
    the events of the last seven days.

    :param asset: the watched asset, which must be among the ``inlets`` of the task.
    :param context: the task's context.
    """
    triggering = context["triggering_asset_events"].get(asset) or ()
    since = min((event.timestamp for event in triggering), default=datetime.now(UTC) - BY_HAND)
    events = [*triggering, *context["inlet_events"][asset].after(since.isoformat())]
    payloads = [event.extra["payload"] for event in events if event.extra.get("from_trigger")]
    return list({payload["id"]: payload for payload in payloads}.values())


def run_id_of(acquisition: Mapping[str, str]) -> str:
    """Return a DAG run's id that is the acquisition's own: the same one, reported again, has the same."""
    name = re.sub(r"[^A-Za-z0-9_.~:+-]+", "_", acquisition["name"])
    return f"acquisition__{name[:100]}__{acquisition['id']}"


def claim(zarr_dir: str | os.PathLike[str], acquisition: Mapping[str, str]) -> None:
    """
    Make a ``zarr_dir`` for an acquisition, or find that it is its own.

    :raises DatasetError: if it belongs to another acquisition (of the same name, say), or has other data in it.
        Nothing in it is touched.
    """
    note = Path(zarr_dir) / CLAIM
    if not note.exists() and _has_data(Path(zarr_dir)):
        raise DatasetError(
            f"{acquisition['folder']} cannot be converted into {zarr_dir}: there is data in it already. "
            "Move that away, or give the acquisition another place."
        )
    note.parent.mkdir(parents=True, exist_ok=True)
    try:
        with note.open("x", encoding="utf-8") as file:
            json.dump(dict(acquisition), file)
    except FileExistsError:
        _check_owner(note, zarr_dir, acquisition)


def _has_data(zarr_dir: Path) -> bool:
    return zarr_dir.exists() and any(entry.name != CLAIM.parts[0] for entry in zarr_dir.iterdir())


def _check_owner(note: Path, zarr_dir: str | os.PathLike[str], acquisition: Mapping[str, str]) -> None:
    try:
        owner = json.loads(note.read_text(encoding="utf-8"))
        ids, folder, completed_at = owner["id"], owner["folder"], owner["completed_at"]
    except (ValueError, KeyError, TypeError):
        raise DatasetError(f"{note} does not say whose {zarr_dir} is: remove that file") from None
    if ids != acquisition["id"]:
        raise DatasetError(
            f"Two acquisitions want {zarr_dir}: {acquisition['folder']} (completed {acquisition['completed_at']}), "
            f"and {folder} (completed {completed_at}), which has it. Nothing was overwritten: rename the former, "
            f"or move {zarr_dir} away and delete the dataset of that name."
        )
