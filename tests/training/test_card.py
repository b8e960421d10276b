"""Model cards from evaluations: the table is replaced, a person's words are not."""

import tomllib
from pathlib import Path

import pytest

from training.card import describe_metrics, read_scores, update_card

CARD = Path(__file__).parents[2] / "weights" / "inpaint.md"
PRINTED = """\
scratch      fill 20.00  coarse 21.00  refined 25.50  telea 22.00  ns 23.00
logo         fill 18.00  coarse 18.50  refined 19.25  telea 17.00  ns 17.50
"""


def test_only_the_table_of_the_card_changes():
    card = CARD.read_text("utf-8")
    changed = update_card(card, read_scores(PRINTED))
    assert "| this model | **25.50** | **19.25** |" in changed
    assert "| cv2.inpaint, NS | 23.00 | 17.50 |" in changed

    def list_words(text: str) -> list[str]:
        return [line for line in text.splitlines() if not line.startswith("|")]

    assert list_words(changed) == list_words(card)
    assert changed.endswith("\n")


def test_the_shipped_card_is_what_the_shipped_metrics_say():
    manifest = tomllib.loads((CARD.parent / "manifest.toml").read_text("utf-8"))
    metrics = manifest["models"]["inpaint"]["metrics"]
    lines = [
        f"{kind} fill 0 refined {one['ours']:.2f} telea {one['telea']:.2f} ns {one['ns']:.2f}"
        for kind, one in metrics.items()
    ]
    rows = update_card(CARD.read_text("utf-8"), read_scores("\n".join(lines))).splitlines()
    ours = next(row for row in rows if row.startswith("| this model"))
    assert ours in CARD.read_text("utf-8")


def test_metrics_are_toml_that_the_manifest_takes():
    metrics = tomllib.loads(describe_metrics(read_scores(PRINTED)))
    assert metrics["scratch"] == {"ours": 25.5, "ns": 23.0, "telea": 22.0}


@pytest.mark.parametrize("line", ["scratch fill 20.00", "scratch fill", "kind left out"])
def test_what_is_no_evaluation_is_refused(line):
    with pytest.raises(ValueError, match=r"training\.evaluate"):
        read_scores(line)


def test_a_card_without_its_table_is_refused():
    with pytest.raises(ValueError, match="Measured"):
        update_card("# Card\n\n## Limits\n", read_scores(PRINTED))
