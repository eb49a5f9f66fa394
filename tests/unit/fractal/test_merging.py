"""How the outputs of a step change the image list, and which status its images get."""

from __future__ import annotations

import gc
from collections.abc import Collection, Sequence

import pytest

from fractal_airflow.exceptions import ImageListError
from fractal_airflow.fractal.images import Image, Scalar
from fractal_airflow.fractal.merging import (
    UnitResult,
    apply_output,
    edited_in_place,
    input_statuses,
    merge_outputs,
    merge_step,
)
from fractal_airflow.fractal.task_output import ImageUpdate, TaskOutput

ZARR_DIR = "/data"

A = Image("/data/a", "/data/raw", {"well": "B03", "cycle": 1}, {"is_3D": True})
B = Image("/data/b", None, {"well": "B04"}, {"is_3D": True})


def apply(
    images: list[Image],
    *updates: ImageUpdate,
    removals: Sequence[str] = (),
    output_types: dict[str, bool] | None = None,
    already_removed: Collection[str] = (),
) -> list[Image]:
    return apply_output(
        images,
        TaskOutput(list(updates), list(removals)),
        zarr_dir=ZARR_DIR,
        output_types=output_types or {},
        already_removed=already_removed,
    )


def merge(
    images: list[Image], *results: UnitResult, output_types: dict[str, bool] | None = None
) -> list[Image]:
    """Merge a step that was given all images of the list."""
    return merge_step(
        images,
        results,
        zarr_dir=ZARR_DIR,
        input_urls=[image.zarr_url for image in images],
        output_types=output_types or {},
    )


def done(url: str | None, *updates: ImageUpdate, removals: Sequence[str] = ()) -> UnitResult:
    return UnitResult(url, TaskOutput(list(updates), list(removals)))


def failed(url: str | None) -> UnitResult:
    return UnitResult(url, None, failed=True)


class TestEdit:
    """The image is in the list, and the update has no origin, or the image itself."""

    @pytest.mark.parametrize("origin", [None, A.zarr_url])
    def test_it_overlays_the_images_own_and_keeps_its_origin(self, origin: str | None) -> None:
        update = ImageUpdate(A.zarr_url, origin, {"cycle": 2, "n": 7}, {"masked": True})

        assert apply([A, B], update) == [
            Image(
                A.zarr_url,
                "/data/raw",
                {"well": "B03", "cycle": 2, "n": 7},
                {"is_3D": True, "masked": True},
            ),
            B,
        ]

    def test_null_drops_an_attribute_that_may_be_absent(self) -> None:
        update = ImageUpdate(A.zarr_url, None, {"cycle": None, "never": None})

        assert apply([A], update)[0].attributes == {"well": "B03"}

    def test_values_that_are_false_are_no_null(self) -> None:
        values: dict[str, Scalar | None] = {"zero": 0, "nothing": "", "no": False, "none": 0.0}

        assert apply([B], ImageUpdate(B.zarr_url, None, values))[0].attributes == {"well": "B04", **values}

    def test_it_may_lie_outside_zarr_dir(self) -> None:
        outside = Image("/elsewhere/x")

        assert apply([outside], ImageUpdate(outside.zarr_url, None, {"n": 1})) == [
            Image("/elsewhere/x", None, {"n": 1})
        ]


class TestReCreate:
    """The image is in the list, and the update's origin is another."""

    def test_it_starts_from_the_origin_and_keeps_its_place(self) -> None:
        update = ImageUpdate(A.zarr_url, B.zarr_url, {"n": 1}, {"masked": True})

        assert apply([A, B], update) == [
            Image(A.zarr_url, B.zarr_url, {"well": "B04", "n": 1}, {"is_3D": True, "masked": True}),
            B,
        ]

    def test_the_origin_that_it_has_already_is_another_image_too(self) -> None:
        copy = Image("/data/copy", B.zarr_url, {"own": 1}, {"own": True})

        assert apply([B, copy], ImageUpdate(copy.zarr_url, B.zarr_url))[1] == Image(
            copy.zarr_url, B.zarr_url, B.attributes, B.types
        )

    def test_it_starts_from_nothing_where_the_origin_is_not_in_the_list(self) -> None:
        update = ImageUpdate(A.zarr_url, "/data/gone", {"n": 1}, {"masked": True})

        assert apply([A], update) == [Image(A.zarr_url, "/data/gone", {"n": 1}, {"masked": True})]


class TestAdd:
    """The image is new."""

    def test_it_is_appended_with_what_its_origin_has(self) -> None:
        update = ImageUpdate("/data/a_mip", A.zarr_url, {"cycle": None, "n": 1}, {"is_3D": False})

        assert apply([A, B], update) == [
            A,
            B,
            Image("/data/a_mip", A.zarr_url, {"well": "B03", "n": 1}, {"is_3D": False}),
        ]

    @pytest.mark.parametrize("origin", [None, "/data/gone", "/data/new"])
    def test_it_starts_from_nothing_where_the_origin_is_absent_or_not_in_the_list(
        self, origin: str | None
    ) -> None:
        update = ImageUpdate("/data/new", origin, {"n": 1}, {"is_3D": False})

        assert apply([A], update) == [A, Image("/data/new", origin, {"n": 1}, {"is_3D": False})]

    @pytest.mark.parametrize("url", ["/data", "/data_other/x", "/other", "s3://data/x"])
    def test_it_must_lie_strictly_below_zarr_dir(self, url: str) -> None:
        with pytest.raises(ImageListError, match=f"New image '{url}' does not lie below zarr_dir '/data'"):
            apply([A], ImageUpdate(url))

    def test_it_may_lie_in_s3(self) -> None:
        output = TaskOutput([ImageUpdate("s3://bucket/p/a")])

        assert apply_output([], output, zarr_dir="s3://bucket/p", output_types={}) == [
            Image("s3://bucket/p/a")
        ]

    def test_it_shares_nothing_with_its_origin(self) -> None:
        before, new = apply([A], ImageUpdate("/data/new", A.zarr_url))

        assert new.attributes is not before.attributes
        assert new.types is not before.types


class TestTypes:
    """The image's own or its origin's, the update's, the task's: in rising order of weight."""

    def test_they_weigh_more_in_this_order(self) -> None:
        image = Image("/data/x", None, {}, {"own": True, "update": False, "task": False})
        update = ImageUpdate("/data/x", None, {}, {"update": True, "task": False})

        (updated,) = apply([image], update, output_types={"task": True})

        assert updated.types == {"own": True, "update": True, "task": True}

    def test_only_updated_images_get_the_output_types(self) -> None:
        edited, untouched, new = apply(
            [A, B], ImageUpdate(A.zarr_url), ImageUpdate("/data/new"), output_types={"t": True}
        )

        assert edited.types == {"is_3D": True, "t": True}
        assert untouched is B
        assert new.types == {"t": True}


class TestOrder:
    """Later updates see the effect of earlier ones; removals come last."""

    def test_an_image_may_be_made_from_one_that_the_same_step_made_before(self) -> None:
        first = ImageUpdate("/data/1", A.zarr_url, {"n": 1})
        second = ImageUpdate("/data/2", "/data/1", {"m": 2})

        assert apply([A], first, second)[2].attributes == {"well": "B03", "cycle": 1, "n": 1, "m": 2}
        assert apply([A], second, first)[1].attributes == {"m": 2}

    def test_updates_go_by_the_order_of_the_units(self) -> None:
        units = [
            done("/data/a", ImageUpdate("/data/a", None, {"n": 1}), ImageUpdate("/data/new_a", "/data/a")),
            done("/data/b", ImageUpdate("/data/new_b", "/data/a"), ImageUpdate("/data/b", None, {"n": 2})),
        ]

        urls_and_n = [(image.zarr_url[6:], image.attributes.get("n")) for image in merge([A, B], *units)]

        assert urls_and_n == [("a", 1), ("b", 2), ("new_a", 1), ("new_b", 1)]

    def test_an_image_may_be_replaced_by_one_made_from_it(self) -> None:
        update = ImageUpdate("/data/new", A.zarr_url)

        assert apply([A, B], update, removals=[A.zarr_url]) == [
            B,
            Image("/data/new", A.zarr_url, A.attributes, A.types),
        ]


class TestRemovals:
    """Images that a step takes off the list."""

    def test_they_leave_the_others_in_their_order(self) -> None:
        images = [Image(f"/data/{name}") for name in "abcde"]

        assert apply(images, removals=["/data/d", "/data/a"]) == [images[1], images[2], images[4]]

    def test_what_is_not_in_the_list_cannot_be_removed(self) -> None:
        with pytest.raises(ImageListError, match="'/data/x' cannot be removed: it is not in the image list"):
            apply([A], removals=["/data/x"])

    def test_what_this_step_has_removed_already_may_be_removed_again(self) -> None:
        assert apply([A], removals=["/data/x"], already_removed=["/data/x"]) == [A]
        with pytest.raises(ImageListError, match="'/data/y' cannot be removed"):
            apply([A], removals=["/data/x", "/data/y"], already_removed=["/data/x"])

    def test_what_was_removed_already_and_is_back_is_removed_again(self) -> None:
        assert apply([A, B], removals=[A.zarr_url], already_removed=[A.zarr_url]) == [B]

    def test_an_image_made_from_one_that_the_step_removed_is_the_same_when_merged_again(self) -> None:
        update = ImageUpdate("/data/a_mip", A.zarr_url, {"cycle": None}, {"is_3D": False})

        once = apply([A, B], update, removals=[A.zarr_url])
        again = apply(once, update, removals=[A.zarr_url], already_removed=[A.zarr_url])

        assert again == once == [B, Image("/data/a_mip", A.zarr_url, {"well": "B03"}, {"is_3D": False})]

    def test_an_image_that_another_step_removed_gives_nothing(self) -> None:
        made = Image("/data/a_mip", A.zarr_url, {"well": "B03"})

        assert apply([made], ImageUpdate(made.zarr_url, A.zarr_url)) == [Image(made.zarr_url, A.zarr_url)]


class TestManyOutputs:
    """The outputs of all units are merged first."""

    def test_they_are_joined_in_order(self) -> None:
        one, two, three = (ImageUpdate(f"/data/{n}") for n in (1, 2, 3))

        merged = merge_outputs(
            [TaskOutput([two], ["/data/y"]), TaskOutput(), TaskOutput([three, one], ["/data/x"])]
        )

        assert merged == TaskOutput([two, three, one], ["/data/y", "/data/x"])

    def test_of_none_is_an_empty_one(self) -> None:
        assert merge_outputs([]) == TaskOutput()

    def test_exact_repeats_of_an_update_are_dropped_where_the_first_one_stays(self) -> None:
        def again() -> ImageUpdate:
            return ImageUpdate("/data/1", "/data/a", {"n": 1, "m": None}, {"t": True})

        other_order = ImageUpdate("/data/1", "/data/a", {"m": None, "n": 1}, {"t": True})
        two = ImageUpdate("/data/2")

        merged = merge_outputs([TaskOutput([again(), two, again()]), TaskOutput([other_order, two])])

        assert merged == TaskOutput([again(), two])

    @pytest.mark.parametrize(
        "other",
        [
            ImageUpdate("/data/1"),
            ImageUpdate("/data/1", None, {"n": 2}),
            ImageUpdate("/data/1", None, {"n": 1.0}),
            ImageUpdate("/data/1", None, {"n": True}),
            ImageUpdate("/data/1", None, {"n": "1"}),
            ImageUpdate("/data/1", None, {"n": None}),
            ImageUpdate("/data/1", None, {"n": 1, "m": None}),
            ImageUpdate("/data/1", "/data/a", {"n": 1}),
            ImageUpdate("/data/1", "/data/1", {"n": 1}),
            ImageUpdate("/data/1", None, {"n": 1}, {"t": False}),
        ],
    )
    def test_an_image_updated_in_two_ways_is_an_error(self, other: ImageUpdate) -> None:
        update = ImageUpdate("/data/1", None, {"n": 1})

        with pytest.raises(ImageListError, match="'/data/1' is updated twice, in different ways"):
            merge_outputs([TaskOutput([update]), TaskOutput([other])])

    def test_a_third_update_that_repeats_the_first_does_not_heal_it(self) -> None:
        first, other = ImageUpdate("/data/1", None, {"n": 1}), ImageUpdate("/data/1", None, {"n": 2})

        with pytest.raises(ImageListError, match="updated twice"):
            merge_outputs([TaskOutput([first, other, first])])

    def test_repeated_removals_are_one(self) -> None:
        merged = merge_outputs(
            [TaskOutput([], ["/data/a", "/data/b", "/data/a"]), TaskOutput([], ["/data/b"])]
        )

        assert merged == TaskOutput([], ["/data/a", "/data/b"])

    def test_an_image_updated_and_removed_is_an_error_in_either_order(self) -> None:
        update, removal = TaskOutput([ImageUpdate("/data/a")]), TaskOutput([], ["/data/a"])

        for outputs in (
            [update, removal],
            [removal, update],
            [TaskOutput([ImageUpdate("/data/a")], ["/data/a"])],
        ):
            with pytest.raises(ImageListError, match="'/data/a' is both updated and removed"):
                merge_outputs(outputs)


class TestStepThatReturnsNothing:
    """Where the merged output is empty, the input images count as updated."""

    def test_all_input_images_get_the_output_types_and_no_other_image_does(self) -> None:
        merged = merge_step(
            [A, B],
            [UnitResult(A.zarr_url, TaskOutput())],
            zarr_dir=ZARR_DIR,
            input_urls=[A.zarr_url],
            output_types={"masked": True},
        )

        assert merged == [Image(A.zarr_url, A.origin, A.attributes, {"is_3D": True, "masked": True}), B]

    def test_images_whose_unit_failed_stay_as_they_were(self) -> None:
        first, second = merge([A, B], done(A.zarr_url), failed(B.zarr_url), output_types={"masked": True})

        assert first.types == {"is_3D": True, "masked": True}
        assert second is B

    def test_one_failed_unit_of_several_is_enough(self) -> None:
        units = [done(A.zarr_url), failed(A.zarr_url), done(A.zarr_url), done(B.zarr_url)]

        first, second = merge([A, B], *units, output_types={"masked": True})

        assert first is A
        assert second.types == {"is_3D": True, "masked": True}

    def test_an_input_image_without_a_unit_counts_as_updated(self) -> None:
        first, second = merge([A, B], done(B.zarr_url), output_types={"registered": True})

        assert first.types == second.types == {"is_3D": True, "registered": True}

    def test_an_empty_parallelization_list_is_an_empty_output(self) -> None:
        assert [image.types["t"] for image in merge([A, B], output_types={"t": True})] == [True, True]

    def test_a_command_over_all_images_that_failed_updates_none(self) -> None:
        assert merge([A, B], failed(None), output_types={"t": True}) == [A, B]

    def test_a_converter_has_no_input_to_update(self) -> None:
        merged = merge_step([A], [done(None)], zarr_dir=ZARR_DIR, input_urls=[], output_types={"t": True})

        assert merged == [A]

    def test_an_input_image_that_another_run_has_removed_since_does_not_come_back(self) -> None:
        merged = merge_step(
            [A], [done(None)], zarr_dir=ZARR_DIR, input_urls=[A.zarr_url, B.zarr_url], output_types={}
        )

        assert merged == [A]

    def test_removals_alone_update_nothing(self) -> None:
        merged = merge([A, B], done(None, removals=[A.zarr_url]), output_types={"t": True})

        assert merged == [B]

    def test_one_units_update_is_the_only_one(self) -> None:
        first, second = merge(
            [A, B], done(A.zarr_url, ImageUpdate(A.zarr_url)), done(B.zarr_url), output_types={"t": True}
        )

        assert first.types == {"is_3D": True, "t": True}
        assert second is B


class TestWholeStep:
    """From the units' results to the next image list."""

    def test_outputs_of_failed_units_do_not_count(self) -> None:
        torn = UnitResult(B.zarr_url, TaskOutput([ImageUpdate(B.zarr_url, None, {"n": 1})]), failed=True)

        merged = merge([A, B], done(A.zarr_url, ImageUpdate(A.zarr_url, None, {"n": 1})), torn)

        assert [image.attributes.get("n") for image in merged] == [1, None]

    def test_a_task_may_change_images_that_it_was_not_given(self) -> None:
        merged = merge_step(
            [A, B],
            [done(A.zarr_url, ImageUpdate(B.zarr_url, None, {"n": 1}), removals=[A.zarr_url])],
            zarr_dir=ZARR_DIR,
            input_urls=[A.zarr_url],
            output_types={},
        )

        assert merged == [Image(B.zarr_url, None, {"well": "B04", "n": 1}, B.types)]

    def test_a_merge_again_may_remove_again(self) -> None:
        merged = merge_step(
            [B],
            [done(None, removals=[A.zarr_url])],
            zarr_dir=ZARR_DIR,
            input_urls=[A.zarr_url, B.zarr_url],
            output_types={"t": True},
            already_removed=frozenset([A.zarr_url]),
        )

        assert merged == [B]

    @pytest.mark.parametrize(
        "bad",
        [
            done("/data/b", ImageUpdate("/elsewhere/x")),
            done("/data/b", ImageUpdate("/data/a", None, {"n": 2})),
            done("/data/b", removals=["/data/missing"]),
            done("/data/b", removals=["/data/a"]),
        ],
    )
    def test_an_error_leaves_the_image_list_as_it_was(self, bad: UnitResult) -> None:
        a = Image("/data/a", None, {"well": "B03"}, {"is_3D": True})
        images = [a, B]

        with pytest.raises(ImageListError):
            merge(images, done(a.zarr_url, ImageUpdate(a.zarr_url, None, {"n": 1}, {"is_3D": False})), bad)

        assert images == [a, B]
        assert a == Image("/data/a", None, {"well": "B03"}, {"is_3D": True})
        assert gc.isenabled()


class TestStatuses:
    """Done or failed, for each input image."""

    def test_of_a_parallel_task_each_image_has_that_of_its_unit(self) -> None:
        assert input_statuses(["/a", "/b"], [done("/a"), failed("/b")]) == {"/a": "done", "/b": "failed"}

    @pytest.mark.parametrize(("result", "status"), [(done(None), "done"), (failed(None), "failed")])
    def test_of_a_non_parallel_task_all_images_have_that_of_the_command(
        self, result: UnitResult, status: str
    ) -> None:
        assert input_statuses(["/a", "/b"], [result]) == {"/a": status, "/b": status}

    def test_of_a_compound_task_an_image_without_a_unit_is_done_if_no_unit_failed(self) -> None:
        assert input_statuses(["/a", "/b"], [done("/a"), done("/x")]) == {"/a": "done", "/b": "done"}
        assert input_statuses(["/a", "/b"], [done("/a"), failed("/x")]) == {"/a": "done", "/b": "failed"}

    @pytest.mark.parametrize("fails", [(True, False), (False, True), (True, True)])
    def test_of_an_image_with_several_units_all_must_succeed(self, fails: tuple[bool, bool]) -> None:
        results = [UnitResult("/a", failed=fail) for fail in fails]

        assert input_statuses(["/a"], results) == {"/a": "failed"}

    def test_of_a_step_without_units_all_are_done(self) -> None:
        assert input_statuses(["/a"], []) == {"/a": "done"}
        assert input_statuses([], [done(None)]) == {}


class TestEditedInPlace:
    """A unit that says nothing may have edited its image all the same."""

    def test_an_image_whose_unit_returned_nothing_is_a_new_object_with_the_same_entry(self) -> None:
        results = [
            UnitResult(A.zarr_url, TaskOutput()),
            UnitResult(B.zarr_url, TaskOutput([ImageUpdate(B.zarr_url)])),
        ]

        a, b = edited_in_place([A, B], results)

        assert a == A
        assert a is not A
        assert b is B

    def test_a_failed_unit_and_a_command_over_all_images_edit_none(self) -> None:
        results = [UnitResult(A.zarr_url, None, failed=True), UnitResult(None, TaskOutput())]

        a, b = edited_in_place([A, B], results)

        assert a is A
        assert b is B
