from __future__ import annotations

import pytest

from fractal_airflow.exceptions import WorkflowError
from fractal_airflow.operators.slurm_choices import parse_account, parse_worker_init


@pytest.mark.parametrize("account", ["imaging", "Lab-7", "a.b_c", "lab@hpc", "x+y", " imaging "])
def test_the_name_of_an_account_is_one(account: str) -> None:
    assert parse_account(account) == account.strip()


@pytest.mark.parametrize(
    "account", ["a b", "a\n#SBATCH --uid=0", "$(id)", "a;b", "`id`", "-x", "a'b", "ä", 7, ["a"]]
)
def test_anything_else_is_not(account: object) -> None:
    with pytest.raises(WorkflowError, match=r"slurm_account: .* is no name of a SLURM account"):
        parse_account(account)


def test_worker_init_is_lines_of_shell() -> None:
    assert parse_worker_init("module load cuda\n\nexport A='b c'\n") == (
        "module load cuda",
        "",
        "export A='b c'",
    )


@pytest.mark.parametrize("value", [["module load cuda"], 3, "a\0b"])
def test_worker_init_is_nothing_else(value: object) -> None:
    with pytest.raises(WorkflowError, match="worker_init: must be lines of shell"):
        parse_worker_init(value)


@pytest.mark.parametrize("value", [None, "", "  ", "\n"])
def test_a_run_may_choose_nothing(value: str | None) -> None:
    assert parse_account(value) is None
    assert parse_worker_init(value) is None
