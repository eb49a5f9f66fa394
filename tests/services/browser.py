"""Airflow in a browser, Debian's chromium: its trigger form, filled in as a person does it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from playwright.sync_api import Locator, Page, expect, sync_playwright

from tests.services.requirements import program
from tests.services.scheduler import RunningAirflow

WAIT_MS = 30_000
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


@contextmanager
def open_page(width: int = 1280, height: int = 1400) -> Iterator[Page]:
    """Open a page in a browser of its own."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program("chromium"), args=list(FLAGS))
        page = browser.new_page(viewport={"width": width, "height": height})
        page.set_default_timeout(WAIT_MS)
        expect.set_options(timeout=WAIT_MS)
        try:
            yield page
        finally:
            browser.close()


@dataclass(frozen=True)
class TriggerForm:
    """The form in which a run of a DAG is started."""

    page: Page
    dialog: Locator

    @classmethod
    def open(cls, page: Page, airflow: RunningAirflow, dag_id: str) -> TriggerForm:
        """Open the form of a DAG whose file was written just now."""
        airflow.wait(f"DAG {dag_id} is known", lambda: airflow._unpaused(dag_id))
        page.goto(f"{airflow.home.settings['AIRFLOW__API__BASE_URL']}/dags/{dag_id}")
        page.get_by_test_id("trigger-dag-button").click()
        dialog = page.locator('[role=dialog][aria-modal="true"]')
        dialog.get_by_test_id("trigger-dag-submit").wait_for()
        return cls(page, dialog)

    @property
    def sections(self) -> list[str]:
        """The titles of the sections that tasks have."""
        return self.dialog.get_by_role("button", name=re.compile(r"^\d+: ")).all_inner_texts()

    def open_section(self, title: str) -> None:
        """Open a section; Airflow closes the others."""
        button = self.dialog.get_by_role("button", name=title, exact=True)
        if button.get_attribute("aria-expanded") != "true":
            button.click()

    def row(self, title: str) -> Locator:
        """Return the row of the open section with this title: input, description and error."""
        label = self.page.locator("[data-part=label]").filter(
            has_text=re.compile(rf"^{re.escape(title)}\W*$")
        )
        section = self.dialog.locator(
            "[data-scope=accordion][data-part=item-content]:not([data-state=closed])"
        )
        return section.locator("[data-scope=field][data-part=root]").filter(has=label)

    def number(self, title: str) -> Locator:
        """Return the input of a number."""
        return self.row(title).get_by_role("spinbutton")

    def text(self, title: str) -> Locator:
        """Return the input of a text, or of a list of texts."""
        return self.row(title).get_by_role("textbox")

    def choose(self, title: str, choice: str) -> None:
        """Choose from a list what begins with a word."""
        self.row(title).get_by_role("combobox").click()
        self.page.get_by_role("option", name=re.compile(rf"^{re.escape(choice)}\b")).click()

    def write_json(self, title: str, text: str) -> None:
        """Replace what is in a JSON editor."""
        self.row(title).locator(".view-lines").click()
        self.page.keyboard.press("Control+A")
        self.page.keyboard.insert_text(text)
        self.page.keyboard.press("Control+Shift+End")  # the brackets that the editor has closed by itself
        self.page.keyboard.press("Delete")

    def submit(self) -> None:
        """Press the button that starts the run."""
        self.dialog.get_by_test_id("trigger-dag-submit").click()

    def start(self) -> str:
        """Start the run; return its id."""
        with self.page.expect_response(lambda response: response.request.method == "POST") as response:
            self.submit()
        assert response.value.ok, response.value.text()
        return str(response.value.json()["dag_run_id"])
