"""Worlds of a model's rows, some at a time: null interventions and counterfactuals at a stated temperature."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from torch import Tensor

from deepscm.evaluation.subject import Columns, Subject
from deepscm.record import Record
from deepscm.scm import SCM


def cooled(scm: SCM, record: Record, temperature: float) -> Record:
    """The record with the noise that only carries residuals (`Mechanism.residual`) multiplied by a temperature.

    At 1 a model with a Gaussian decoder carries every pixel of the factual along; at 0 the decoder is on its own. The
    benchmark decodes its VAEs at 0.1 and its HVAE at 0.3.
    """
    if temperature == 1.0:
        return record
    noise = {name: {part: value * temperature if part in scm[name].residual else value for part, value in parts.items()}
             for name, parts in record.noise.items()}
    return dataclasses.replace(record, noise=noise)


def world(
    subject: Subject, values: Mapping[str, Tensor], do: Mapping[str, Tensor], rows: slice, label: str,
    *, samples: int | None = None, replay: bool = False,
) -> Columns:
    """The counterfactual world of some rows, on the CPU.

    Args:
        subject: the model.
        values: evidence of these rows, complete.
        do: new values of these rows.
        rows: which rows of the data they are, for their seeds.
        label: of the draw; another label draws other noise.
        samples: draws of each row, which become the first axis.
        replay: compute what no action reaches again, too.
    """
    scm = subject.scm
    record = scm.abduct(values, num_samples=samples, seed=subject.keys(label, rows))
    made = scm.predict(cooled(scm, record, subject.temperature), dict(do), replay=replay)
    return {name: value.cpu() for name, value in made.items()}


def cut(values: Mapping[str, Tensor], rows: slice) -> Columns:
    """Some rows of all columns."""
    return {name: value[rows] for name, value in values.items()}
