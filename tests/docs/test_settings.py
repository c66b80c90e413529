"""The page of operations lists the settings as the code has them."""

from __future__ import annotations

from pipeline_project.settings import Settings
from tests.docs.pages import DOCS, read, rows


def test_every_setting_is_listed_with_its_default_and_meaning() -> None:
    expected = [
        [f"`PIPELINE_{name.upper()}`", "" if field.default is None else f"`{field.default}`", field.description]
        for name, field in Settings.model_fields.items()
    ]
    assert rows(read(DOCS / "operations.md"), "variable | default") == expected
