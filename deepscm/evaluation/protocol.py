"""What an evaluation may be given: predictors, a true model, a feature network, an unconditional encoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from torch import Tensor


class Predictors(Protocol):
    """Anti-causal predictors: what an image shows of its causes. `deepscm.training.predictors` trains them."""

    def predict(self, world: Mapping[str, Any]) -> Mapping[str, Any]:
        """The image's causes, `(N, *shape)` each, in their own units (categories as whole numbers), read off the image
        of a world. A predictor may read the world's other variables too, but not the one that it predicts."""

    def embed(self, images: Any) -> Any:
        """Embeddings `(N, D)` of images."""


#: The true counterfactual: from rows (every column of the data) and `{variable: values}` to the world's values. Raises
#: `InterventionError` for a variable whose intervention has no true answer.
Truth = Callable[[Mapping[str, Any], Mapping[str, Any]], Mapping[str, Any]]

#: Images `(n, C, H, W)` to features `(n, D)`.
Features = Callable[[Tensor], Any]

#: Images to mean and standard deviation `(n, D)` of an unconditional encoder's q(z | x).
Latents = Callable[[Tensor], tuple[Any, Any]]
