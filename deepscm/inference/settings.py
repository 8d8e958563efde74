"""How missing variables are inferred: the options that `abduct` and `counterfactual` pass on."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal

from deepscm.errors import DataError

METHODS = ("auto", "exact", "importance", "recognition")


class InferenceWarning(UserWarning):
    """Inference ran, but its answer may be poor."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """Options of inference with partial evidence.

    Args:
        method: "auto" enumerates discrete variables where it can and samples with importance weights elsewhere, or,
            where evidence without a density leaves nothing to weigh by, takes the recognition model's word; "exact"
            refuses what cannot be enumerated; "importance" weights also what could be enumerated; "recognition" takes
            the recognition model's word without weights (the amortised answer).
        particles: weighted draws for each row.
        recognition: a model to propose particles with, instead of `scm.recognition`; False uses none.
        stretch: factor on the recognition model's deviations where its word is taken: 1 draws from it, 0 takes its
            means, a code without noise.
        khat_limit: largest Pareto k-hat that counts as reliable (Vehtari et al., 2024); it is not asked for where the
            effective sample size shows that all weights are nearly equal.
        min_ess: smallest effective sample size that counts as reliable.
        tolerated: share of rows that may be unreliable before that is an error.
        on_collapse: "raise" `InferenceError`, or "warn" and answer all the same.
        configurations: largest joint number of values that is enumerated.

    Raises:
        DataError: an unknown option, or a value without meaning.

    Example:
        >>> Settings.of({"particles": 200}).particles
        200
    """

    method: Literal["auto", "exact", "importance", "recognition"] = "auto"
    particles: int = 1000
    recognition: Any = None
    stretch: float = 1.0
    khat_limit: float = 0.7
    min_ess: float = 20.0
    tolerated: float = 0.05
    on_collapse: Literal["raise", "warn"] = "raise"
    configurations: int = 4096

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise DataError(f"method={self.method!r} came; one of {', '.join(METHODS)} is expected.")
        if self.on_collapse not in ("raise", "warn"):
            raise DataError(f'on_collapse={self.on_collapse!r} came; "raise" or "warn" is expected.')
        if not 0 <= self.stretch < math.inf:
            raise DataError(f"stretch={self.stretch} came; a finite factor of at least 0 is expected (1 draws, 0 takes "
                            "means).")
        if self.particles < 1:
            raise DataError(f"particles={self.particles} came; at least one is expected (a thousand is a good start).")

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Settings:
        """Settings from keyword arguments."""
        known = [field.name for field in dataclasses.fields(cls)]
        unknown = [name for name in options if name not in known]
        if unknown:
            raise DataError(f"unknown option(s) {', '.join(unknown)} came; inference knows {', '.join(known)}.")
        return cls(**options)
