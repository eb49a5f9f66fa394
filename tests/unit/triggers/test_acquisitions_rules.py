from __future__ import annotations

import math

import pytest

from fractal_airflow.triggers.acquisitions_rules import (
    DAY_S,
    RECHECK_S,
    Judgement,
    Known,
    Reported,
    Watch,
    acquisition_id,
)
from fractal_airflow.triggers.acquisitions_scan import Rule, Scan, Sight, Wish

RULE = Rule("done", 0.0)
BEGAN = 1000 * DAY_S


class Folder:
    """A watched folder that a test makes up, and one watcher of it."""

    def __init__(self, pattern: str = "*", existing_days: float | None = 1.0) -> None:
        self.reported = Reported(BEGAN)
        self.watch = Watch(pattern, RULE, existing_days, self.reported)
        self.folders: dict[str, int] = {}
        self.sights: dict[str, Sight] = {}
        self.wishes: set[Wish] = set()
        self.now = 0.0

    def add(
        self, name: str, inode: int = 1, *, at: float = BEGAN, done: bool = True, since: float = BEGAN
    ) -> None:
        self.folders[name] = inode
        self.sights[name] = Sight(True, at if done else None, oldest=at, newest=at, placed_at=since)

    def look(self) -> Judgement:
        """Look until nothing is urgent, and take what was found for reported."""
        for _ in range(5):
            sights = {wish: self.sights[wish.name] for wish in self.wishes if wish.name in self.folders}
            judgement = self.watch.judge(Scan(self.folders, frozenset(), sights), self.now)
            self.wishes = judgement.wishes
            self.reported.forget(judgement.gone)
            self.reported.add(judgement.known)
            if not judgement.urgent:
                self.reported.add({found.name: found.known for found in judgement.found})
                return judgement
        raise AssertionError("it never ends")

    def new(self) -> list[str]:
        return [found.name for found in self.look().found]


def test_a_complete_folder_is_found_once() -> None:
    folder = Folder()
    folder.add("plate")

    assert folder.new() == ["plate"]
    assert folder.new() == []


def test_what_is_not_complete_is_looked_into_again_and_the_rest_is_not() -> None:
    folder = Folder()
    folder.add("done")
    folder.add("growing", done=False)
    folder.look()

    assert {wish.name for wish in folder.look().wishes} == {"growing"}


def test_several_are_found_in_the_order_of_their_completion() -> None:
    folder = Folder()
    folder.add("b", at=BEGAN + 1)
    folder.add("c", at=BEGAN)
    folder.add("a", at=BEGAN + 1)

    assert folder.new() == ["c", "a", "b"]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*", {"plate", "Plate", "a b"}),
        ("plate*", {"plate"}),
        ("[Pp]late", {"plate", "Plate"}),
        (".*", {".hidden"}),
    ],
)
def test_a_pattern_chooses_folders_as_in_a_shell(pattern: str, names: set[str]) -> None:
    folder = Folder(pattern)
    for name in ("plate", "Plate", ".hidden", "a b"):
        folder.add(name)

    assert set(folder.new()) == names


class TestWhatWasThereBefore:
    def test_what_is_older_than_the_days_given_is_known(self) -> None:
        folder = Folder(existing_days=1)
        folder.add("old", at=BEGAN - 2 * DAY_S, since=BEGAN - 2 * DAY_S)
        folder.add("recent", at=BEGAN - DAY_S / 2, since=BEGAN - DAY_S / 2)

        assert folder.new() == ["recent"]
        assert "old" in folder.reported.known

    def test_none_is_known_if_that_is_wished(self) -> None:
        folder = Folder(existing_days=None)
        folder.add("old", at=0, since=0)

        assert folder.new() == ["old"]

    def test_old_folders_that_show_up_late_were_there_before(self) -> None:
        """A share that is mounted after the watcher has begun."""
        folder = Folder()
        folder.look()
        folder.add("old", at=0, since=0)

        assert folder.new() == []

    def test_an_old_folder_that_is_moved_in_later_is_new(self) -> None:
        folder = Folder()
        folder.add("old", at=0, since=BEGAN + 60)

        assert folder.new() == ["old"]

    def test_what_came_while_nobody_watched_is_new(self) -> None:
        """Weeks later, by a watcher that was restarted, and with other arguments."""
        folder = Folder()
        folder.add("plate", at=BEGAN + 60, since=BEGAN + 60)
        folder.watch = Watch("p*", Rule(None, 5.0), 1.0, folder.reported)

        assert folder.new() == ["plate"]


class TestTheSameOrAnother:
    @pytest.fixture
    def folder(self) -> Folder:
        """A folder with a plate that was reported."""
        folder = Folder()
        folder.add("plate", at=BEGAN + 10)
        assert folder.new() == ["plate"]
        return folder

    def test_one_that_went_away_and_came_back_is_the_same(self, folder: Folder) -> None:
        del folder.folders["plate"]
        assert folder.new() == []
        folder.folders["plate"] = 1

        assert folder.new() == []

    def test_a_folder_that_is_empty_for_a_while_loses_nothing(self, folder: Folder) -> None:
        """As a share is that was unmounted, and where inodes are others after that."""
        folder.folders = {}
        folder.look()
        folder.folders = {"plate": 99}

        assert folder.new() == []
        assert folder.look().wishes == set()
        assert folder.reported.known["plate"].inode == 99

    @pytest.mark.parametrize("inode", [1, 2])
    def test_one_of_the_same_name_in_which_all_is_newer_is_another(self, folder: Folder, inode: int) -> None:
        del folder.folders["plate"]
        folder.look()
        folder.add("plate", inode, at=BEGAN + 20)

        assert folder.new() == ["plate"]
        assert folder.new() == []

    def test_another_with_the_same_inode_is_noticed_later_even_if_the_first_was_not_seen_to_go(
        self, folder: Folder
    ) -> None:
        folder.add("plate", at=BEGAN + 20)
        assert folder.new() == []
        folder.now += RECHECK_S

        assert folder.new() == ["plate"]

    def test_a_note_that_is_added_to_a_known_plate_changes_nothing(self, folder: Folder) -> None:
        folder.sights["plate"] = Sight(True, BEGAN + 10, oldest=BEGAN + 5, newest=BEGAN + 99)
        folder.now += RECHECK_S

        assert folder.new() == []

    def test_one_that_grows_again_is_found_when_it_is_complete(self, folder: Folder) -> None:
        folder.add("plate", 2, at=BEGAN + 20, done=False)
        assert folder.new() == []
        folder.add("plate", 2, at=BEGAN + 30)

        assert folder.new() == ["plate"]

    def test_what_was_forgotten_is_not_known_by_an_old_note(self, folder: Folder) -> None:
        old = folder.reported.known["plate"]
        folder.reported.forget(["plate"])
        folder.reported.add({"plate": old})
        assert "plate" not in folder.reported.known

        folder.reported.add({"plate": Known(2, BEGAN + 20)})
        assert "plate" in folder.reported.known


def test_a_folder_that_cannot_be_looked_into_is_waited_for() -> None:
    folder = Folder()
    folder.add("plate")
    folder.sights["plate"] = Sight(judged=True, problem="Permission denied")

    judgement = folder.look()
    assert judgement.problems == {"plate": "Permission denied"}
    assert not folder.reported.known

    folder.add("plate")
    assert folder.new() == ["plate"]


def test_a_new_empty_folder_is_no_old_one() -> None:
    folder = Folder()
    folder.folders["plate"] = 1
    folder.sights["plate"] = Sight(False, None, oldest=math.inf, newest=BEGAN, placed_at=BEGAN)
    folder.wishes = {Wish("plate", RULE)}
    sights = dict.fromkeys(folder.wishes, folder.sights["plate"])

    judgement = folder.watch.judge(Scan(folder.folders, frozenset(), sights), 0.0)

    assert (judgement.urgent, judgement.known) == (True, {})


def test_an_id_is_that_of_one_acquisition() -> None:
    same = {acquisition_id("/a/plate", 1.5), acquisition_id("/a/plate", 1.5)}
    others = {acquisition_id("/b/plate", 1.5), acquisition_id("/a/plate", 1.75)}

    assert len(same) == 1
    assert len(same | others) == 3
