"""What tests do with DAGs inside a process of Airflow's (see :mod:`tests.services.warm_airflow`)."""

from __future__ import annotations

import contextlib
import io
from typing import Any


def run_dag(dag_id: str, conf: dict[str, Any]) -> dict[str, Any]:
    """Run a DAG with ``dag.test``; tell how it and its task instances ended."""
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag()
    assert not bag.import_errors, bag.import_errors
    run = bag.dags[dag_id].test(run_conf=conf)
    return {
        "state": str(run.state),
        "run_id": run.run_id,
        "instances": [
            (ti.task_id, ti.map_index, str(ti.state), ti.rendered_map_index, ti.try_number)
            for ti in run.get_task_instances()
        ],
    }


def import_errors() -> dict[str, str]:
    """Parse all DAG files; return what is wrong with each file that cannot be imported."""
    from airflow.dag_processing.dagbag import DagBag

    return dict(DagBag().import_errors)


def fractal_command(*argv: str) -> tuple[int, str, str]:
    """Call ``airflow fractal …``; return its exit code, and what it printed on standard output and error."""
    from airflow.cli.cli_parser import get_parser

    code = 0
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            args = get_parser().parse_args(["fractal", *argv])
            args.func(args)
        except SystemExit as end:
            code = int(end.code or 0)
    return code, out.getvalue(), err.getvalue()
