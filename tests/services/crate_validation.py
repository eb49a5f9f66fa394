"""Validates an RO-Crate without a network; run in the environment of the validator.

python crate_validation.py CRATE PROFILE SEVERITY CONTEXT
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import requests
from rocrate_validator.models import ValidationSettings
from rocrate_validator.services import validate
from rocrate_validator.utils.http import HttpRequester

CONTEXT_URL = "https://w3id.org/ro/crate/1.1/context"

# What context 1.1 says otherwise than the newer one that is at hand.
OF_1_1 = {
    "ComputationalWorkflow": "https://bioschemas.org/ComputationalWorkflow",
    "FormalParameter": "https://bioschemas.org/FormalParameter",
    "input": "https://bioschemas.org/ComputationalWorkflow#input",
    "output": "https://bioschemas.org/ComputationalWorkflow#output",
}


def main(crate: str, profile: str, severity: str, context: str) -> None:
    """Print the issues as a JSON list."""
    settings = ValidationSettings(
        rocrate_uri=crate,
        profile_identifier=profile,
        requirement_severity=severity,
        cache_path=Path(tempfile.mkdtemp()) / "cache",
        offline=True,
    )
    HttpRequester().session.get = _answer(Path(context))
    issues = validate(settings).get_issues()
    print(json.dumps([f"{each.severity.name} {each.check.identifier} {each.message}" for each in issues]))


def _answer(context: Path) -> Any:
    content = json.loads(context.read_text(encoding="utf-8"))
    content["@context"].update(OF_1_1)

    def get(url: str, **kwargs: Any) -> requests.Response:
        response = requests.Response()
        response.url = str(url)
        response.status_code = 200 if url == CONTEXT_URL else 504
        response.headers["Content-Type"] = "application/ld+json"
        response._content = json.dumps(content).encode() if url == CONTEXT_URL else b""
        return response

    return get


if __name__ == "__main__":
    main(*sys.argv[1:])
