"""Which images a step computes again: each rule as a story of runs."""

from __future__ import annotations

from dataclasses import replace

from fractal_airflow.dataset import NO_IMAGE, DatasetStore, ImageStatus, StepRun
from tests.unit.dataset.changes import ZARR_DIR, image, plate
from tests.unit.dataset.runs import CALL, compute, fail, make, names, step, unchanged


def test_at_first_everything_is_to_be_computed(screen: DatasetStore) -> None:
    assert unchanged(screen, step("monday")) == ""


def test_what_was_computed_with_the_same_fingerprint_is_unchanged(screen: DatasetStore) -> None:
    compute(screen, step("monday"), "a")

    assert unchanged(screen, step("tuesday")) == "a"
    assert unchanged(screen, step("tuesday"), "level 3") == ""
    assert unchanged(screen, step("tuesday", 1)) == ""
    assert unchanged(screen, step("tuesday", dag_id="other")) == ""


def test_a_cleared_select_selects_what_it_selected_before(screen: DatasetStore) -> None:
    compute(screen, step("monday"), "a")
    before = unchanged(screen, step("tuesday"))

    compute(screen, step("tuesday"), "b")

    assert unchanged(screen, step("tuesday")) == before == "a"
    assert unchanged(screen, step("wednesday")) == "ab"


def test_the_newest_result_is_the_one_that_lies_there(screen: DatasetStore) -> None:
    compute(screen, step("monday"))
    compute(screen, step("tuesday"), "a", fingerprint="level 3")

    assert unchanged(screen, step("wednesday"), "level 2") == "b"
    assert unchanged(screen, step("wednesday"), "level 3") == "a"


def test_what_failed_is_to_be_computed_though_it_was_done_once(screen: DatasetStore) -> None:
    compute(screen, step("monday"))
    fail(screen, step("tuesday"), "a")

    assert unchanged(screen, step("wednesday")) == "b"


def test_what_another_run_is_at_is_judged_by_the_record_before(screen: DatasetStore) -> None:
    compute(screen, step("monday"), "a")
    screen.submit("plate", step("tuesday"), CALL, [f"{ZARR_DIR}/a", f"{ZARR_DIR}/b"])

    assert unchanged(screen, step("wednesday")) == "a"


def test_an_image_that_failed_by_the_rules_may_have_been_computed(screen: DatasetStore) -> None:
    fail(screen, step("monday"), "a", computed=True)
    fail(screen, step("monday", 1), "b", computed=False)

    assert unchanged(screen, step("tuesday")) == "a"
    assert unchanged(screen, step("tuesday", 1)) == ""
    assert names(screen.failed_before("plate", step("tuesday"))) == ""
    assert names(screen.failed_before("plate", step("tuesday", 1))) == "b"


def test_what_an_earlier_step_wrote_since_is_to_be_computed(screen: DatasetStore) -> None:
    for index in range(3):
        compute(screen, step("monday", index))
    compute(screen, step("tuesday", 1), "a", fingerprint="level 3")

    assert unchanged(screen, step("tuesday", 2)) == "b"
    assert unchanged(screen, step("wednesday", 2)) == "b"
    assert unchanged(screen, step("wednesday", 0)) == "ab"  # a later step's write is no reason


def test_an_image_that_an_earlier_step_made_anew_is_to_be_computed(screen: DatasetStore) -> None:
    compute(screen, step("monday", 1))

    screen.merge("plate", step("tuesday", 0), make("b"))

    assert unchanged(screen, step("tuesday", 1)) == "a"


def test_what_was_merged_again_counts_with_its_newest_merge(screen: DatasetStore) -> None:
    compute(screen, step("monday", 0))
    compute(screen, step("monday", 1))

    compute(screen, step("monday", 0), "a")  # cleared, and only a was selected

    assert unchanged(screen, step("tuesday", 1)) == "b"


def test_a_converter_is_unchanged_by_its_arguments(screen: DatasetStore) -> None:
    done = [ImageStatus(NO_IMAGE, "done", fingerprint="one plate")]
    screen.merge("plate", step("monday"), make("c"), done)

    assert screen.unchanged("plate", step("tuesday"), "one plate") == {NO_IMAGE}
    assert screen.unchanged("plate", step("tuesday"), "two plates") == set()
    assert [write.zarr_url for write in screen.writes("plate", step("monday"))] == [f"{ZARR_DIR}/c"]


def test_images_that_another_dag_makes_anew_are_to_be_computed(screen: DatasetStore) -> None:
    compute(screen, step("monday"))

    screen.merge("plate", step("tuesday", dag_id="converter"), make("a"))

    assert unchanged(screen, step("wednesday")) == "b"


def test_images_that_another_dag_made_anew_and_then_edited_are_to_be_computed(screen: DatasetStore) -> None:
    compute(screen, step("monday"))

    screen.merge("plate", step("tuesday", dag_id="converter"), make("a"))
    compute(screen, step("wednesday", dag_id="converter"))

    assert unchanged(screen, step("thursday")) == "b"


def test_a_dag_that_came_before_wakes_this_one_where_it_edits_again(screen: DatasetStore) -> None:
    compute(screen, step("monday", dag_id="illumination"))
    compute(screen, step("monday"))
    assert unchanged(screen, step("tuesday")) == "ab"

    compute(screen, step("tuesday", dag_id="illumination"), "a", fingerprint="new flat field")

    assert unchanged(screen, step("tuesday")) == "b"


def test_two_dags_that_edit_the_same_images_do_not_wake_each_other_for_ever(screen: DatasetStore) -> None:
    compute(screen, step("monday", dag_id="first"))
    compute(screen, step("monday", dag_id="second"))

    compute(screen, step("tuesday", dag_id="first"), fingerprint="new")

    assert unchanged(screen, step("tuesday", dag_id="second")) == ""
    compute(screen, step("tuesday", dag_id="second"))
    assert unchanged(screen, step("wednesday", dag_id="first"), "new") == "ab"
    assert unchanged(screen, step("wednesday", dag_id="second")) == "ab"


def test_dags_whose_steps_took_turns_do_not_wake_each_other_for_ever(screen: DatasetStore) -> None:
    order = [step("1", 0, "first"), step("1", 0, "second"), step("1", 1, "first")]
    for one in order:
        compute(screen, one)

    for run in "23":  # whoever is first in turn, all are settled after two rounds
        for one in order:
            again = replace(one, run_id=run)
            todo = set("ab") - set(unchanged(screen, again))
            if todo:
                compute(screen, again, todo)

    assert [unchanged(screen, replace(one, run_id="4")) for one in order] == ["ab"] * 3


def test_a_dag_that_came_before_wakes_this_one_where_its_same_run_edits_again(screen: DatasetStore) -> None:
    compute(screen, step("monday", dag_id="illumination"), "a")
    compute(screen, step("monday"))

    compute(screen, step("monday", dag_id="illumination"))  # cleared; of b it knows only now

    assert unchanged(screen, step("tuesday")) == "b"


def test_a_dag_that_came_later_does_not_wake_this_one_though_its_run_was_cleared(
    screen: DatasetStore,
) -> None:
    compute(screen, step("monday"), "a")
    compute(screen, step("monday", dag_id="later"), "a")

    screen.submit("plate", step("monday"), CALL, [f"{ZARR_DIR}/a"])
    compute(screen, step("monday"), "a")
    compute(screen, step("tuesday", dag_id="later"), "a")

    assert unchanged(screen, step("tuesday")) == "a"


def test_what_any_other_dag_wrote_since_can_count(screen: DatasetStore) -> None:
    compute(screen, step("monday"))
    compute(screen, step("tuesday", 1))  # a later step of its own
    compute(screen, step("tuesday", dag_id="later"), "a")

    assert unchanged(screen, step("wednesday")) == "ab"
    assert screen.unchanged("plate", step("wednesday"), "level 2", any_dag=True) == {f"{ZARR_DIR}/b"}


def test_of_many_images_that_a_run_wrote_those_are_found_that_have_older_records(store: DatasetStore) -> None:
    many = [f"{number:04}" for number in range(1500)]
    plate(store, *many)
    compute(store, step("monday", 1), many[:2])
    compute(store, step("tuesday", 0), many)
    compute(store, step("tuesday", 1), many[1:])

    found = store.unchanged("plate", step("wednesday", 1), "level 2")

    assert found == {f"{ZARR_DIR}/{name}" for name in many[1:]}


def test_a_step_that_was_put_in_does_not_inherit_from_the_one_that_had_its_number(
    screen: DatasetStore,
) -> None:
    fail(screen, step("monday", 0), "a")
    compute(screen, step("monday", 1))
    put_in, moved = StepRun("nuclei", "tuesday", 0, "New"), StepRun("nuclei", "tuesday", 1, step("", 0).task)

    for one in (put_in, moved):
        assert screen.failed_before("plate", one) == set()
        assert screen.unchanged("plate", one, "level 2") == set()


def test_failed_images_are_those_that_failed_last(screen: DatasetStore) -> None:
    fail(screen, step("monday"), "a", "b")
    compute(screen, step("tuesday"), "a")

    assert names(screen.failed_before("plate", step("wednesday"))) == "b"
    assert names(screen.failed_before("plate", step("monday"))) == ""  # its own record does not count
    assert names(screen.failed_before("plate", step("wednesday", 1))) == ""


def test_a_run_knows_what_failed_in_it_and_what_it_wrote(screen: DatasetStore) -> None:
    compute(screen, step("monday", 0), "a")
    fail(screen, step("monday", 1), "b")
    screen.merge("plate", step("monday", 2), make("c"))
    screen.merge("plate", step("monday", 3), lambda images, removed: images[:2])

    def failed(run_id: str, before_step: int) -> str:
        return names(screen.failed_in_run("plate", "nuclei", run_id, before_step))

    def written(run_id: str, before_step: int) -> str:
        return names(screen.written_in_run("plate", "nuclei", run_id, before_step))

    assert [failed("monday", 1), failed("monday", 2), failed("tuesday", 9)] == ["", "b", ""]
    assert [written("monday", n) for n in (0, 1, 3)] == ["", "a", "ac"]
    assert written("tuesday", 9) == ""


def test_what_was_written_between_two_merges(screen: DatasetStore) -> None:
    compute(screen, step("monday", 0), "a")
    compute(screen, step("monday", 1), "b")
    screen.merge("plate", step("monday", 2), lambda images, removed: images[:1])

    assert [names(screen.written_between("plate", n, n + 1)) for n in range(3)] == ["a", "b", ""]
    assert names(screen.written_between("plate", 0, 3)) == "ab"
    assert names(screen.written_between("plate", 0, 3, except_dag_id="nuclei")) == ""


def test_other_datasets_do_not_count(screen: DatasetStore) -> None:
    screen.create("other", ZARR_DIR, [image("a")])
    screen.record_statuses("other", step("monday"), [ImageStatus(f"{ZARR_DIR}/a", "done", fingerprint="f")])

    assert screen.unchanged("other", step("tuesday"), "f") == {f"{ZARR_DIR}/a"}
    assert screen.unchanged("plate", step("tuesday"), "f") == set()
