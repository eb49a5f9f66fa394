"""What Airflow learns of the provider, checked by Airflow's own schema and code."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import fractal_airflow
from fractal_airflow.provider import get_provider_info

MODULES_OF = """
import json, sys
{before}
before = set(sys.modules)
{after}
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def test_the_description_follows_airflows_schema() -> None:
    schema = json.loads(files("airflow").joinpath("provider_info.schema.json").read_text(encoding="utf-8"))

    jsonschema.validate(get_provider_info(), schema)


def test_airflow_finds_the_provider() -> None:
    (entry_point,) = (
        each
        for each in entry_points(group="apache_airflow_provider")
        if each.dist and each.dist.name == "fractal-airflow"
    )

    assert entry_point.load() is get_provider_info


def test_the_connection_type_names_its_hook() -> None:
    (connection_type,) = get_provider_info()["connection-types"]
    module, _, name = connection_type["hook-class-name"].rpartition(".")
    hook = getattr(import_module(module), name)

    assert connection_type["connection-type"] == hook.conn_type
    assert connection_type["hook-name"] == hook.hook_name


def test_the_form_offers_what_the_configuration_knows() -> None:
    from fractal_airflow.execution.resource import ResourceConfig

    (connection_type,) = get_provider_info()["connection-types"]

    assert set(connection_type["conn-fields"]) <= set(ResourceConfig.model_fields)
    for field in connection_type["conn-fields"].values():
        jsonschema.Draft202012Validator.check_schema(field["schema"])


def test_the_commands_are_those_of_the_package() -> None:
    (commands,) = get_provider_info()["cli"]
    module, _, name = commands.rpartition(".")

    assert [command.name for command in getattr(import_module(module), name)()] == ["fractal"]


def test_settings_have_descriptions_and_defaults_that_airflow_reads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from airflow.sdk import conf

    options = get_provider_info()["config"]["fractal_airflow"]["options"]
    assert all(option["description"] and "default" in option for option in options.values())
    values = {name: conf.get("fractal_airflow", name) for name in options}
    assert (values["dataset_conn_id"], values["report_dir"]) == ("", "")
    assert Path(values["dataset_file"]).name == "fractal_datasets.db"
    assert Path(values["work_dir"]).is_absolute()


class TestImports:
    """What is imported when: Airflow's components import every provider, and parse DAG files all the time."""

    def loaded(self, after: str, before: str = "") -> set[str]:
        program = MODULES_OF.format(before=before, after=after)
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        return set(json.loads(done.stdout.splitlines()[-1]))

    def test_the_package_alone_is_nothing_but_itself(self) -> None:
        assert self.not_of_python(self.loaded("import fractal_airflow")) == {"fractal_airflow"}

    def test_the_description_needs_nothing_else(self) -> None:
        loaded = self.loaded("import fractal_airflow.provider as p; p.get_provider_info()")

        assert self.not_of_python(loaded) == {"fractal_airflow", "fractal_airflow.provider"}

    def not_of_python(self, names: set[str]) -> set[str]:
        return {name for name in names if name.partition(".")[0] not in sys.stdlib_module_names}

    def test_a_dag_file_needs_neither_the_store_nor_the_runner(self) -> None:
        dag = "from fractal_airflow import FractalDag, FractalTaskGroup, FractalWorkflowGroup, TaskPackage"

        loaded = self.loaded(dag, before="import airflow.sdk; from airflow.sdk import DAG, BaseOperator")

        ours = {name for name in loaded if name.startswith("fractal_airflow.")}
        assert {"fractal_airflow.dag", "fractal_airflow.operators.run"} <= ours
        for later in ("dataset.", "execution.runner", "execution.resource", "execution.run_folder", "cli"):
            assert not {name for name in ours if name.startswith(f"fractal_airflow.{later}")}

    def test_the_rules_need_no_airflow(self) -> None:
        loaded = self.loaded(
            "import fractal_airflow.fractal, fractal_airflow.dataset.store, fractal_airflow.execution.local"
        )

        assert not {name for name in loaded if name.partition(".")[0] == "airflow"}


def test_public_names_are_there() -> None:
    assert {name: getattr(fractal_airflow, name).__name__ for name in fractal_airflow.__all__} == {
        name: name for name in fractal_airflow.__all__
    }
    missing: Any = "FractalDags"
    with pytest.raises(AttributeError, match="FractalDags"):
        getattr(fractal_airflow, missing)
