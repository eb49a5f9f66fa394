from __future__ import annotations

import pytest

from fractal_airflow.exceptions import WorkflowError
from fractal_airflow.fractal import Image
from fractal_airflow.fractal.choice import (
    parse_image_choice,
    parse_on_failure,
    parse_together,
    untouched_by_failures,
    whole_groups,
    without_failed,
)


def image(url: str, origin: str | None = None, **attributes: object) -> Image:
    return Image(url, origin, dict(attributes), {})


def urls(images: list[Image]) -> list[str]:
    return [each.zarr_url for each in images]


class TestChoices:
    def test_nothing_said_is_all_images_and_a_stop(self) -> None:
        assert (parse_image_choice(None), parse_on_failure("")) == ("all", "stop")

    @pytest.mark.parametrize("value", ["new", 3, ["all"], {"all": True}])
    def test_anything_else_is_refused_by_name(self, value: object) -> None:
        with pytest.raises(WorkflowError, match="images: must be one of all, pending, failed, event, not"):
            parse_image_choice(value)
        with pytest.raises(WorkflowError, match="on_failure: must be one of stop, continue, not"):
            parse_on_failure(value)


class TestWithoutFailed:
    def test_a_failed_image_is_left_out_with_all_that_was_made_of_it(self) -> None:
        raw, other = image("/z/raw"), image("/z/other")
        projected, labelled = image("/z/mip", "/z/raw"), image("/z/labels", "/z/mip")
        images = [raw, other, projected, labelled]

        assert urls(without_failed(images, images, {"/z/raw"})) == ["/z/other"]
        assert urls(without_failed(images, images, {"/z/mip"})) == ["/z/raw", "/z/other"]

    def test_origins_that_are_not_in_the_list_end_the_search(self) -> None:
        images = [image("/z/mip", "/elsewhere")]

        assert without_failed(images, images, {"/z/raw"}) == images
        assert without_failed(images, images, {"/elsewhere"}) == []

    def test_origins_that_go_in_a_circle_are_no_endless_search(self) -> None:
        images = [image("/z/a", "/z/b"), image("/z/b", "/z/a"), image("/z/c", "/z/b")]

        assert without_failed(images, images, {"/z/x"}) == images
        assert without_failed(images, images, {"/z/a"}) == []

    def test_a_long_line_of_origins_is_walked_once(self) -> None:
        images = [image("/z/0"), *(image(f"/z/{n}", f"/z/{n - 1}") for n in range(1, 100_000))]

        assert without_failed(reversed(images), images, {"/z/0"}) == []


class TestWholeGroups:
    WELLS = (
        image("/z/1", plate="p", well="B03", acquisition=0),
        image("/z/2", plate="p", well="B03", acquisition=1),
        image("/z/3", plate="q", well="B03", acquisition=1),
        image("/z/4", plate="p"),
    )

    def test_without_attributes_every_image_is_on_its_own(self) -> None:
        assert urls(whole_groups({"/z/2"}, self.WELLS, [])) == ["/z/2"]

    def test_images_of_one_well_of_one_plate_come_together(self) -> None:
        assert urls(whole_groups({"/z/2"}, self.WELLS, ["plate", "well"])) == ["/z/1", "/z/2"]

    def test_images_that_lack_the_attribute_are_a_group_too(self) -> None:
        assert urls(whole_groups({"/z/4"}, self.WELLS, ["well"])) == ["/z/4"]

    @pytest.mark.parametrize("value", [["well"], {"Task": "well"}, {"Task": []}, {"Task": [1]}])
    def test_a_choice_of_another_shape_is_refused(self, value: object) -> None:
        with pytest.raises(WorkflowError, match="together: "):
            parse_together(value)


class TestUntouchedByFailures:
    def test_a_unit_is_about_what_its_init_args_name(self) -> None:
        failed = [("/z/mip/1", {"origin_url": "/z/1", "method": "mip"})]

        assert untouched_by_failures(["/z/1", "/z/2"], failed) == {"/z/2"}

    def test_lists_and_objects_are_looked_into(self) -> None:
        failed = [("/z/1", {"all": ["/z/2"], "reference": {"url": "/z/3"}})]

        assert untouched_by_failures(["/z/1", "/z/2", "/z/3", "/z/4"], failed) == {"/z/4"}

    def test_nothing_stands_where_a_failed_unit_may_be_about_any_image(self) -> None:
        failed = [("/z/1", None), ("/z/plate", {"method": "mip"})]

        assert untouched_by_failures(["/z/1", "/z/2"], failed) == set()
        assert untouched_by_failures(["/z/1", "/z/2"], [(None, None)]) == set()

    def test_without_failures_all_stand(self) -> None:
        assert untouched_by_failures(["/z/1"], []) == {"/z/1"}
