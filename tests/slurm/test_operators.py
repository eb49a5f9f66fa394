"""Workflows on a cluster that nothing disturbs: what runs where, what users are told, and what they may choose."""

from __future__ import annotations

import datetime
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.services.airflow import AirflowHome
from tests.services.site import RESOURCE, Site
from tests.services.trial import STEP, Trial

CONVERT = {"name": "Convert Plate", "args_non_parallel": {"wells": ["B/03", "B/04", "C/03"]}}
STARTS_LATER = {"extra_lines": ["#SBATCH --begin=now+6"]}


class timedelta(datetime.timedelta):  # noqa: N801 - written into a DAG file as it is called there
    """A time that a DAG file can be written with."""

    def __repr__(self) -> str:
        return f"timedelta(seconds={self.total_seconds()})"


def write_dag(home: AirflowHome, name: str, *tasks: dict[str, Any], **options: Any) -> None:
    home.write_fractal_dag(
        name, *tasks, **{"dataset": name, "resource": RESOURCE, "default_args": {"retry_delay": 0}, **options}
    )


def run_dag(site: Site, name: str, conf: dict[str, Any] | None = None) -> str:
    """Run a DAG to its good end; return the run's id."""
    run_id = site.airflow.trigger(name, conf)
    state = site.airflow.wait_for_end(name, run_id, timeout_s=400)
    assert state == "success", site.airflow.logs()
    return run_id


def steps_of(site: Site, name: str) -> set[str]:
    """The steps of a DAG that had jobs."""
    return {Path(folder).parts[-3] for folder in site.cluster.submitted(f"/{name}/").values()}


def xcom(site: Site, name: str, run_id: str, task_id: str, key: str, map_index: int = -1) -> Any:
    path = f"/dags/{name}/dagRuns/{quote(run_id)}/taskInstances/{task_id}/xcomEntries/{key}"
    return site.airflow.call("GET", f"{path}?map_index={map_index}&deserialize=true")["value"]


def test_a_whole_workflow_runs_on_the_cluster(site: Site, home: AirflowHome) -> None:
    name = "whole"
    write_dag(home, name, CONVERT, {"name": "Measure"}, {"name": "Project"}, {"name": "Summarise"})

    run_id = run_dag(site, name)

    urls = [home.url(well) for well in ("B/03", "B/04", "C/03")]
    images = home.store.images(name)
    assert [image.zarr_url for image in images] == urls + [f"{url}_mip" for url in urls]
    assert [image.origin for image in images] == [None] * 3 + urls
    assert home.measured("B/03", "B/04", "C/03") == [1, 1, 1]
    steps = {folder.partition("~")[0] for folder in steps_of(site, name)}
    assert steps == {"00_Convert-Plate", "01_Measure", "02_Project", "03_Summarise"}
    tries = {each["try_number"] for each in site.airflow.instances(name, run_id).values()}
    assert tries == {1}


def test_single_tasks_run_on_the_cluster(site: Site, home: AirflowHome) -> None:
    name = "single"
    site.add_images(home, "B/03", "B/04", dataset=name, is_3D=True)
    write_dag(
        home,
        name,
        {"name": "Measure"},
        {"name": "Summarise"},
        resource="local",
        resources={"Measure": RESOURCE},
    )

    run_dag(site, name)

    assert home.measured("B/03", "B/04") == [1, 1]
    assert (home.data / "summary.json").exists()
    assert steps_of(site, name) == {"00_Measure"}
    assert home.cli("fractal", "logs", name, "B/03/0", "--step", "Measure").stdout.startswith("=== ")


def test_without_a_triggerer_the_worker_waits_itself(site: Site, trial: Trial) -> None:
    trial.start(wait=False, deferrable=False)
    trial.wait("all jobs run", lambda: len(trial.running()) == 2)
    assert trial.states() == ["running", "running"]

    trial.finish()

    assert trial.submissions() == [1, 1]
    assert trial.triggerers() == set()
    assert "ended on n" in trial.log()


def test_without_a_triggerer_a_killed_instance_takes_its_job_along(site: Site, trial: Trial) -> None:
    trial.start(wait=False, deferrable=False)
    trial.wait("all jobs run", lambda: len(trial.running()) == 2)

    site.airflow.mark_failed(trial.name, trial.run_id, f"{STEP}.run", 0)

    trial.wait("its job is gone", lambda: len(trial.live()) == 1, timeout_s=15)
    trial.finish(state="failed")
    assert trial.live() == []


def test_a_run_chooses_its_account_and_how_its_jobs_begin(site: Site, home: AirflowHome) -> None:
    name = "chosen"
    site.add_images(home, "B/03", dataset=name, is_3D=True)
    write_dag(home, name, {"name": "Measure"}, worker_init="exit 1")
    begin = f"printf '%s' \"$SLURM_JOB_ACCOUNT {quote(name)}\" > '{home.data}/begin of a job.txt'"

    run_dag(site, name, {"slurm_account": "imaging", "worker_init": begin})

    assert (home.data / "begin of a job.txt").read_text(encoding="utf-8") == f"imaging {name}"


def test_the_log_says_why_a_job_waits_and_how_far_its_units_are(site: Site, trial: Trial) -> None:
    trial.start(meta=STARTS_LATER)
    labels = site.airflow.instances(trial.name, trial.run_id)
    assert labels[f"{STEP}.run", 0]["rendered_map_index"] == "B/03/0 … B/04/0 (2)"
    trial.wait("the log says that it runs", lambda: "runs on n" in trial.log(map_index=0))

    trial.finish()

    log = trial.log(map_index=0)
    for said in (
        "Submitted job",
        "BeginTime",
        "runs on n",
        "2/2 units",
        "COMPLETED",
        "requested 400 MB, used",
    ):
        assert said in log, log
    other = next(job for job in trial.cluster.submitted(trial.part) if f"job {job} " not in log)
    assert f"Job {other}" not in log


def test_what_a_job_used_of_what_it_asked_for_is_an_xcom(site: Site, trial: Trial) -> None:
    trial.start().finish()

    usage = xcom(site, trial.name, trial.run_id, f"{STEP}.run", "usage", 1)

    assert usage["requested"]["mem_mb"] == 400
    assert usage["requested"]["cpus"] == 2
    assert 1 < usage["used"]["max_unit_rss_mb"] < 200
    assert usage["used"]["wall_s"] > 0


def test_large_outputs_do_not_go_through_airflow(site: Site, home: AirflowHome) -> None:
    name = "large"
    (url,) = site.add_images(home, "B/03", dataset=name, is_3D=True)
    attributes = {f"attribute {number}": "x" * 1000 for number in range(400)}
    output = {"image_list_updates": [{"zarr_url": url, "attributes": attributes}]}
    write_dag(home, name, {"name": "Measure", "args_parallel": {"output": output}})

    run_id = run_dag(site, name)

    assert home.store.images(name)[0].attributes["attribute 399"] == "x" * 1000
    assert "outcomes" not in xcom(site, name, run_id, f"{STEP}.run", "return_value", 0)


def test_the_time_of_a_task_goes_on_while_it_is_deferred(site: Site, trial: Trial) -> None:
    trial.start(
        args={"slow_for": ["B/03/0", "C/03/0"]},
        default_args={"execution_timeout": timedelta(seconds=12), "retries": 0},
    )

    trial.wait("its jobs are gone", lambda: not trial.live(), timeout_s=30)
    trial.finish(state="failed")

    assert "execution_timeout" in trial.log()
    statuses = trial.home.statuses(dataset=trial.name)
    assert statuses == {"B/03/0": "failed", "B/04/0": "done", "C/03/0": "failed", "C/04/0": "done"}


def test_an_empty_step_is_over_soon_although_polls_are_rare(site: Site, home: AirflowHome) -> None:
    name = "soon"
    wells = [f"{row}/{column:02}" for row in "ABCD" for column in range(1, 7)]
    site.add_images(home, *wells, dataset=name, is_3D=True)
    write_dag(home, name, {"name": "Measure"})
    site.airflow.wait("the DAG is known", lambda: site.airflow._unpaused(name))

    start = time.monotonic()
    run_dag(site, name)

    assert home.measured(*wells) == [1] * 24
    print(f"24 images took {time.monotonic() - start:.1f} s")
