"""Places in the answers of chat models."""

import pytest

from synth.captions.prompts.places import messages, places_in, plain_text


@pytest.mark.parametrize(
    ("answer", "places"),
    [
        ('["Quiet lake", "barn", "quiet lake."]', ["quiet lake", "barn"]),
        ("Sure! ['farmer\\'s market', 'roof']\nEnjoy", ["farmer's market", "roof"]),
        ("[lake, old barn]", ["lake", "old barn"]),
        (" lake, old barn, pier\n\nowl => tree", ["lake", "old barn", "pier"]),
        ("1. **Lake**\n2) old barn\n- pier", ["lake", "old barn", "pier"]),
        ("I'm sorry, I cannot help", []),
        ("", []),
        ("[1, 2, 3]", []),
        ('["a place with far too many words in its name", "pier"]', ["pier"]),
        ("[" * 50_000, []),
    ],
)
def test_places_of_an_answer(answer, places):
    assert places_in(answer) == places


def test_the_request_leaves_out_what_is_known():
    assert "Leave these out: lake, barn." in messages("cat", 20, ["lake", "barn"])[-1][1]
    assert "20 different places" in messages("cat", 20)[-1][1] and "Leave" not in messages("cat", 20)[-1][1]
    assert plain_text("cat").endswith("\n\ncat =>")
