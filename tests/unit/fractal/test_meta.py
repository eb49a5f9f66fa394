"""How a task is to run: the manifest's word, overlaid with the workflow's."""

from __future__ import annotations

from typing import Any

import pytest

from fractal_airflow.fractal.meta import check_meta, effective_meta, parse_memory, parse_time


def test_the_workflow_overlays_the_manifest_key_by_key() -> None:
    manifest = {"cpus_per_task": 1, "mem": 4000, "gres": "gpu:1"}
    workflow = {"mem": "8G", "time": "01:00:00"}

    assert effective_meta(manifest, workflow) == {
        "cpus_per_task": 1,
        "mem": 8000,
        "gres": "gpu:1",
        "time": "01:00:00",
    }


def test_nothing_said_is_nothing() -> None:
    assert effective_meta(None, None) == {}


def test_null_takes_away_what_the_manifest_says() -> None:
    assert effective_meta({"mem": 4000, "gres": "gpu:1"}, {"gres": None}) == {"mem": 4000}


def test_unknown_keys_are_kept_and_no_problem() -> None:
    meta = {"favourite_colour": ["blue"], "partition": "long"}

    assert check_meta(meta, where="meta_parallel") == []
    assert effective_meta({}, meta) == meta


@pytest.mark.parametrize(
    ("text", "mb"),
    [
        (4000, 4000),
        (1500.5, 1501),
        ("4000", 4000),
        ("4G", 4000),
        ("1.5g", 1500),
        ("2T", 2_000_000),
        ("500M", 500),
        ("2 GB", 2000),
        ("100K", 1),
    ],
)
def test_memory_is_read_in_its_spellings(text: object, mb: int) -> None:
    assert parse_memory(text) == mb


@pytest.mark.parametrize(
    "text",
    [
        "",
        "much",
        "-1",
        "4X",
        "4 G G",
        "4GiB",
        "9" * 20,
        0,
        "0G",
        -5,
        True,
        None,
        float("nan"),
        float("inf"),
        [4],
    ],
)
def test_what_is_no_amount_of_memory_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="no amount of memory"):
        parse_memory(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (90, 5400),
        ("90", 5400),
        (" 90 ", 5400),
        ("90:30", 5430),
        ("01:30:00", 5400),
        ("1-12", 129600),
        ("1-12:30", 131400),
        ("1-12:30:15", 131415),
        ("48:00:00", 172800),
        ("UNLIMITED", 0),
        ("infinite", 0),
    ],
)
def test_time_is_read_in_its_spellings(text: object, seconds: int) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "soon", 0, "0", "00:00", -1, "-1", 1.5, "1.5", "1:2:3:4", ":5", "1-", "1h", "1-1:1:1:1", True, None],
)
def test_what_is_no_time_limit_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"is no time limit|must be a text"):
        parse_time(text)


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("cpu_per_task", "cpus_per_task"),
        ("cpus-per-task", "cpus_per_task"),
        ("cpus_per_tasks", "cpus_per_task"),
        ("Mem", "mem"),
        ("needs_gpus", "needs_gpu"),
        ("gpu", "gpus"),
        ("constrain", "constraint"),
        ("warmstart", "warm_start"),
    ],
)
def test_a_key_that_is_mistyped_would_be_missed(key: str, meant: str) -> None:
    (found,) = check_meta({key: 1}, where="meta_parallel")

    assert found.startswith(f"meta_parallel.{key}: did you mean {meant!r}? The keys that say how to run: con")


def test_all_known_keys_are_accepted() -> None:
    meta = {
        "cpus_per_task": 4,
        "mem": "4G",
        "needs_gpu": True,
        "time": "1-00:00:00",
        "gres": "gpu:v100:1",
        "gpus": 1,
        "constraint": "a100|v100",
        "nodelist": "node[1-4]",
        "nodes": 1,
        "exclude": "node5",
        "extra_lines": ["#SBATCH --reservation=imaging"],
        "tasks_per_job": 8,
        "parallel_tasks_per_job": 2,
        "warm_start": False,
    }

    assert check_meta(meta, where="meta_parallel") == []


@pytest.mark.parametrize(
    ("meta", "problem"),
    [
        ({"account": "lab"}, "meta_parallel.account: accounts do not belong to a workflow"),
        ({"account": None}, "meta_parallel.account: accounts do not belong to a workflow"),
        ({"cpus_per_task": 0}, "meta_parallel.cpus_per_task: 0 must be a whole number of at least 1"),
        ({"cpus_per_task": "4"}, "meta_parallel.cpus_per_task: '4' must be"),
        ({"tasks_per_job": True}, "meta_parallel.tasks_per_job: True must be"),
        ({"mem": "lots"}, "meta_parallel.mem: 'lots' is no amount of memory"),
        ({"needs_gpu": "yes"}, "meta_parallel.needs_gpu: 'yes' must be true or false"),
        ({"warm_start": 1}, "meta_parallel.warm_start: 1 must be true or false"),
        (
            {"time": "1:00\n#SBATCH -A x"},
            "meta_parallel.time: '1:00\\n#SBATCH -A x' must be a text of one line",
        ),
        ({"gres": 1}, "meta_parallel.gres: 1 must be a text"),
        ({"gpus": -1}, "meta_parallel.gpus: -1 must be"),
        ({"extra_lines": "#SBATCH"}, "meta_parallel.extra_lines: '#SBATCH' must be a list"),
        ({"gpus": "many"}, "meta_parallel.gpus: 'many' is no number of GPUs"),
        ({"gres": "gpu=1 --hold"}, "meta_parallel.gres: 'gpu=1 --hold' names no generic resources"),
        ({"nodes": "0"}, "meta_parallel.nodes: '0' is no number of nodes"),
        ({"time": "later"}, "meta_parallel.time: 'later' is no time limit"),
        (
            {"extra_lines": ["#SBATCH --gress=gpu:1"]},
            "meta_parallel.extra_lines: '#SBATCH --gress=gpu:1': '--gress' is no option of sbatch; did you mean",
        ),
        ({"extra_lines": [1]}, "meta_parallel.extra_lines: 1 must be a text"),
    ],
)
def test_a_known_key_with_a_wrong_value_is_a_problem(meta: dict[str, Any], problem: str) -> None:
    (found,) = check_meta(meta, where="meta_parallel")

    assert found.startswith(problem)


def test_every_problem_is_named() -> None:
    assert len(check_meta({"mem": -1, "cpus_per_task": 0, "account": "x"}, where="meta")) == 3
