"""What a search for a part of a name looks up."""

from hypothesis import given
from hypothesis import strategies as st

from app.platform.name_search import name_grams, searched_grams


@given(name=st.text(min_size=1, max_size=100), data=st.data())
def test_every_part_of_a_name_is_found_by_its_grams(name: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(name) - 1))
    part = name[start : data.draw(st.integers(start + 1, len(name)))]
    for spelling in (part, part.casefold()):
        assert set(searched_grams(spelling)) <= set(name_grams(name))


def test_grams_are_the_substrings_of_one_to_three_characters() -> None:
    assert name_grams("Ada") == ["a", "ad", "ada", "d", "da"]
    assert searched_grams("Lovelace") == ["ace", "ela", "lac", "lov", "ove", "vel"]
    assert searched_grams("X") == ["x"]
