"""What squeue and sacct print, read."""

from __future__ import annotations

import pytest

from fractal_airflow.execution.runner.cluster import accounting
from fractal_airflow.execution.runner.cluster.accounting import parse_accounting
from fractal_airflow.execution.runner.cluster.queue import (
    describe,
    parse_memory_mb,
    parse_queue,
    parse_seconds,
)

# Of a SLURM 22.05.
QUEUE = """\
44|FAILED|NonZeroExitCode|768|n1|0|0:07|10:00|cpu=1,mem=1G,node=1,billing=1|a-very-long-name-of-more-than-twenty-chars|x
46|PENDING|Resources|0||0|0:00|UNLIMITED|cpu=1,mem=4000M,node=1,billing=1|s.sh
48|PENDING|ReqNodeNotAvail, UnavailableNodes:n3|0||0|0:00|UNLIMITED|cpu=1,mem=4000M,node=1,billing=1|s.sh
45|RUNNING|None|0|n2|2|1-02:03:04|UNLIMITED|cpu=2,mem=1000M,node=1,billing=2|s.sh
2|FAILED|JobLaunchFailure|9|n1|0|0:01|UNLIMITED|cpu=1,mem=100M,node=1,billing=1|with a
line break
"""


def test_the_queue_is_read() -> None:
    failed, pending, unavailable, running, killed = parse_queue(QUEUE)
    assert (failed.id, failed.state, failed.live) == ("44", "FAILED", False)
    assert failed.name == "a-very-long-name-of-more-than-twenty-chars|x"
    assert (pending.reason, pending.live) == ("Resources", True)
    assert unavailable.reason == "ReqNodeNotAvail, UnavailableNodes:n3"
    assert (running.reason, running.nodes, running.restarts, running.seconds) == ("", "n2", 2, 93784)
    assert (killed.memory_mb, killed.cpus) == (100.0, 1)


def test_the_end_of_a_job_is_told_in_numbers() -> None:
    failed, *_, killed = parse_queue(QUEUE)
    told = describe(failed)
    assert (told["exit_code"], told["signal"], told["seconds"], told["time_limit"]) == (3, 0, 7, 600)
    told = describe(killed)
    assert (told["exit_code"], told["signal"], told["time_limit"]) == (0, 9, None)
    assert told["requested_mem_mb"] == 100.0


ACCOUNTING = """\
12|CANCELLED by 1000|0:0|None assigned|0|01:00:00|1000M|2||None
13|OUT_OF_MEMORY|0:125|n1|61|01:00:00|4G|2||None
13.batch|OUT_OF_MEMORY|0:125|n1|61||||3.50G|
13.extern|COMPLETED|0:0|n1|61||||512K|
14_1|FAILED|3:0|n2|5|365-00:00:00|500Mn|1||NonZeroExitCode
14_1.batch|FAILED|3:0|n2|5||||0|
"""


def test_the_accounting_is_read() -> None:
    jobs = parse_accounting(ACCOUNTING)
    assert list(jobs) == ["12", "13", "14_1"]
    assert (jobs["12"].state, jobs["12"].nodes, jobs["12"].reason) == ("CANCELLED", "", "")
    assert (jobs["13"].max_rss_mb, jobs["13"].memory_mb, jobs["13"].seconds) == (3584.0, 4096.0, 61)
    assert (jobs["14_1"].exit_code, jobs["14_1"].memory_mb) == (3, 500.0)
    assert [accounting.describe(job)["time_limit"] for job in jobs.values()] == [3600, 3600, None]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0:05", 5), ("59:59", 3599), ("1:00:00", 3600), ("2-00:00:00", 172800), ("INVALID", None)],
)
def test_times(text: str, seconds: int | None) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize(
    ("text", "mb"),
    [("1000M", 1000), ("1.50G", 1536), ("512K", 0.5), ("4Gn", 4096), ("1T", 1048576), ("", None)],
)
def test_memory(text: str, mb: float | None) -> None:
    assert parse_memory_mb(text) == mb
