import pytest

from fastmf.data.escape import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Misérables 映画 😀", "Misérables 映画 😀"),
        ("\x1b[31mred\x07\n", r"\x1b[31mred\x07\n"),
        ("\u202eback", r"\u202eback"),  # the direction of text
        ("\u2028\ue000\ud800", r"\u2028\ue000\ud800"),
    ],
)
def test_characters_that_act_on_a_terminal_are_escaped(text, shown):
    assert printable(text) == shown
