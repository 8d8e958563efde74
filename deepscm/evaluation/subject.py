"""What is evaluated: a model, one of its images, rows, and what there is to measure with."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deepscm.errors import CapabilityError, DataError
from deepscm.evaluation.protocol import Features, Latents, Predictors, Truth
from deepscm.metrics import Perceptual
from deepscm.scm import SCM
from deepscm.variables import Categorical, Image, Variable

Columns = dict[str, Tensor]


@dataclasses.dataclass(frozen=True)
class Subject:
    """A model under evaluation.

    Attributes:
        scm: the model.
        image: the image whose counterfactuals are measured.
        rows: every column of the data, as arrays: what a truth is given.
        columns: those of the model's variables, as tensors on the CPU.
        reference: columns that constants, bins and distributions are taken from.
        predictors, truth, features, latents, perceptual: what there is to measure with.
        temperature: what `Mechanism.residual` noise is multiplied by.
        samples: draws of each counterfactual, for the error to truth.
        paper: the published choices.
        seed, batch_size: of the queries; numbers do not depend on the batch size.
    """

    scm: SCM
    image: str
    rows: dict[str, Any]
    columns: Columns
    reference: Columns
    predictors: Predictors | None
    truth: Truth | None
    features: Features
    latents: Latents | None
    perceptual: Perceptual | None
    temperature: float
    samples: int
    paper: bool
    seed: int
    batch_size: int

    def __len__(self) -> int:
        return len(self.columns[self.image])

    @property
    def variable(self) -> Image:
        """The image variable."""
        variable = self.scm.variables[self.image]
        assert isinstance(variable, Image)
        return variable

    @property
    def causes(self) -> list[str]:
        """The image's parents, which predictors measure."""
        return list(self.scm.graph.parents(self.image))

    @property
    def span(self) -> dict[str, Any]:
        """The nominal range, as metrics take it."""
        return {"low": self.variable.low, "high": self.variable.high}

    @property
    def canvas(self) -> tuple[int, int] | None:
        """The padded canvas of the published scale: sides of the next powers of two."""
        if not self.paper:
            return None
        height, width = self.variable.shape[1:]
        return 1 << (height - 1).bit_length(), 1 << (width - 1).bit_length()

    def discrete(self, name: str) -> bool:
        """Whether a variable has categories."""
        return isinstance(self.scm.variables[name], Categorical)

    def keys(self, label: str, rows: slice) -> Tensor:
        """One seed for each row: equal labels give equal numbers, whatever the batches."""
        digest = hashlib.blake2b(f"{self.seed}:{label}".encode(), digest_size=8).digest()
        start = int.from_bytes(digest, "little") >> 2
        return torch.arange(rows.start, rows.stop) + start

    def generator(self, label: str) -> torch.Generator:
        """A generator for draws over all rows."""
        return torch.Generator().manual_seed(int(self.keys(label, slice(0, 1))[0]))


def only_image(scm: SCM, image: str | None) -> str:
    """The image that is meant.

    Raises:
        DataError: an unknown one, no causes, or several images and no name.
    """
    images = [name for name, variable in scm.variables.items() if isinstance(variable, Image)]
    if image is None and len(images) == 1:
        image = images[0]
    if image not in images:
        raise DataError(f"image={image!r} came; the model has the images {', '.join(images) or '(none)'}. Say which "
                        "with image=...")
    return image


def checked(scm: SCM, data: Mapping[str, Any], name: str) -> tuple[dict[str, Any], Columns]:
    """All columns as arrays, and those of the model as tensors on the CPU.

    Raises:
        DataError: variables or values are missing.
        CapabilityError: a variable cannot be abducted.
    """
    rows = {key: values if isinstance(values, np.ndarray) else _array(values) for key, values in data.items()}
    values, present, count = scm.observe({key: rows[key] for key in rows if key in scm})
    lacking = [key for key in scm.graph.nodes if key not in values or present[key] is not None]
    if lacking:
        raise DataError(f"{name}: values of {', '.join(lacking)} are missing; an evaluation needs complete rows of "
                        "every variable.")
    unable = [key for key in scm.graph.nodes if scm[key].abduction == "none"]
    if unable:
        raise CapabilityError(f"{', '.join(unable)} cannot be abducted ({type(scm[unable[0]]).__name__}), so the model "
                              "has no counterfactuals to evaluate.")
    odd = [key for key, column in rows.items() if len(column) != count]
    if odd:
        raise DataError(f"{name}: columns {', '.join(odd)} have another length than {count} rows.")
    return rows, {key: value.cpu() for key, value in values.items()}


def admissible(world: Mapping[str, Tensor], variables: Mapping[str, Variable]) -> Columns:
    """A world that a model made, as evidence: values that float noise put beyond their bounds are moved back."""
    moved = {}
    for name, value in world.items():
        low, high = getattr(variables[name], "low", None), getattr(variables[name], "high", None)
        free = isinstance(variables[name], Image) or (low is None and high is None)
        moved[name] = value if free else value.clamp(low, high)
    return moved


def _array(values: Any) -> Any:
    if isinstance(values, Tensor):
        return values.detach().cpu().numpy()
    return np.asarray(values)
