from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from gptflow.pipeline.spec_files import LiesOutside, NoSuchFile, SpecFolder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "prompts/parts").mkdir(parents=True)
    (tmp_path / "prompts/parts/tone.j2").write_text("Be kind.")
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "prompts/link.txt").symlink_to(tmp_path / "secret.txt")
    return tmp_path / "prompts"


@pytest.mark.parametrize("name", ["../secret.txt", "/etc/passwd", "a/../../secret.txt", "link.txt"])
def test_nothing_outside_of_the_folder_is_read(folder: Path, name: str) -> None:
    with pytest.raises(LiesOutside):
        SpecFolder(folder).path(name)


def test_all_texts_are_those_that_can_be_templates(folder: Path) -> None:
    (folder / "image.png").write_bytes(b"\x89PNG")
    (folder / ".hidden").write_text("x")
    assert SpecFolder(folder).all_texts() == {"parts/tone.j2": "Be kind."}


def test_a_file_that_cannot_be_read_is_no_template() -> None:
    refusing = Path("/proc/self/attr")  # of which even root may read nothing here
    with pytest.raises(OSError, match="Invalid argument"):
        (refusing / "exec").read_bytes()
    assert "exec" not in SpecFolder(refusing).all_texts()


def test_a_file_is_read_once(folder: Path) -> None:
    files = SpecFolder(folder)
    path = files.path("parts/tone.j2")
    assert files.text("parts/tone.j2", path) == "Be kind."
    path.write_text("Be stern.")
    assert files.text("parts/tone.j2", path) == "Be kind."
    assert files.all_texts() == {"parts/tone.j2": "Be kind."}


def test_a_folder_that_was_carried_has_what_was_read_and_no_more(folder: Path) -> None:
    (folder / "other.j2").write_text("x")
    files = SpecFolder(folder)
    name = "parts/tone.j2"
    files.text(name, files.path(name))
    carried: SpecFolder = pickle.loads(pickle.dumps(files))
    (folder / name).unlink()
    assert carried.text(name, carried.path(name)) == "Be kind."
    with pytest.raises(NoSuchFile):
        carried.path("other.j2")


def test_all_texts_are_carried_where_all_were_read(folder: Path) -> None:
    files = SpecFolder(folder)
    texts = files.all_texts()
    carried = pickle.dumps(files)
    (folder / "late.j2").write_text("x")
    assert pickle.loads(carried).all_texts() == texts == {"parts/tone.j2": "Be kind."}
