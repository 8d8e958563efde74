"""Whether the method's own assumptions hold here: linear separability, calibration, support (CAGE, appendix A)."""

from __future__ import annotations

import dataclasses
from typing import Any

from deepscm.evaluation.report import Table
from deepscm.probing.classifiers import Classifier
from deepscm.probing.generators import LatentGenerator


@dataclasses.dataclass(frozen=True)
class Check:
    """What was found for each attribute.

    Attributes:
        table: the numbers.
        reasons: by attribute, why effects of it should not be believed; an empty tuple where nothing speaks against.
    """

    table: Table
    reasons: dict[str, tuple[str, ...]]

    @property
    def passed(self) -> bool:
        """Whether nothing speaks against any attribute."""
        return not any(self.reasons.values())


def check(
    generator: LatentGenerator,
    attributes: Any,
    *,
    data: Any = None,
    latents: Any = None,
    classifiers: dict[str, Classifier] | None = None,
    alpha: float = 1.0,
    samples: int = 20_000,
    penalty: float = 1.0,
    seed: int = 0,
) -> Check:
    """Test separability (against boosted trees on the same rows), calibration and support, and give reasons.

    Args:
        generator, attributes, data, latents, alpha, samples, penalty, seed: as for `probe`.
        classifiers: fitted ones, to save fitting them again.
    """
    raise NotImplementedError
