"""From a workflow to Airflow objects: which tasks there are, in which order, and what they tell users."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG, TriggerRule
from airflow.sdk.exceptions import ParamValidationError

from fractal_airflow import FractalDag, FractalTaskGroup, FractalWorkflowGroup
from fractal_airflow.assets import DATASETS
from fractal_airflow.exceptions import WorkflowError
from fractal_airflow.operators.retries import FAILED_TASKS_TOO
from fractal_airflow.run_parameters import run_parameters
from fractal_airflow.task_group import slug
from tests.services.airflow import FAKE_TASKS
from tests.unit.workflows import fake_package, step, workflow


def dag_of(*tasks: str | dict[str, Any], **options: Any) -> FractalDag:
    """A DAG of a workflow of fake tasks."""
    return FractalDag("nuclei", workflow(*tasks), fake_package(), **{"dataset": "plate", **options})


def edges(dag: DAG) -> dict[str, set[str]]:
    """The tasks that directly follow each task."""
    return {task.task_id: set(task.downstream_task_ids) for task in dag.tasks}


class TestSteps:
    """A step is a task group: select, run and merge, and init where a task has two halves."""

    def test_a_parallel_step_maps_its_run_over_what_select_returns(self) -> None:
        dag = dag_of("Measure")

        assert edges(dag) == {
            "0_measure.select": {"0_measure.run", "0_measure.merge"},
            "0_measure.run": {"0_measure.merge"},
            "0_measure.merge": {"report"},
            "report": set(),
        }
        assert dag.get_task("0_measure.run").is_mapped

    @pytest.mark.parametrize("name", ["Summarise", "Make Plate"])
    def test_a_step_of_one_command_runs_once(self, name: str) -> None:
        dag = dag_of(name)

        group = f"0_{slug(name)}"
        assert edges(dag)[f"{group}.select"] == {f"{group}.run", f"{group}.merge"}
        assert edges(dag)[f"{group}.run"] == {f"{group}.merge"}
        assert not dag.get_task(f"{group}.run").is_mapped

    @pytest.mark.parametrize(("name", "arguments"), [("Project", {}), ("Convert Plate", {"wells": ["B/03"]})])
    def test_a_step_of_two_halves_maps_the_second_over_what_the_first_returns(
        self, name: str, arguments: dict[str, Any]
    ) -> None:
        dag = dag_of({"name": name, "args_non_parallel": arguments})

        group = f"0_{slug(name)}"
        assert edges(dag)[f"{group}.select"] == {f"{group}.init", f"{group}.merge"}
        assert edges(dag)[f"{group}.init"] == {f"{group}.run"}
        assert edges(dag)[f"{group}.run"] == {f"{group}.merge"}
        assert dag.get_task(f"{group}.run").is_mapped

    def test_a_step_follows_the_merge_of_the_one_before(self) -> None:
        dag = dag_of("Project", "Measure")

        assert edges(dag)["0_project.merge"] == {"1_measure.select"}

    def test_only_merge_and_report_run_however_the_others_end(self) -> None:
        rules = {task.task_id: task.trigger_rule for task in dag_of("Project").tasks}

        assert rules.pop("0_project.merge") == TriggerRule.ALL_DONE
        assert rules.pop("report") == TriggerRule.ALL_DONE
        assert set(rules.values()) == {TriggerRule.ALL_SUCCESS}

    def test_each_half_gets_its_own_command_arguments_and_meta(self) -> None:
        dag = dag_of(
            {
                "name": "Project",
                "args_non_parallel": {"suffix": "_max"},
                "args_parallel": {"fail_for": []},
                "meta_parallel": {"mem": "2G"},
            }
        )

        init, run = dag.get_task("0_project.init"), dag.get_task("0_project.run").partial_kwargs
        assert init.command == ["/usr/bin/python3", str(FAKE_TASKS / "project_init.py")]
        assert (init.arguments, init.meta) == ({"suffix": "_max"}, {})
        assert run["command"] == ["/usr/bin/python3", str(FAKE_TASKS / "project_compute.py")]
        assert (run["arguments"], run["meta"]) == ({"fail_for": []}, {"cpus_per_task": 1, "mem": 2000})


class TestEvents:
    """When a run is an event of its dataset."""

    def test_every_merge_is_one(self) -> None:
        merges = [group.merge for group in dag_of("Project", "Measure").groups]

        assert [(merge.outlets, merge.ends_workflow) for merge in merges] == [([DATASETS], False)] * 2

    def test_or_the_last_one_is_for_all(self) -> None:
        merges = [group.merge for group in dag_of("Project", "Measure", events="end").groups]

        assert [(merge.outlets, merge.ends_workflow) for merge in merges] == [([], False), ([DATASETS], True)]

    def test_another_choice_is_refused(self) -> None:
        with pytest.raises(WorkflowError, match="events: must be one of steps, end, not 'never'"):
            dag_of("Measure", events="never")


class TestWhatUsersSee:
    """Names, labels and documentation in the Airflow UI."""

    def test_groups_are_called_what_the_workflow_calls_them(self) -> None:
        first, second = dag_of("Measure", {"name": "Measure", "alias": "Measure again!"}).groups

        assert (first.group_id, first.group_display_name) == ("0_measure", "Measure")
        assert (second.group_id, second.group_display_name) == ("1_measure_again", "Measure again!")

    def test_the_category_is_the_tooltip_of_the_group(self) -> None:
        assert [group.tooltip for group in dag_of("Make Plate", "Measure").groups] == [
            "Conversion",
            "Measurement",
        ]

    def test_the_documentation_of_the_task_is_on_what_runs_it(self) -> None:
        dag = dag_of("Measure")

        assert "Notes beside each image" in dag.get_task("0_measure.run").partial_kwargs["doc_md"]
        assert dag.get_task("0_measure.select").doc_md
        assert dag.get_task("0_measure.merge").doc_md

    def test_mapped_instances_are_labelled_by_what_is_in_them(self) -> None:
        run = dag_of("Measure").get_task("0_measure.run")

        assert run.partial_kwargs["map_index_template"] == "{{ task.batch.label }}"

    def test_the_dag_documents_its_workflow(self) -> None:
        about = {"name": "Measure", "alias": "Spots", "description": "counts spots"}
        dag = FractalDag("spots", workflow(about, description="All spots."), fake_package(), dataset="plate")

        assert dag.description == "All spots."
        assert dag.doc_md is not None
        assert "0. **Spots** (fake_tasks 1.0.0): counts spots" in dag.doc_md

    def test_what_a_dag_takes_may_be_set(self) -> None:
        dag = dag_of("Measure", description="mine", tags=["lab"], doc_md="# Mine", max_active_runs=1)

        assert (dag.description, dag.tags, dag.doc_md, dag.max_active_runs) == ("mine", {"lab"}, "# Mine", 1)


class TestRunParameters:
    """The trigger form offers the dataset, the filters and the part to run."""

    def test_their_defaults_are_what_the_author_gave(self) -> None:
        dag = dag_of(
            "Measure",
            "Measure",
            zarr_dir="/data/plate",
            attribute_filters={"well": ["B03"]},
            type_filters={"is_3D": True},
            params={"threshold": 3},
            images="pending",
            on_failure="continue",
            arguments_form=False,
        )

        assert dag.params.dump() == {
            "dataset": "plate",
            "zarr_dir": "/data/plate",
            "attribute_filters": {"well": ["B03"]},
            "type_filters": {"is_3D": True},
            "images": "pending",
            "on_failure": "continue",
            "first_task_index": 0,
            "last_task_index": 1,
            "threshold": 3,
        }

    def test_a_dag_without_a_dataset_asks_every_run_for_one(self) -> None:
        dag = dag_of("Measure", dataset=None)

        with pytest.raises(Exception, match="dataset"):
            dag.params.validate()

    def test_steps_are_offered_by_name(self) -> None:
        steps = dag_of("Project", "Measure").steps
        params = run_parameters(steps, dataset="p", zarr_dir=None, attribute_filters=None, type_filters=None)

        assert params["first_task_index"].schema["values_display"] == {0: "0: Project", 1: "1: Measure"}
        assert params["last_task_index"].schema["enum"] == [0, 1]

    @pytest.mark.parametrize(
        ("bad", "said"),
        [
            ({"attribute_filters": {"well": "B03"}}, "Attribute filter 'well' must be a list"),
            ({"attribute_filters": {"well": ["B03", 4]}}, "must have values of one type"),
            ({"type_filters": {"is_3D": "yes"}}, "type 'is_3D' must be true or false"),
            ({"zarr_dir": "data/plate"}, "zarr_dir: 'data/plate' is neither an absolute path"),
        ],
    )
    def test_what_the_author_chooses_is_checked_when_the_file_is_parsed(
        self, bad: dict[str, Any], said: str
    ) -> None:
        with pytest.raises(WorkflowError, match=said):
            dag_of("Measure", **bad)
        with DAG("composed"), pytest.raises(WorkflowError, match=said):
            FractalWorkflowGroup(workflow("Measure"), fake_package(), dataset="plate", **bad)

    @pytest.mark.parametrize(
        ("bad", "said"),
        [
            (
                {"first_task_index": 2},
                "first_task_index 2 is out of range: the workflow's 2 steps are 0 to 1",
            ),
            ({"last_task_index": -1}, "last_task_index -1 is out of range"),
            (
                {"first_task_index": 1, "last_task_index": 0},
                "first_task_index 1 comes after last_task_index 0",
            ),
            ({"type_filters": "{is_3D"}, "neither an object nor JSON text"),
        ],
    )
    def test_so_are_indices_and_texts_of_a_workflow_group(self, bad: dict[str, Any], said: str) -> None:
        with DAG("composed"), pytest.raises(WorkflowError, match=said):
            FractalWorkflowGroup(workflow("Measure", "Measure"), fake_package(), dataset="plate", **bad)

    def test_templates_are_not(self) -> None:
        dag_of(
            "Measure",
            zarr_dir="{{ var.value.data }}",
            attribute_filters={"well": ["{{ var.value.well }}"]},
        )


class TestComposing:
    """Groups inside a DAG of the author's own."""

    def test_a_group_may_be_made_from_a_task_that_is_resolved_already(self) -> None:
        with DAG("composed") as dag:
            FractalTaskGroup(step({"name": "Measure", "alias": "Spots"}), dataset="plate", group_id="spots")

        assert set(edges(dag)) == {"spots.select", "spots.run", "spots.merge"}

    def test_every_step_of_a_dag_has_a_number_of_its_own(self) -> None:
        with DAG("composed") as dag:
            groups = [
                FractalTaskGroup("Measure", fake_package(), dataset="plate", group_id="first"),
                *FractalWorkflowGroup(workflow("Project", "Measure"), fake_package(), dataset="plate").groups,
                FractalTaskGroup("Measure", fake_package(), dataset="plate", group_id="last"),
            ]

        assert [group.number for group in groups] == [0, 1, 2, 3]
        assert dag.get_task("last.merge").step_number == 3
        assert dag.get_task("last.run").partial_kwargs["step_number"] == 3

    def test_the_output_of_a_group_is_the_dataset_of_the_next(self) -> None:
        with DAG("composed") as dag:
            first = FractalWorkflowGroup(workflow("Measure"), fake_package(), dataset="plate", group_id="a")
            FractalTaskGroup("Measure", fake_package(), dataset=first.output, group_id="b")

        assert edges(dag)["a.0_measure.merge"] == {"b.select", "a.report"}

    def test_what_is_wrong_with_a_task_is_said_at_once(self) -> None:
        with DAG("composed"), pytest.raises(WorkflowError) as error:
            FractalTaskGroup(
                "Measure", fake_package(), dataset="plate", args_parallel={"threshold": -1, "zarr_url": "/x"}
            )

        assert "args_parallel.threshold: -1 is less than the minimum of 0" in str(error.value)
        assert "args_parallel.zarr_url: this argument is reserved" in str(error.value)

    def test_templates_are_checked_when_they_are_filled_in(self) -> None:
        with DAG("composed"):
            FractalTaskGroup(
                "Measure", fake_package(), dataset="plate", args_parallel={"threshold": "{{ params.t }}"}
            )


class TestWhere:
    """Where units run: the whole workflow, or single tasks of it."""

    STEPS = ("Measure", {"name": "Measure", "alias": "Again"}, "Project")

    def resources(self, **options: Any) -> list[str]:
        return [group.resource for group in dag_of(*self.STEPS, **options).groups]

    def test_one_word_moves_a_workflow_to_a_cluster(self) -> None:
        assert self.resources() == ["local"] * 3
        assert self.resources(resource="hpc") == ["hpc"] * 3

    def test_single_tasks_may_run_elsewhere(self) -> None:
        assert self.resources(resources={"Project": "gpu"}) == ["local", "local", "gpu"]
        assert self.resources(resource="hpc", resources={"Measure": "gpu"}) == ["gpu", "gpu", "hpc"]
        assert self.resources(resource="hpc", resources={"Measure": "a", "Again": "b"}) == ["a", "b", "hpc"]

    def test_all_parts_of_a_step_know_where_it_runs(self) -> None:
        dag = dag_of("Measure", "Project", resource="hpc", resources={"Project": "gpu"})

        for name in ("select", "init", "merge"):
            assert dag.get_task(f"1_project.{name}").resource == "gpu"
        assert dag.get_task("1_project.run").partial_kwargs["resource"] == "gpu"
        assert dag.get_task("0_measure.run").partial_kwargs["resource"] == "hpc"

    def test_a_task_that_is_not_in_the_workflow_is_an_error_that_names_those_that_are(self) -> None:
        with pytest.raises(WorkflowError, match=r"no task 'Cellpose'; its tasks are 'Measure', 'Again'"):
            self.resources(resources={"Cellpose": "gpu"})

    def test_what_befalls_a_job_is_made_good_without_being_told(self) -> None:
        dag = dag_of("Measure", "Project", resources={"Project": "hpc"})

        assert dag.get_task("0_measure.run").retries == 0
        for name in ("init", "run", "merge"):
            assert dag.get_task(f"1_project.{name}").retries == 3

    def test_what_the_author_says_of_retries_holds(self) -> None:
        dag = dag_of("Measure", resource="hpc", default_args={"retries": 1})

        assert dag.get_task("0_measure.run").retries == 1

    def test_the_author_may_have_failing_tasks_tried_again(self) -> None:
        dag = dag_of("Measure", retry_failed_tasks=True)

        assert dag.get_task("0_measure.run").partial_kwargs["retry_policy"] is FAILED_TASKS_TOO

    def test_a_run_on_a_cluster_may_choose_an_account_and_how_its_jobs_begin(self) -> None:
        dag = dag_of("Measure", resources={"Measure": "hpc"}, slurm_account="imaging")

        assert dag.params["slurm_account"] == "imaging"
        assert dag.params["worker_init"] is None
        run = dag.get_task("0_measure.run").partial_kwargs
        assert (run["slurm_account"], run["worker_init"]) == (
            "{{ params.slurm_account }}",
            "{{ params.worker_init }}",
        )

    def test_a_run_on_this_machine_is_not_asked_for_them(self) -> None:
        dag = dag_of("Measure", slurm_account="imaging")

        assert not {"slurm_account", "worker_init"} & set(dag.params)

    @pytest.mark.parametrize("account", ["a b", "x\n#SBATCH --uid=0"])
    def test_an_account_that_cannot_be_one_is_refused(self, account: str) -> None:
        with pytest.raises(WorkflowError, match="slurm_account"):
            dag_of("Measure", resource="hpc", slurm_account=account)
        with pytest.raises(ParamValidationError):
            dag_of("Measure", resource="hpc").params.get_param("slurm_account").resolve(account)


def test_a_workflow_file_is_found_beside_the_file_of_the_dag(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nuclei.json").write_text('{"name": "n", "task_list": []}', encoding="utf-8")
    file = tmp_path / "my_dag.py"
    text = "from fractal_airflow import FractalDag\nFractalDag('d', 'nuclei.json', [], dataset='p')"
    monkeypatch.chdir("/")

    with pytest.raises(WorkflowError, match=f"{tmp_path}/nuclei.json"):
        exec(compile(text, str(file), "exec"), {})


def test_a_dag_lies_where_its_author_wrote_it() -> None:
    assert dag_of("Measure").fileloc == __file__


@pytest.mark.parametrize(
    ("name", "expected"),
    [("Project Image (HCS Plate)", "project_image_hcs_plate"), ("3D → 2D", "3d_2d"), ("→", "step")],
)
def test_names_become_airflow_ids(name: str, expected: str) -> None:
    assert slug(name) == expected


@pytest.mark.parametrize(
    "filters",
    [
        {"attribute_filters": "{{ params.q }}"},
        {"attribute_filters": {"well": "{{ params.q }}"}},
        {"attribute_filters": '{"well": ["B03"]}'},
        {"type_filters": {"is_3D": "{{ params.q }}"}},
    ],
)
def test_a_dag_whose_filters_are_templates_can_be_triggered(filters: dict[str, Any]) -> None:
    dag = dag_of("Measure", params={"q": ["B03"]}, **filters)

    assert set(filters) <= set(dag.params.validate())


@pytest.mark.parametrize("choice", [{"zarr_dir": "/data"}, {"attribute_filters": {"well": ["B03"]}}])
def test_what_a_group_before_has_chosen_cannot_be_chosen_again(choice: dict[str, Any]) -> None:
    with DAG("composed"):
        first = FractalTaskGroup("Measure", fake_package(), dataset="plate")

        with pytest.raises(WorkflowError, match=f"{next(iter(choice))}: given together with the output"):
            FractalTaskGroup("Measure", fake_package(), dataset=first.output, group_id="second", **choice)


@pytest.mark.parametrize("dataset", [None, "", 5])
def test_a_group_needs_the_name_of_a_dataset(dataset: Any) -> None:
    with DAG("composed"), pytest.raises(WorkflowError, match="dataset: must be a dataset's name"):
        FractalTaskGroup("Measure", fake_package(), dataset=dataset)


def test_packages_that_are_paths_are_refused() -> None:
    with pytest.raises(WorkflowError, match=r"must be task packages, not '/opt/core'.*from_environment"):
        FractalDag("nuclei", workflow("Measure"), "/opt/core", dataset="plate")  # type: ignore[arg-type]
