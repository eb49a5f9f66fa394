"""Units per job, and units at a time."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fractal_airflow.exceptions import ResourceError
from fractal_airflow.execution.slurm.batching import plan_slurm_batches, units_at_a_time
from tests.unit.execution.slurm.configs import slurm_config

# Nodes of 16 cores and 64 GB: half of one for a job, if that makes no more than ten jobs.
BATCHING = {
    "target_cpus_per_job": 8,
    "max_cpus_per_job": 16,
    "target_mem_per_job": "32G",
    "max_mem_per_job": "64G",
    "target_num_jobs": 10,
    "max_num_jobs": 20,
}
UNIT = {"cpus_per_task": 2, "mem": "4G"}


class TestPlan:
    def plan(self, n_units: int, meta: dict[str, Any] | None = None, **kwargs: Any) -> list[int]:
        return plan_slurm_batches(slurm_config(BATCHING), {**UNIT, **(meta or {})}, n_units, **kwargs)

    def test_few_units_make_jobs_of_the_target(self) -> None:
        assert self.plan(8) == [4, 4]
        assert self.plan(40) == [4] * 10

    def test_jobs_are_as_even_as_possible(self) -> None:
        assert self.plan(9) == [3, 3, 3]
        assert self.plan(10) == [4, 3, 3]

    def test_more_units_make_jobs_of_the_maximum(self) -> None:
        assert self.plan(41) == [7, 7, 7, 7, 7, 6]
        assert self.plan(160) == [8] * 20

    def test_even_more_units_run_in_turn(self) -> None:
        assert self.plan(1000) == [50] * 20

    def test_memory_limits_as_cores_do(self) -> None:
        assert self.plan(8, {"mem": "20G"}) == [1] * 8
        assert self.plan(30, {"mem": "20G"}) == [3] * 10

    def test_memory_that_is_left_to_the_cluster_limits_nothing(self) -> None:
        assert plan_slurm_batches(slurm_config(BATCHING), {"cpus_per_task": 1}, 8) == [8]

    def test_no_units_make_no_jobs(self) -> None:
        assert self.plan(0) == []

    def test_a_task_may_say_it_itself(self) -> None:
        meta = {"tasks_per_job": 6, "parallel_tasks_per_job": 3}
        assert self.plan(18, meta) == [6, 6, 6]
        assert self.plan(19, meta) == [5, 5, 5, 4]

    def test_what_a_task_says_itself_is_held_to_no_default_nor_target(self) -> None:
        config = slurm_config({"target_cpus_per_job": 1, "target_num_jobs": 1})
        meta = {"tasks_per_job": 2, "parallel_tasks_per_job": 2}
        assert plan_slurm_batches(config, meta, 400) == [2] * 200
        assert units_at_a_time(config, meta, 2) == 2

    def test_the_author_of_a_dag_has_the_last_word(self) -> None:
        assert self.plan(6, images_per_batch=1) == [1] * 6
        assert self.plan(12, {"tasks_per_job": 6, "parallel_tasks_per_job": 3}, images_per_batch=4) == [4] * 3

    def test_but_never_more_jobs_than_possible(self) -> None:
        assert self.plan(60, images_per_batch=1) == [3] * 20
        assert self.plan(60, images_per_batch=1, max_batches=2) == [30, 30]
        assert self.plan(1000, max_batches=4) == [250] * 4

    def test_a_gpu_task_gets_a_unit_for_each_gpu(self) -> None:
        assert self.plan(4, {"needs_gpu": True}) == [1] * 4
        assert self.plan(4, {"needs_gpu": True, "gres": "gpu:a100:2"}) == [2, 2]
        assert self.plan(40, {"needs_gpu": True}) == [2] * 20

    def test_without_a_batching_configuration_a_job_runs_one_unit_at_a_time(self) -> None:
        config = slurm_config()
        assert plan_slurm_batches(config, UNIT, 30) == [1] * 30
        assert plan_slurm_batches(config, UNIT, 250) == [3] * 50 + [2] * 50
        assert units_at_a_time(config, UNIT, 5) == 1

    def test_a_maximum_alone_is_the_target_too(self) -> None:
        config = slurm_config({"max_cpus_per_job": 4})
        assert plan_slurm_batches(config, UNIT, 8) == [2] * 4
        assert units_at_a_time(config, UNIT, 2) == 2

    def test_a_target_alone_does_not_refuse_a_bigger_unit(self) -> None:
        config = slurm_config({"target_cpus_per_job": 1, "target_num_jobs": 3})
        assert plan_slurm_batches(config, UNIT, 6) == [2, 2, 2]
        assert units_at_a_time(config, UNIT, 2) == 1


class TestUnitsAtATime:
    def at_a_time(self, n_units: int, meta: dict[str, Any] | None = None, factor: float = 1) -> int:
        return units_at_a_time(
            slurm_config(BATCHING), {**UNIT, **(meta or {})}, n_units, memory_factor=factor
        )

    def test_as_many_as_fit_the_biggest_job(self) -> None:
        assert self.at_a_time(4) == 4
        assert self.at_a_time(50) == 8

    def test_as_many_as_the_task_says(self) -> None:
        assert self.at_a_time(50, {"tasks_per_job": 50, "parallel_tasks_per_job": 3}) == 3

    def test_one_for_each_gpu(self) -> None:
        assert self.at_a_time(50, {"gpus": 2}) == 2
        assert self.at_a_time(50, {"gpus": 2, "tasks_per_job": 50, "parallel_tasks_per_job": 3}) == 2

    def test_fewer_where_each_gets_more_memory(self) -> None:
        assert self.at_a_time(50, factor=4) == 4
        assert self.at_a_time(50, factor=100) == 1
        asked = {"mem": "16G", "tasks_per_job": 50, "parallel_tasks_per_job": 3}
        assert self.at_a_time(50, asked, factor=2) == 2


@pytest.mark.parametrize(
    ("meta", "problem"),
    [
        (
            {"cpus_per_task": 17},
            r"meta\.cpus_per_task: a unit asks for 17 cores, .* more than 16 \(batching_config\.max_cpus_per_job\)",
        ),
        (
            {"mem": "65G"},
            r"meta\.mem: a unit asks for 65000 MB, .* more than 64000 \(batching_config\.max_mem_per_job\)",
        ),
        (
            {"time": "1-00:00:01"},
            r"meta\.time: a unit asks for 1-00:00:01, .* 1-00:00:00 \(batching_config\.max_time_per_job\)",
        ),
        ({"time": "UNLIMITED"}, r"meta\.time: a unit asks for UNLIMITED"),
        ({"tasks_per_job": 4}, r"meta\.tasks_per_job is given without parallel_tasks_per_job"),
        ({"parallel_tasks_per_job": 4}, r"meta\.parallel_tasks_per_job is given without tasks_per_job"),
        (
            {"tasks_per_job": 9, "parallel_tasks_per_job": 9},
            r"meta\.parallel_tasks_per_job: 9 units at a time, of 2 cores each \(cpus_per_task\), need 18, .* 16 ",
        ),
        (
            {"tasks_per_job": 4, "parallel_tasks_per_job": 4, "mem": "20G"},
            r"meta\.parallel_tasks_per_job: 4 units at a time, of 20000 MB each \(mem\), need 80000, ",
        ),
        (
            {"tasks_per_job": 4, "parallel_tasks_per_job": 4},
            r"4 units per job make 25 jobs of 100 units, .* than 20 \(batching_config\.max_num_jobs\): .* at least 5",
        ),
        ({"mem": "much"}, r"meta cannot be used: mem: 'much' is no amount"),
    ],
)
def test_what_fits_no_job_is_an_error_that_names_key_value_and_limit(
    meta: dict[str, Any], problem: str
) -> None:
    config = slurm_config({**BATCHING, "max_time_per_job": "1-0"})

    with pytest.raises(ResourceError, match=problem):
        plan_slurm_batches(config, {**UNIT, **meta}, 100)


def test_more_jobs_than_airflow_takes_are_an_error_that_says_so() -> None:
    meta = {"tasks_per_job": 1, "parallel_tasks_per_job": 1}

    with pytest.raises(ResourceError, match=r"no more than 10 \(Airflow's max_map_length\)"):
        plan_slurm_batches(slurm_config(), meta, 20, max_batches=10)


def test_what_the_resource_itself_says_is_named_as_its_own() -> None:
    config = slurm_config({"max_cpus_per_job": 2}, default={"cpus_per_task": 4})

    with pytest.raises(ResourceError, match=r"^default_slurm_config\.cpus_per_task: "):
        plan_slurm_batches(config, {}, 1)


counts = st.integers(1, 200)


@st.composite
def target_and_max(draw: st.DrawFn, name: str, least: int = 1) -> dict[str, int]:
    """Draw a target and a maximum, or one of them, or none."""
    most = draw(st.integers(least, 300))
    both = {f"target_{name}": draw(st.integers(1, most)), f"max_{name}": most}
    return {key: value for key, value in both.items() if draw(st.booleans())}


@st.composite
def batchings(draw: st.DrawFn, cpus: int, mem: int) -> dict[str, int]:
    return {
        **draw(target_and_max("cpus_per_job", cpus)),
        **draw(target_and_max("mem_per_job", mem)),
        **draw(target_and_max("num_jobs")),
    }


@settings(max_examples=300, deadline=None)
@given(st.data(), st.integers(1, 5000), st.integers(1, 64), st.integers(1, 64), st.booleans())
def test_all_units_are_covered_and_no_maximum_is_passed(
    data: st.DataObject, n_units: int, cpus: int, mem: int, needs_gpu: bool
) -> None:
    batching = data.draw(batchings(cpus, mem))
    config = slurm_config(batching)
    meta = {"cpus_per_task": cpus, "mem": mem, "needs_gpu": needs_gpu}
    max_batches = data.draw(counts)
    images_per_batch = data.draw(st.none() | counts)

    sizes = plan_slurm_batches(config, meta, n_units, images_per_batch, max_batches)

    assert sum(sizes) == n_units
    assert min(sizes) >= 1
    assert max(sizes) - min(sizes) <= 1
    assert len(sizes) <= min(max_batches, batching.get("max_num_jobs", max_batches))
    factor = data.draw(st.floats(1, 8))
    for size in {sizes[0], sizes[-1]}:
        for mem_of_one in (mem, math.ceil(mem * factor)):
            at_once = units_at_a_time(config, meta, size, memory_factor=mem_of_one / mem)
            assert 1 <= at_once <= (1 if needs_gpu else size)
            assert at_once * cpus <= batching.get("max_cpus_per_job", math.inf)
            most_mb = batching.get("max_mem_per_job", math.inf)
            assert at_once * min(mem_of_one, most_mb) <= most_mb
