"""What probing found: pairs, classifiers, warnings, as tables, JSON and figures."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from deepscm.errors import DataError
from deepscm.evaluation.report import Row, Table, plain
from deepscm.probing.assumptions import Check
from deepscm.probing.classifiers import Classifier
from deepscm.probing.matrix import Matrix
from deepscm.probing.nulls import Null
from deepscm.probing.pairs import Pair

_COLUMNS = ("one", "direction", "other", "delta", "p random", "p permuted", "predicted", "gaussian", "image delta",
            "p image delta", "image relative", "forward", "p forward", "backward", "p backward", "image forward",
            "p image forward", "image backward", "p image backward", "cosine", "doubts")
_NOTES = (
    "forward: GATE of the first attribute on the second, differences of probabilities; backward: the other way; delta: "
    "difference of their sizes, positive for the first as the cause; intervals by leaving out parts of the rows",
    "predicted: delta from the classifiers' sharpness and prevalence alone, for small alpha; gaussian: the same for "
    "this alpha and a normal prior. Where they agree with delta, it says nothing of causes",
    "image delta: by classifiers of decoded values; image relative: the same from slopes, each divided by the slope "
    "along the effect's own normal, so that sharpness and prevalence cancel",
    "nulls test association, not direction; p forward and p backward: the larger of both nulls'; p image: of random "
    "directions",
)


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
        """The pair with these names, in either order; it keeps the order in which the attributes were named.

        Raises:
            DataError: there is none.
        """
        for pair in self.pairs:
            if {pair.one, pair.other} == {one, other}:
                return pair
        raise DataError(f"{one!r} and {other!r} came; the attributes are {', '.join(self.classifiers)}.")

    @property
    def matrix(self) -> Matrix:
        """All effects."""
        return Matrix.of(self.pairs, tuple(self.classifiers))

    def table(self) -> Table:
        """A row for each pair."""
        notes = [f"**{pair.one}, {pair.other}**: {reason}" for pair in self.pairs for reason in pair.reasons]
        alpha = self.settings.get("alpha")
        return Table(f"Generative effects (alpha {alpha:g})", _COLUMNS, tuple(_row(pair) for pair in self.pairs),
                     (*_NOTES, *self.warnings, *notes))

    def quality(self) -> Table:
        """A row for each classifier, from cross-fitting."""
        rows = [{"attribute": name, "sharpness": c.sharpness, "rows": c.quality.n, "prevalence": c.quality.prevalence,
                 "accuracy": c.quality.accuracy, "balanced": c.quality.balanced, "AUC": c.quality.auc,
                 "log loss": c.quality.log_loss, "constant": c.quality.constant,
                 "calibration": c.quality.calibration, "slope": c.quality.slope}
                for name, c in self.classifiers.items()]
        return Table("Classifiers", tuple(rows[0]), tuple(rows), self.warnings)

    def frame(self) -> Any:
        """The pairs as a pandas data frame; an interval is half its width in a column of its own, "± <column>"."""
        import pandas as pd

        columns, rows = self.table().flat()
        return pd.DataFrame(rows, columns=columns)

    def json(self) -> dict[str, Any]:
        """Everything but the latents, as JSON values."""
        check = None if self.check is None else {"rows": self.check.table.rows, "reasons": self.check.reasons}
        pairs = [{**dataclasses.asdict(pair), "curve": _curve(pair)} for pair in self.pairs]
        return plain({"settings": self.settings, "warnings": self.warnings, "classifiers": self.quality().rows,  # type: ignore[no-any-return]
                      "check": check, "pairs": pairs})

    def markdown(self) -> str:
        """All tables with their notes."""
        tables = [self.table(), self.quality(), *([] if self.check is None else [self.check.table])]
        return "\n".join(table.markdown() for table in tables)

    def figure(self, pairs: Collection[tuple[str, str]] | None = None) -> Any:
        """Nulls of the GATE of the first attribute and of delta tau, and its curve over alpha, a row for each pair.

        As Fig. 3: `deepscm.plots.probes`.

        Args:
            pairs: those to show, each in either order; all by default.
        """
        from deepscm.plots import Probe, probes

        wanted = None if pairs is None else {frozenset(pair) for pair in pairs}
        shown = [pair for pair in self.pairs if wanted is None or frozenset((pair.one, pair.other)) in wanted]
        return probes([Probe(
            f"{pair.one} {pair.direction if pair.direction != 'none' else '?'} {pair.other}", pair.delta.value,
            _draws(pair.nulls), pair.alpha, pair.curve.alphas, pair.curve.delta, pair.curve.low, pair.curve.high,
            pair.curve.predicted, pair.curve.image, pair.forward.gate.value, _draws(pair.forward.nulls))
            for pair in shown])


def _draws(nulls: Mapping[str, Null]) -> dict[str, Tensor]:
    return {f"{kind} (p {null.p:.2g})": null.draws for kind, null in nulls.items()}


def _row(pair: Pair) -> Row:
    return {
        "one": pair.one, "direction": pair.direction, "other": pair.other, "delta": pair.delta,
        **{f"p {kind}": null.p for kind, null in pair.nulls.items()},
        "predicted": pair.predicted, "gaussian": pair.gaussian, "image delta": pair.image_delta,
        "p image delta": _p(pair.image_null), "image relative": pair.image_relative,
        "forward": pair.forward.gate, "p forward": max(null.p for null in pair.forward.nulls.values()),
        "backward": pair.backward.gate, "p backward": max(null.p for null in pair.backward.nulls.values()),
        "image forward": pair.forward.image, "p image forward": _p(pair.forward.image_null),
        "image backward": pair.backward.image, "p image backward": _p(pair.backward.image_null), "cosine": pair.cosine,
        "doubts": len(pair.reasons),
    }


def _p(null: Null | None) -> float | None:
    return None if null is None else null.p


def _curve(pair: Pair) -> dict[str, Any]:
    return {field.name: getattr(pair.curve, field.name) for field in dataclasses.fields(pair.curve)}
