"""Labels by a generator without a density: `x := round(G(u; pa))`, the nodes of a causal controller (CausalGAN)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from deepscm.errors import MechanismError
from deepscm.mechanisms.base import Mechanism, Values
from deepscm.nn.context import Context, Standardiser
from deepscm.nn.network import he_normal
from deepscm.nn.stack import Dense, stack
from deepscm.noise import Noise, Uniform
from deepscm.variables import Binary, Categorical, Image, Real


class Implicit(Mechanism):
    """`x := round(G(u; pa))` with uniform `u`: a causal implicit generative model of one label (Kocaoglu et al., 7.1).

    A sampler and nothing else: it neither abducts nor has a density, so it answers observational and interventional
    questions, no counterfactual ones; `GumbelMax(table=True)` on the same graph does. Several of them are trained
    together, against one critic, by `deepscm.training.critic.CausalController`.

    A network of the noise and the parents ends in a sigmoid (`Binary`) or softmax (`Categorical`), whose most likely
    category is the variable's value. `relaxed` is what lies before that choice; it has gradients, and training takes
    care that it says hardly anything else than 0 or 1. Parents may be relaxed themselves, which makes a whole graph
    differentiable. A `Real` has no such choice: between two bounds it is a scaled sigmoid, without bounds a linear
    output on the data's scale, and `relaxed` is its value.

    Args:
        latent: dimensions of the noise, each uniform on (-1, 1).
        hidden: widths of the hidden layers (leaky ReLU of slope 0.2).

    Raises:
        MechanismError: a size that is not positive; in `bind`, an image, or a number with one bound.

    Example:
        >>> m = Implicit(latent=2, hidden=(4,))
        >>> m.bind(Binary(), {"male": Binary()})
        >>> noise, half = m.draw(3, torch.Generator().manual_seed(0)), torch.full((3,), 0.5)
        >>> m(noise, {"male": torch.tensor([0, 1, 1])}).dtype, m.relaxed(noise, {"male": half}).dtype
        (torch.int64, torch.float32)
    """

    def __init__(self, latent: int = 10, hidden: Sequence[int] = (10, 10, 10, 10, 10)) -> None:
        super().__init__()
        if latent < 1 or min(hidden, default=1) < 1:
            raise MechanismError(f"latent={latent} and hidden={tuple(hidden)} came; positive sizes are expected.")
        self.latent, self.hidden = latent, tuple(hidden)

    def build(self) -> None:
        """The network for the variable and its parents."""
        variable = self.variable
        if isinstance(variable, Image):
            raise MechanismError(f"Implicit makes labels and numbers, {variable} came; use GAN, VAE or Diffusion for "
                                 "images.")
        if isinstance(variable, Real) and (variable.low is None) != (variable.high is None):
            raise MechanismError(f"Implicit makes numbers with two bounds or with none, {variable} came; declare both "
                                 "bounds, or use Flow.")
        outputs = 1 if isinstance(variable, Binary) else math.prod(variable.shape)
        if isinstance(variable, Categorical) and not isinstance(variable, Binary):
            outputs = variable.size
        if isinstance(variable, Real) and variable.low is None:
            self.scale = Standardiser(variable)
        self.context = Context(self.parents)
        rows = [Dense(width, activation="leaky_relu", slope=0.2) for width in self.hidden]
        self.network, _ = stack([*rows, Dense(outputs, activation=None)], (self.latent + self.context.size,))
        he_normal(self.network, 0.2)

    def standardise(self, value: Tensor, parents: Values) -> None:
        """Fit the scales of numbers among the parents, and of the variable if it is one without bounds."""
        if self.parents:
            self.context.fit(parents)
        if hasattr(self, "scale"):
            self.scale.fit(value)

    def noise(self) -> dict[str, Noise]:
        """`u`, `(latent,)`, on (0, 1): the network reads `2 u - 1`."""
        return {"u": Uniform((self.latent,))}

    def forward(self, noise: Values, parents: Values) -> Tensor:
        """`x`, `(N, *variable.shape)`: the category that the relaxed output is nearest to."""
        return self.rounded(self.relaxed(noise, parents))

    def relaxed(self, noise: Values, parents: Values) -> Tensor:
        """The output before rounding: `(N,)` in (0, 1) for `Binary`, `(N, K)` that add up to 1 for `Categorical`.

        Args:
            noise: as for `forward`.
            parents: values, or relaxed values, of the parents.
        """
        inputs = 2 * noise["u"] - 1
        if self.parents:
            inputs = torch.cat([inputs, self.context(parents)], 1)
        out: Tensor = self.network(inputs)
        variable = self.variable
        if isinstance(variable, Binary):
            return out[:, 0].sigmoid()
        if isinstance(variable, Categorical):
            return out.softmax(1)
        assert isinstance(variable, Real)
        out = out.reshape(len(out), *variable.shape)
        if variable.low is None or variable.high is None:
            return self.scale.centre + self.scale.spread * out
        return variable.low + (variable.high - variable.low) * out.sigmoid()

    def rounded(self, relaxed: Tensor) -> Tensor:
        """The variable's value, `(N, *variable.shape)`, for a relaxed one."""
        if isinstance(self.variable, Binary):
            return (relaxed > 0.5).long()
        return relaxed.argmax(1) if isinstance(self.variable, Categorical) else relaxed
