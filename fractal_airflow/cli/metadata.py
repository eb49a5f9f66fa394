"""What commands read in Airflow's metadata database: runs, and connections."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from airflow.sdk import conf
from sqlalchemy import Select, or_, select
from sqlalchemy.exc import SQLAlchemyError

from fractal_airflow.cli.connections import has_airflows_database
from fractal_airflow.exceptions import FractalAirflowError
from fractal_airflow.execution.run_folder import run_name

DAG_ID = "fractal_run"
"""What the names of the DAGs of `airflow fractal run` begin with: each workflow has one of its own."""

FOLLOW = b"fractal_airflow.cli.follow"
PROCESSES = Path("/proc")


def runs_to_keep(before: datetime) -> list[str]:
    """
    Return the runs that are not finished, or not for long enough, as ``DAG/RUN``, the names of their folders.

    :param before: a run that has ended since then is kept.
    :raises FractalAirflowError: where there is nothing to be read: then nobody knows what is finished.
    """
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.state import State

    if not has_airflows_database():
        raise FractalAirflowError(
            "Airflow's metadata database does not exist, so nobody knows which runs are finished. Give this "
            "command the scheduler's settings ([database] sql_alchemy_conn); or --no-airflow, if all runs are "
            "those of `airflow fractal run`"
        )
    state = DagRun.__table__.c.state
    finished = [each.value for each in State.finished_dr_states]
    runs = select(DagRun.dag_id, DagRun.run_id).where(
        or_(state.is_(None), state.not_in(finished), DagRun.end_date >= before)
    )
    # Without a state, an instance of a finished run is nobody's concern: nothing will start it.
    alive = [each.value for each in State.unfinished if each]
    instances = select(TaskInstance.dag_id, TaskInstance.run_id).where(TaskInstance.state.in_(alive))
    keys = {tuple(row) for row in _read(runs, instances.distinct())}
    return sorted(run_name(dag_id, run_id) for dag_id, run_id in keys)


def run_state(dag_id: str, run_id: str) -> str | None:
    """
    Return the state of a DAG run; None where there is no such run any more.

    A run of which this Airflow knows nothing, not even its DAG, is another one's: it counts as running.

    :raises FractalAirflowError: where the database cannot be read.
    """
    from airflow.models.dag import DagModel
    from airflow.models.dagrun import DagRun

    if dag_id.partition(".")[0] == DAG_ID:
        return "running" if _command_runs() else None
    if not has_airflows_database():
        return "running"
    run = select(DagRun.__table__.c.state).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id)
    for (state,) in _read(run):
        return str(state or "running")
    known = list(_read(select(DagModel.dag_id).where(DagModel.dag_id == dag_id)))
    return None if known else "running"


def _command_runs() -> bool:
    """Tell whether an `airflow fractal run` may be running: no Airflow knows of these, but this machine does."""
    if conf.get("fractal_airflow", "dataset_conn_id", fallback=""):
        return True  # on some other machine, that shares the store
    if not PROCESSES.is_dir():
        return True  # as on macOS: nobody can tell
    store = f"AIRFLOW__FRACTAL_AIRFLOW__DATASET_FILE={conf.get('fractal_airflow', 'dataset_file')}".encode()
    return any(_is_command(entry, store) for entry in PROCESSES.iterdir() if entry.name.isdecimal())


def _is_command(process: Path, store: bytes) -> bool:
    try:
        if FOLLOW not in (process / "cmdline").read_bytes().split(b"\0"):
            return False
        return store in (process / "environ").read_bytes().split(b"\0")
    except PermissionError:  # somebody else's: it may be with this store
        return True
    except OSError:  # it has just ended
        return False


def connections_of_type(conn_type: str) -> list[str]:
    """
    Return the names of all connections of a type; none where there is no database.

    :raises FractalAirflowError: where it cannot be read.
    """
    from airflow.models.connection import Connection

    if not has_airflows_database():
        return []
    return [name for (name,) in _read(select(Connection.conn_id).where(Connection.conn_type == conn_type))]


def _read(*queries: Select[*tuple[Any, ...]]) -> Iterable[Any]:
    from airflow.utils.session import create_session

    try:
        with create_session() as session:
            return [row for query in queries for row in session.execute(query)]
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
        raise FractalAirflowError(
            f"Airflow's metadata database cannot be read: {reason}. "
            "Is its server up, and is it up to date (`airflow db migrate`)?"
        ) from error
