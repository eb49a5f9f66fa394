"""What the words of sbatch mean."""

from __future__ import annotations

import pytest

from fractal_airflow.execution.runner.cluster.commands import Ran, environment
from fractal_airflow.execution.runner.cluster.sbatch import parse_id, refusal

FAILED = "sbatch: error: Batch job submission failed: "
POLICY = "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"


def refused(said: str, code: int | None = 1) -> tuple[str, str | None, bool]:
    error = refusal(Ran("sbatch", code, "", said))
    return error.kind, error.more.get("option"), error.more.get("maybe_accepted", False)


@pytest.mark.parametrize(
    ("said", "option"),
    [
        (
            "sbatch: error: invalid partition specified: nope\n"
            + FAILED
            + "Invalid partition name specified",
            "partition",
        ),
        (FAILED + "Invalid node name specified", "nodelist"),
        (
            "sbatch: error: Memory specification can not be satisfied\n"
            + FAILED
            + "Requested node configuration is not available",
            "mem",
        ),
        ("sbatch: unrecognized option '--foo'\nTry \"sbatch --help\" for more information", "foo"),
        ("sbatch: error: Invalid --time specification", "time"),
        ("sbatch: error: Invalid --mem specification", "mem"),
        (FAILED + "Invalid account or account/partition combination specified", "account"),
        (FAILED + "Invalid generic resource (gres) specification", "gres"),
        (FAILED + "Invalid feature specification", "constraint"),
        (FAILED + "Invalid qos specification", "qos"),
        (FAILED + "Requested time limit is invalid (missing or exceeds some limit)", "time"),
        ("sbatch: error: CPU count per node can not be satisfied\n" + FAILED + "…", "cpus_per_task"),
        ('sbatch: error: Invalid numeric value "x" for --cpus-per-task.', "cpus_per_task"),
        ("sbatch: error: QOSMaxWallDurationPerJobLimit\n" + FAILED + POLICY, "time"),
        ("sbatch: error: QOSMaxMemoryPerJob\n" + FAILED + POLICY, "mem"),
        (FAILED + "Requested node configuration is not available", None),
        ("sbatch: error: This does not look like a batch script.", None),
    ],
)
def test_a_refusal_names_the_option_at_fault(said: str, option: str | None) -> None:
    assert refused(said) == ("refused", option, False)


@pytest.mark.parametrize(
    ("options", "option"),
    [
        ("#SBATCH --nodelist=n9", "nodelist"),
        ("#SBATCH --exclude=n9", "exclude"),
        ("#SBATCH --nodelist=n1\n#SBATCH --exclude=n9", "nodelist or exclude"),
    ],
)
def test_the_script_tells_which_of_two_options_may_be_at_fault(options: str, option: str) -> None:
    error = refusal(Ran("sbatch", 1, "", FAILED + "Invalid node name specified"), options)
    assert error.more["option"] == option


@pytest.mark.parametrize(
    "said",
    [
        "sbatch: error: AssocMaxSubmitJobLimit\n" + FAILED + POLICY,
        "sbatch: error: QOSMaxSubmitJobPerUserLimit\n" + FAILED + POLICY,
        "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying\n"
        + FAILED
        + "Resource temporarily unavailable",
        FAILED + "Required partition not available (inactive or drain)",
        FAILED + "I/O error writing script/environment to file",
    ],
)
def test_what_passes_is_tried_again(said: str) -> None:
    assert refused(said) == ("busy", None, False)


@pytest.mark.parametrize(
    "said",
    [
        FAILED + "Unable to contact slurm controller (connect failure)",
        "sbatch: error: If munged is up, restart with --num-threads=10\nsbatch: error: Munge encode failed",
        FAILED + "Protocol authentication error",
        "sbatch: fatal: Could not establish a configuration source",
    ],
)
def test_a_controller_that_was_not_reached_has_no_job(said: str) -> None:
    assert refused(said) == ("controller", None, False)


@pytest.mark.parametrize(
    "said",
    [
        FAILED + "Socket timed out on send/recv operation",
        FAILED + "Zero Bytes were transmitted or received",
        FAILED + "Unexpected message received",
    ],
)
def test_a_connection_that_broke_may_have_left_a_job(said: str) -> None:
    assert refused(said) == ("controller", None, True)


def test_a_command_that_was_stopped_may_have_left_a_job() -> None:
    assert refused("", code=None) == ("controller", None, True)
    waits = "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying"
    assert refused(waits, code=None) == ("busy", None, True)


def test_success_without_an_id_is_none() -> None:
    assert refused("", code=0) == ("controller", None, True)


@pytest.mark.parametrize(
    ("printed", "job_id"),
    [
        ("17\n", "17"),
        ("17;cluster2\n", "17"),
        ("Welcome to day 2 of 7!\n17\n", "17"),
        ("", None),
        ("no", None),
    ],
)
def test_the_id_of_a_job(printed: str, job_id: str | None) -> None:
    assert parse_id(printed) == job_id


def test_a_users_own_variables_do_not_change_what_commands_do() -> None:
    own = {
        "SQUEUE_PARTITION": "gpu",
        "SBATCH_ACCOUNT": "x",
        "SLURM_JOB_ID": "1",
        "LC_ALL": "de_DE",
        "PATH": "/b",
    }
    assert environment({**own, "SLURM_CONF": "/c"}) == {"LC_ALL": "C", "PATH": "/b", "SLURM_CONF": "/c"}


def test_a_job_inherits_the_encoding_of_its_user() -> None:
    german = {"LC_ALL": "de_DE.UTF-8", "LANG": "en_GB.UTF-8"}
    assert environment(german, inherited=True) == {
        "LANG": "en_GB.UTF-8",
        "LC_CTYPE": "de_DE.UTF-8",
        "LC_MESSAGES": "C",
    }
    assert environment({"LC_CTYPE": "C.UTF-8"}, inherited=True) == {"LC_CTYPE": "C.UTF-8", "LC_MESSAGES": "C"}
