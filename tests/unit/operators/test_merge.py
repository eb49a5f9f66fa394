"""What merge does about jobs that nobody waits for any more."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from fractal_airflow.exceptions import ClusterUnreachableError, ResourceError
from fractal_airflow.operators.merge import MergeOutputsOperator
from tests.unit.workflows import step


class Cluster:
    """A resource on which leftovers cannot be looked for."""

    work_dir = "/runs"

    def __init__(self, error: Exception) -> None:
        self._error = error

    def leftovers(self, step_folder: str) -> list[str]:
        raise self._error


def end_leftovers(error: Exception, *, try_number: int) -> None:
    merge = MergeOutputsOperator(
        task_id="merge", step=step("Measure"), select_task_id="select", run_task_id="run"
    )
    ti = SimpleNamespace(dag_id="d", run_id="r", try_number=try_number, max_tries=1)
    context: Any = {"ti": ti}
    resource: Any = Cluster(error)
    merge._end_leftovers(context, resource)


def test_a_cluster_that_does_not_answer_is_asked_again_in_another_try() -> None:
    with pytest.raises(ClusterUnreachableError):
        end_leftovers(ClusterUnreachableError("no route to host"), try_number=1)


@pytest.mark.parametrize(
    ("error", "try_number"),
    [(ClusterUnreachableError("no route to host"), 2), (ResourceError("the key file is missing"), 1)],
)
def test_what_another_try_does_not_change_keeps_nothing_from_being_merged(
    error: Exception, try_number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    end_leftovers(error, try_number=try_number)

    said = capsys.readouterr().out
    assert "Jobs may be left over" in said
    assert str(error) in said
