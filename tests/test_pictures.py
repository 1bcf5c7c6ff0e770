"""The pictures of the README show what the program prints today, whatever the numbers."""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pictures import make
from world import need

ROOT = Path(__file__).parent.parent


@functools.cache
def played() -> dict[str, str]:
    """All scenes, played at once."""
    with ThreadPoolExecutor(len(make.SCENES)) as pool:
        return dict(zip(make.SCENES, pool.map(make.picture, make.SCENES), strict=True))


@pytest.mark.parametrize("name", make.SCENES)
def test_a_picture_is_up_to_date(namespaces: None, name: str) -> None:
    need("nft")
    kept = (make.HERE / f"{name}.svg").read_text()
    again = "run: cd tests && python -m pictures.make"
    assert make.structure(kept) == make.structure(played()[name]), again
    assert f"tests/pictures/{name}.svg" in (ROOT / "README.md").read_text()
    assert "http" not in kept.replace("http://www.w3.org/2000/svg", "")  # nothing is fetched


def test_the_comparison_sees_another_word_and_no_other_number() -> None:
    kept = (make.HERE / "ping.svg").read_text()
    assert make.structure(kept) == make.structure(kept.replace("0.", "17."))
    assert make.structure(kept) != make.structure(kept.replace("received", "got"))
    assert sum(make.structure(kept).values()) > 20
