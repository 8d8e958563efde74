"""What probing found: pairs, classifiers, warnings, as tables, JSON and figures."""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import Tensor

from deepscm.evaluation.report import Table
from deepscm.probing.assumptions import Check
from deepscm.probing.classifiers import Classifier
from deepscm.probing.matrix import Matrix
from deepscm.probing.pairs import Pair


@dataclasses.dataclass(frozen=True)
class Report:
    """What `probe` found.

    Attributes:
        pairs: every two attributes, in the order in which they were named.
        classifiers: by attribute.
        prior: the latents that effects were averaged over, `(k, L)`.
        check: of the assumptions; None where it was not asked for.
        warnings: such as a classifier near chance.
        settings: everything needed to run this again.
    """

    pairs: tuple[Pair, ...]
    classifiers: dict[str, Classifier]
    prior: Tensor = dataclasses.field(repr=False)
    check: Check | None
    warnings: tuple[str, ...]
    settings: dict[str, Any]

    def pair(self, one: str, other: str) -> Pair:
        """The pair with these names, in either order as it was named."""
        raise NotImplementedError

    @property
    def matrix(self) -> Matrix:
        """All effects."""
        raise NotImplementedError

    def table(self) -> Table:
        """A row for each pair."""
        raise NotImplementedError

    def quality(self) -> Table:
        """A row for each classifier."""
        raise NotImplementedError

    def frame(self) -> Any:
        """The pairs as a pandas data frame."""
        raise NotImplementedError

    def json(self) -> dict[str, Any]:
        """Everything but the latents, as JSON values."""
        raise NotImplementedError

    def markdown(self) -> str:
        """All tables with their notes."""
        raise NotImplementedError

    def figure(self) -> Any:
        """Nulls and curves of every pair, as a matplotlib figure (`deepscm.plots.probes`)."""
        raise NotImplementedError
