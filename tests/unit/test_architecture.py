"""The map at the door names what is there, and all that is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
MAP = (ROOT / "docs" / "architecture.md").read_text()
HANDLER = ROOT / "handler"


def section(title: str) -> str:
    parts = re.split(r"^##+ (.+)$", MAP, flags=re.MULTILINE)
    return parts[parts.index(title) + 1]


def test_every_module_of_the_handler_is_on_the_map() -> None:
    for folder in ("core", "adapters", "tools"):
        text = section(f"handler/{folder}/")
        modules = {path.relative_to(HANDLER / folder).as_posix() for path in (HANDLER / folder).rglob("*.py")}
        named = set(re.findall(r"`([\w/]+\.py)`", text))
        assert named == {name for name in modules if not name.endswith("__init__.py")}
    top = set(re.findall(r"(\w+\.py)", section("The folders")))
    assert {path.name for path in HANDLER.glob("*.py")} - {"__init__.py"} <= top


def test_every_file_that_the_map_names_exists() -> None:
    for name in re.findall(r"`([\w/.-]+\.(?:py|yaml|md))`", MAP):
        places = (ROOT, HANDLER, *(HANDLER / folder for folder in ("core", "adapters", "tools")))
        assert any((place / name).is_file() for place in places), name
    for name in re.findall(r"\]\(([\w/.-]+)(?:#[\w-]+)?\)", MAP):
        assert (ROOT / "docs" / name).exists(), name


def test_the_five_questions_are_answered_by_files() -> None:
    answers = [line for line in section("Five questions").splitlines() if line.startswith("- ")]
    assert len(answers) == 5
    assert all("`handler/" in answer for answer in answers)
