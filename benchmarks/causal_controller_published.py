"""What the CausalGAN paper reports for its causal controllers (Kocaoglu et al., Fig. 7, Tables 1 and 2)."""

from __future__ import annotations

#: Fig. 7b: total variation distance at the steps 1, 1,001, 2,001, ... (of rcG1 the first 11, and the end).
CURVES: dict[str, tuple[float, ...]] = {
    "cG1": (0.987, 0.561, 0.481, 0.369, 0.269, 0.185, 0.118, 0.106, 0.116, 0.093, 0.081, 0.074, 0.074, 0.064, 0.059,
            0.066, 0.052, 0.049, 0.046, 0.044, 0.043, 0.042, 0.039, 0.043, 0.042, 0.043, 0.043, 0.043, 0.035, 0.037,
            0.039),
    "G1": (0.954, 0.529, 0.440, 0.358, 0.268, 0.207, 0.185, 0.193, 0.193, 0.170, 0.157, 0.151, 0.148, 0.152, 0.152,
           0.149, 0.145, 0.142, 0.138, 0.144),
    "rcG1": (0.892, 0.513, 0.443, 0.357, 0.293, 0.197, 0.138, 0.111, 0.087, 0.086, 0.073),
}

#: The last published distance of each curve, and its step.
LAST: dict[str, tuple[int, float]] = {"cG1": (30_001, 0.039), "G1": (19_001, 0.144), "rcG1": (30_001, 0.044)}

#: Fig. 7a: share of outputs within 0.05 of 0 or 1, for G1.
DISCRETE = 0.96

#: Table 1: probabilities of pairs of labels, (label, its value, male) -> (G1, cG1, data).
PAIRS: dict[tuple[str, int, int], tuple[float, float, float]] = {
    ("young", 0, 0): (0.14, 0.07, 0.07), ("young", 0, 1): (0.09, 0.15, 0.15),
    ("young", 1, 0): (0.47, 0.51, 0.51), ("young", 1, 1): (0.29, 0.27, 0.26),
    ("mustache", 0, 0): (0.61, 0.58, 0.58), ("mustache", 0, 1): (0.34, 0.38, 0.38),
    ("mustache", 1, 0): (0.00, 0.00, 0.00), ("mustache", 1, 1): (0.04, 0.04, 0.04),
}

#: Table 2: probability of each label, (G1, cG1, data).
MARGINALS: dict[str, tuple[float, float, float]] = {
    "bald": (0.02244, 0.02328, 0.02244), "eyeglasses": (0.06180, 0.05801, 0.06406), "male": (0.38446, 0.41938, 0.41675),
    "mouth_slightly_open": (0.49476, 0.49413, 0.48343), "mustache": (0.04596, 0.04231, 0.04154),
    "narrow_eyes": (0.12329, 0.11458, 0.11515), "smiling": (0.48766, 0.48730, 0.48208),
    "wearing_lipstick": (0.48111, 0.46789, 0.47243), "young": (0.76737, 0.77663, 0.77362),
}
