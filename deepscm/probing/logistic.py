"""Penalised logistic regressions, many at once on the same rows: the refits of a null or a bootstrap are one solve."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus

from deepscm.errors import ConfigurationError, InferenceError
from deepscm.probing.linear import Linear

_CELLS = 20_000_000  # of one array of (fits, rows); more fits are solved in turn
_WHOLE = 4000  # features up to which the preconditioner is a whole matrix
_ROUNDS, _INNER = 100, 200  # Newton steps, and steps of conjugate gradients within one


def logistic(
    latents: Tensor, labels: Tensor, weights: Tensor | None = None, *, penalty: float = 1.0, tolerance: float = 1e-9
) -> Linear:
    """The minima of `sum_i weight_i (softplus(w z_i + b) - label_i (w z_i + b)) + penalty |w|^2 / 2`, in float64.

    Newton's method, its linear systems solved by conjugate gradients with one preconditioner for all fits, so that a
    hundred refits cost little more than their matrix products. The bias is not penalised.

    Args:
        latents: `(N, L)`.
        labels: `(N,)` or `(R, N)` in 0..1.
        weights: of the rows, `(N,)` or `(R, N)`; ones by default.
        penalty: positive; also what keeps separable classes finite.
        tolerance: of the gradient, for each row.

    Raises:
        ConfigurationError: a penalty that is not positive.
        InferenceError: no convergence.

    Example:
        >>> z = torch.tensor([[-2.0], [-1.0], [1.0], [2.0]])
        >>> found = logistic(z, torch.tensor([0.0, 1.0, 0.0, 1.0]), penalty=1e-6)
        >>> round(float(found.weight[0, 0]), 4), abs(float(found.bias[0])) < 1e-6
        (0.4196, True)
    """
    if not penalty > 0:
        raise ConfigurationError(f"penalty={penalty} came; a positive number is expected, 1 as in scikit-learn.")
    given = torch.atleast_2d(labels.double())
    counted = torch.atleast_2d(torch.ones(len(latents)).double() if weights is None else weights.double())
    fits = max(len(given), len(counted))
    problem = _Problem(latents.double(), penalty, counted)
    step = max(1, _CELLS // len(latents))
    parts = []
    for start in range(0, fits, step):
        size = min(step, fits - start)
        y, count = (part[start : start + size] if len(part) > 1 else part.expand(size, -1) for part in (given, counted))
        parts.append(problem.solve(y, count, tolerance))
    return problem.linear(torch.cat(parts))


class _Problem:
    """Rows with a column of ones, centred, and a preconditioner that all fits share."""

    def __init__(self, latents: Tensor, penalty: float, weights: Tensor) -> None:
        self.centre = latents.mean(0)
        self.rows = torch.cat([latents - self.centre, latents.new_ones(len(latents), 1)], 1)
        self.penalty = latents.new_full((self.rows.shape[1],), penalty)
        self.penalty[-1] = 0.0
        scale = 0.15 * float(weights.mean())  # about the mean of p (1 - p)
        if self.rows.shape[1] <= _WHOLE:
            gram = scale * self.rows.T @ self.rows + torch.diag(self.penalty)
            self.factor: Tensor | None = torch.linalg.cholesky(gram)
        else:
            self.factor, self.diagonal = None, scale * self.rows.square().sum(0) + self.penalty

    def linear(self, found: Tensor) -> Linear:
        """`(R, L + 1)` on centred rows -> classifiers of latents."""
        weight = found[:, :-1].contiguous()
        return Linear(weight, found[:, -1] - weight @ self.centre)

    def solve(self, y: Tensor, count: Tensor, tolerance: float) -> Tensor:
        total = count.sum(1, keepdim=True)
        share = ((y * count).sum(1, keepdim=True) / total).clamp(1e-9, 1 - 1e-9)
        found = self.rows.new_zeros(len(y), self.rows.shape[1])
        found[:, -1:] = torch.logit(share)
        value = self.value(found, y, count)
        for _ in range(_ROUNDS):
            p = torch.sigmoid(found @ self.rows.T)
            slope = (count * (p - y)) @ self.rows + self.penalty * found
            size = slope.abs().amax(1, keepdim=True) / total
            if bool((size < tolerance).all()):
                return found
            found, value, still = self.step(found, value, slope, count * p * (1 - p), size, y, count)
            if not bool(still.any()):  # float64 has no better point along any Newton direction
                return found
        raise InferenceError(f"logistic regression: a gradient of {float(size.max()):.2g} a row is left after "
                             f"{_ROUNDS} Newton steps; standardise the latents, or raise penalty=.")

    def value(self, found: Tensor, y: Tensor, count: Tensor) -> Tensor:
        """The objective of each fit, `(R, 1)`."""
        logit = found @ self.rows.T
        loss = (count * (softplus(logit) - y * logit)).sum(1, keepdim=True)
        return loss + 0.5 * (self.penalty * found.square()).sum(1, keepdim=True)

    def step(
        self, found: Tensor, value: Tensor, slope: Tensor, curvature: Tensor, size: Tensor, y: Tensor, count: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """A Newton step, halved for each fit until it gets better; new points, values, and which fits moved."""
        towards = self.newton(slope, curvature, size)
        length = torch.ones_like(value)
        moved = torch.zeros_like(value, dtype=torch.bool)
        for _ in range(30):
            there = found + length * towards
            reached = self.value(there, y, count)
            better = ~moved & (reached < value)
            found, value, moved = torch.where(better, there, found), torch.where(better, reached, value), moved | better
            if bool(moved.all()):
                break
            length = torch.where(moved, torch.zeros_like(length), length / 2)
        return found, value, moved

    def newton(self, slope: Tensor, curvature: Tensor, size: Tensor) -> Tensor:
        """`-H^-1 slope` for each fit by preconditioned conjugate gradients, the more exact the smaller the slope."""
        solution, rest = torch.zeros_like(slope), -slope
        scaled = self.preconditioned(rest)
        along, energy = scaled, (rest * scaled).sum(1, keepdim=True)
        enough = energy * torch.minimum(size.new_tensor(0.1), size).square()
        for _ in range(_INNER):
            image = (curvature * (along @ self.rows.T)) @ self.rows + self.penalty * along
            length = energy / (along * image).sum(1, keepdim=True).clamp(min=1e-300)
            solution, rest = solution + length * along, rest - length * image
            scaled = self.preconditioned(rest)
            after = (rest * scaled).sum(1, keepdim=True)
            if bool((after <= enough).all()):
                break
            along, energy = scaled + after / energy.clamp(min=1e-300) * along, after
        return solution

    def preconditioned(self, rest: Tensor) -> Tensor:
        if self.factor is None:
            return rest / self.diagonal
        return torch.cholesky_solve(rest.T, self.factor).T
