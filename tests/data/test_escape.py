from fastmf.data.escape import printable


def test_characters_that_act_on_a_terminal_are_escaped():
    for text, shown in [
        ("Misérables 映画 😀", "Misérables 映画 😀"),
        ("\x1b[31mred\x07\n", r"\x1b[31mred\x07\n"),
        ("\u202eback", r"\u202eback"),  # the direction of text
        ("\u2028\ue000\ud800", r"\u2028\ue000\ud800"),
    ]:
        assert printable(text) == shown
