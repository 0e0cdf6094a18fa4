from __future__ import annotations

from pathlib import Path

import pytest

from minuet.errors import Conflict, DeclarationError
from minuet.tools.scaffold import make_project


def test_every_file_is_filled_in(tmp_path: Path) -> None:
    made = make_project("my_shop", tmp_path)
    assert sorted(map(str, made)) == [".gitignore", "README.md", "minuet.toml", "my_shop.py", "test_my_shop.py"]
    for file in made:
        text = (tmp_path / "my_shop" / file).read_text()
        assert "{{" not in text
        assert "NAME" not in text


@pytest.mark.parametrize("name", ["", "My-Shop", "1shop", "../shop", "class", "shop/x", "x" * 41])
def test_a_name_that_is_no_module_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(DeclarationError):
        make_project(name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_nothing_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    make_project("shop", tmp_path)
    with pytest.raises(Conflict):
        make_project("shop", tmp_path)
