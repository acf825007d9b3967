from __future__ import annotations

from pathlib import Path

import pytest
from jinja2 import TemplateNotFound

from gptflow.pipeline.template_folder import TemplateFolder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "prompts/parts").mkdir(parents=True)
    (tmp_path / "prompts/parts/tone.j2").write_text("Be kind.")
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "prompts/link.txt").symlink_to(tmp_path / "secret.txt")
    return tmp_path / "prompts"


@pytest.mark.parametrize("name", ["../secret.txt", "/etc/passwd", "a/../../secret.txt", "link.txt"])
def test_nothing_outside_of_the_folder_is_a_template(folder: Path, name: str) -> None:
    with pytest.raises(TemplateNotFound):
        TemplateFolder(folder).path(name)


def test_all_texts_are_those_that_can_be_templates(folder: Path) -> None:
    (folder / "image.png").write_bytes(b"\x89PNG")
    (folder / ".hidden").write_text("x")
    assert TemplateFolder(folder).all_texts() == {"parts/tone.j2": "Be kind."}


def test_a_file_that_cannot_be_read_is_no_template() -> None:
    refusing = Path("/proc/self/attr")  # of which even root may read nothing here
    with pytest.raises(OSError, match="Invalid argument"):
        (refusing / "exec").read_bytes()
    assert "exec" not in TemplateFolder(refusing).all_texts()
