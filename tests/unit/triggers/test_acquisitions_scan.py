from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from fractal_airflow.triggers import acquisitions_scan
from fractal_airflow.triggers.acquisitions_scan import Rule, Scanner, Sight, Wish, list_folders, walk

MARKED = Rule("*.done", 0.0)
QUIET = Rule(None, 60.0)
BOTH = Rule("*.done", 60.0)
SERVER_TIME = 1_000_000_000


class Eye:
    """Looks at one folder, at the times that a test says."""

    def __init__(self, plate: Path, rule: Rule) -> None:
        self.plate, self.rule, self.now = plate, rule, 0.0
        self.scanner = Scanner(str(plate.parent), clock=lambda: self.now)

    def sight(self, now: float) -> Sight:
        self.now = now
        wish = Wish(self.plate.name, self.rule)
        return self.scanner.scan([wish]).sights[wish]

    def completed_at(self, now: float) -> float | None:
        return self.sight(now).completed_at


@pytest.fixture
def plate(tmp_path: Path) -> Path:
    """A plate with an image in a subfolder, all of long ago by the file server's clock."""
    plate = tmp_path / "watched" / "plate_1"
    (plate / "images").mkdir(parents=True)
    (plate / "images" / "1.tif").write_text("1")
    date(plate, SERVER_TIME)
    return plate


def date(plate: Path, time: float) -> None:
    for path in [*plate.rglob("*"), plate]:
        os.utime(path, (time, time))


@pytest.fixture
def walks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every walk through a plate that is made."""
    made: list[str] = []

    def noted(path: str) -> acquisitions_scan.Walk:
        made.append(path)
        return walk(path)

    monkeypatch.setattr(acquisitions_scan, "walk", noted)
    return made


def test_folders_and_links_to_folders_are_listed_and_files_are_not(tmp_path: Path) -> None:
    (tmp_path / "plate").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("plate")
    (tmp_path / "dangling").symlink_to("nowhere")

    folders, unnamed, problems = list_folders(str(tmp_path))

    assert set(folders) == {"plate", "link"}
    assert not unnamed
    assert not problems


def test_a_link_that_leads_to_itself_is_set_apart_and_hides_no_plate(tmp_path: Path) -> None:
    (tmp_path / "plate1").mkdir()
    (tmp_path / "loop").symlink_to("loop")

    scan = Scanner(str(tmp_path)).scan()

    assert set(scan.folders) == {"plate1"}
    assert scan.problems == {"loop": os.strerror(errno.ELOOP)}


@pytest.mark.parametrize(
    "name", ["it's", 'a "b"', "two\nlines", "plaque é 板", " ", "$(rm -rf)", "-rf", "{{ 1 }}"]
)
def test_odd_names_are_names(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()

    folders, _, _ = list_folders(str(tmp_path))

    assert set(folders) == {name}


def test_a_name_that_is_no_text_is_set_apart(tmp_path: Path) -> None:
    (tmp_path / "plate").mkdir()
    os.mkdir(os.fsencode(tmp_path) + b"/caf\xe9")  # noqa: PTH102

    folders, unnamed, _ = list_folders(str(tmp_path))

    assert set(folders) == {"plate"}
    assert unnamed == {"caf\udce9"}


def test_a_folder_that_cannot_be_listed_is_an_error_and_not_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(FileNotFoundError):
        Scanner(str(tmp_path / "nowhere")).scan()
    with pytest.raises(NotADirectoryError):
        Scanner(str(tmp_path / "file")).scan()


def test_the_first_look_takes_the_times_only(plate: Path, walks: list[str]) -> None:
    seen = Eye(plate, QUIET).sight(0)

    assert (seen.judged, seen.completed_at) == (False, None)
    assert (seen.oldest, seen.newest) == (SERVER_TIME, SERVER_TIME)
    assert not walks


def test_a_folder_that_has_not_changed_since_is_not_opened(
    plate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scanner, wish = Scanner(str(plate.parent)), Wish(plate.name, QUIET, unless_after=SERVER_TIME)
    (plate / "images").chmod(0)

    assert scanner.scan([wish]).sights[wish].oldest == SERVER_TIME


class TestMarker:
    def test_it_completes_a_plate(self, plate: Path) -> None:
        eye = Eye(plate, MARKED)
        assert [eye.completed_at(now) for now in (0, 1)] == [None, None]

        (plate / "x.done").touch()
        os.utime(plate / "x.done", (SERVER_TIME + 5, SERVER_TIME + 5))

        assert eye.completed_at(2) == SERVER_TIME + 5

    def test_it_may_lie_in_a_subfolder_that_is_still_to_come(self, plate: Path) -> None:
        eye = Eye(plate, Rule("meta/Index.xml", 0.0))
        assert [eye.completed_at(now) for now in (0, 1)] == [None, None]

        (plate / "meta").mkdir()
        (plate / "meta" / "Index.xml").touch()

        assert eye.completed_at(2) is not None

    def test_a_folder_of_that_name_is_none(self, plate: Path) -> None:
        (plate / "x.done").mkdir()
        eye = Eye(plate, MARKED)

        assert [eye.completed_at(now) for now in (0, 1, 2)] == [None, None, None]

    def test_it_is_found_even_after_hours_and_whatever_the_servers_clock_says(self, plate: Path) -> None:
        eye = Eye(plate, MARKED)
        for now in range(0, 3600, 30):
            assert eye.completed_at(now) is None

        (plate / "x.done").touch()
        os.utime(plate, (SERVER_TIME - 100, SERVER_TIME - 100))

        assert eye.completed_at(3600) is not None

    def test_a_folder_that_does_not_change_is_listed_no_more(
        self, plate: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        eye = Eye(plate, MARKED)
        for now in (0, 1, 100):
            eye.sight(now)
        monkeypatch.setattr(acquisitions_scan.Marker, "_find", lambda _: pytest.fail("listed"))

        assert eye.completed_at(130) is None

    def test_it_is_found_within_minutes_where_the_file_system_does_not_date_folders(
        self, plate: Path
    ) -> None:
        eye = Eye(plate, MARKED)
        for now in range(0, 1000, 10):
            assert eye.completed_at(now) is None

        (plate / "x.done").touch()
        os.utime(plate, (SERVER_TIME, SERVER_TIME))

        assert any(eye.completed_at(now) for now in range(1000, 1301, 10))

    def test_one_that_comes_before_the_last_files_can_be_given_time(self, plate: Path) -> None:
        (plate / "x.done").touch()
        eye = Eye(plate, BOTH)
        assert [eye.completed_at(now) for now in (0, 1, 30)] == [None, None, None]

        (plate / "images" / "2.tif").touch()

        assert [eye.completed_at(now) for now in (61, 62, 120)] == [None, None, None]
        assert eye.completed_at(123) is not None


class TestQuiet:
    def test_a_plate_that_does_not_change_is_complete(self, plate: Path) -> None:
        eye = Eye(plate, QUIET)

        assert [eye.completed_at(now) for now in (0, 1, 60, 61)] == [None, None, None, SERVER_TIME]

    @pytest.mark.parametrize("skew", [-86400, 86400])
    def test_a_plate_that_grows_is_not_whatever_the_servers_clock_says(
        self, plate: Path, skew: float
    ) -> None:
        eye = Eye(plate, QUIET)
        for now in range(0, 600, 20):
            (plate / "images" / f"{now}.tif").touch()
            date(plate, SERVER_TIME + now + skew)
            assert eye.completed_at(now) is None

        assert any(eye.completed_at(now) for now in range(600, 700, 20))

    def test_a_file_that_grows_in_place_is_a_change(self, plate: Path) -> None:
        eye = Eye(plate, QUIET)
        eye.sight(0), eye.sight(1)

        with (plate / "images" / "1.tif").open("a") as image:
            image.write("more")
        date(plate, SERVER_TIME)

        assert [eye.completed_at(now) for now in (61, 62, 120)] == [None, None, None]

    def test_a_deep_file_that_goes_is_a_change(self, plate: Path) -> None:
        (plate / "images" / "deep").mkdir()
        (plate / "images" / "deep" / "tmp").touch()
        date(plate, SERVER_TIME)
        eye = Eye(plate, QUIET)
        eye.sight(0), eye.sight(1)

        (plate / "images" / "deep" / "tmp").unlink()
        date(plate, SERVER_TIME)

        assert eye.completed_at(61) is None

    def test_an_empty_plate_is_never_complete(self, tmp_path: Path) -> None:
        (tmp_path / "watched" / "plate" / "images").mkdir(parents=True)
        eye = Eye(tmp_path / "watched" / "plate", QUIET)

        assert not any(eye.completed_at(now) for now in (0, 1, 100, 1000))

    def test_a_still_plate_is_walked_through_twice_only(self, plate: Path, walks: list[str]) -> None:
        eye = Eye(plate, QUIET)
        for now in range(0, 60):
            assert eye.completed_at(now) is None

        assert eye.completed_at(61) is not None
        assert len(walks) == 2

    def test_a_growing_plate_is_not_walked_through_at_every_look(
        self, plate: Path, walks: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(acquisitions_scan.time, "perf_counter", iter(range(1000)).__next__)  # 1 s a walk
        eye = Eye(plate, QUIET)
        for now in range(0, 400):
            (plate / "images" / f"{now}.tif").touch()
            eye.sight(now)

        assert len(walks) <= 400 * acquisitions_scan.SHARE_OF_TIME + 1

    def test_links_are_not_followed(self, plate: Path) -> None:
        (plate / "loop").symlink_to(plate)
        (plate / "dangling").symlink_to("nowhere")

        assert walk(str(plate)).traces[0] == 4

    def test_a_link_to_a_plate_is_looked_into(self, plate: Path) -> None:
        link = plate.parent / "link"
        link.symlink_to(plate)
        eye = Eye(link, QUIET)

        assert [eye.completed_at(now) for now in (0, 1, 61)] == [None, None, SERVER_TIME]


def test_what_cannot_be_looked_into_is_a_problem_and_no_end(
    plate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    eye = Eye(plate, QUIET)
    eye.sight(0)

    def refuse(path: str) -> acquisitions_scan.Walk:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(acquisitions_scan, "walk", refuse)
    assert "Permission denied" in eye.sight(1).problem
    monkeypatch.setattr(acquisitions_scan, "walk", walk)

    assert [eye.completed_at(now) for now in (2, 62)] == [None, SERVER_TIME]


def test_another_folder_of_the_same_name_starts_anew(plate: Path) -> None:
    eye = Eye(plate, QUIET)
    eye.sight(0), eye.sight(1)
    plate.rename(plate.parent / "other")
    plate.mkdir()
    (plate / "1.tif").touch()

    assert [eye.completed_at(now) for now in (61, 62, 100)] == [None, None, None]
