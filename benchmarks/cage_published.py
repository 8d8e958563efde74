"""What the CAGE paper reports of faces: directions by each method (Table 1, appendix C), augmentation (Table 2)."""

from __future__ import annotations

#: Attribute pairs of Table 1, in CelebA's names; age is "not young". The last is of Fig. 1, and has no row there.
PAIRS: tuple[tuple[str, str], ...] = (
    ("male", "mustache"), ("male", "bald"), ("male", "goatee"), ("male", "rosy_cheeks"), ("old", "bald"),
    ("pointy_nose", "brown_hair"), ("male", "smiling"), ("male", "blond_hair"),
)
METHODS = ("additive noise", "LiNGAM", "NOTEARS", "delta tau", "prior")

#: Table 1: directions by pair, in the order of `METHODS`. The prior of the sixth pair is printed as independence.
TABLE_1: dict[tuple[str, str], tuple[str, ...]] = {
    ("male", "mustache"): ("->", "none", "->", "->", "->"),
    ("male", "bald"): ("->", "none", "->", "->", "->"),
    ("male", "goatee"): ("<-", "<-", "->", "none", "->"),
    ("male", "rosy_cheeks"): ("<-", "<-", "->", "->", "->"),
    ("old", "bald"): ("none", "none", "->", "<-", "->"),
    ("pointy_nose", "brown_hair"): ("none", "<-", "<-", "->", "none"),
    ("male", "smiling"): ("->", "none", "->", "none", "none"),
}

#: Appendix C: hard labels with counterfactuals, then labels without counterfactuals (additive noise, NOTEARS, LiNGAM).
HARD: dict[tuple[str, str], tuple[str, str, str]] = {
    ("male", "mustache"): ("none", "->", "none"), ("male", "bald"): ("none", "none", "none"),
    ("male", "goatee"): ("none", "none", "none"), ("male", "rosy_cheeks"): ("none", "<-", "none"),
    ("old", "bald"): ("none", "<-", "->"), ("pointy_nose", "brown_hair"): ("none", "<-", "->"),
    ("male", "smiling"): ("none", "none", "none"),
}
PLAIN: dict[tuple[str, str], tuple[str, str, str]] = {
    ("male", "mustache"): ("->", "->", "none"), ("male", "bald"): ("->", "->", "none"),
    ("male", "goatee"): ("<-", "->", "none"), ("male", "rosy_cheeks"): ("<-", "->", "none"),
    ("old", "bald"): ("none", "->", "none"), ("pointy_nose", "brown_hair"): ("none", "<-", "none"),
    ("male", "smiling"): ("->", "->", "->"),
}

#: What the prior says of Gender, Blonde Hair (Fig. 1 and section 4.3).
BLOND = "->"

#: Table 2: accuracies in per cent for no augmentation, hair changed (G -> H) and gender changed (H -> G). The text says
#: that changing gender loses 1.6 points; the table says 11.7.
TABLE_2: dict[str, tuple[float, float, float]] = {
    "average, train": (92.5, 86.1, 90.5), "average, validation": (89.0, 89.2, 90.4),
    "average, test": (89.6, 90.7, 88.0),
    "worst, train": (97.9, 68.5, 87.4), "worst, validation": (85.2, 86.3, 88.5),
    "worst, test": (86.7, 89.4, 75.0),
}


def prior(pair: tuple[str, str]) -> str:
    """What the paper takes for granted of a pair."""
    return TABLE_1[pair][-1] if pair in TABLE_1 else BLOND
