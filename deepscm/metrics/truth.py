"""Error to the true counterfactual, where the true model is known: the yardstick that needs no other."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from deepscm.errors import DataError
from deepscm.metrics.arrays import chunks, real


class TruthError(NamedTuple):
    """Errors of each row, `(N,)`, in the variable's own unit (for images: of one pixel). Lower is better, 0 perfect.

    Attributes:
        per_sample: mean over draws of the mean absolute error.
        of_mean: mean absolute error of the mean over draws. Blur lowers it; read it only beside the others.
        energy: the energy score, lowest in expectation for the true distribution. With one draw, the root mean square
            error.
    """

    per_sample: Tensor
    of_mean: Tensor
    energy: Tensor


def to_truth(
    samples: Any, truth: Any, *, low: float | None = None, high: float | None = None, chunk: int = 64
) -> TruthError:
    """Compare draws of a counterfactual with the true one.

    The energy score (Gneiting and Raftery, 2007) is `E|X - y| - E|X - X'| / 2` with the root mean square over pixels as
    norm and, for the second expectation, all pairs of different draws.

    Args:
        samples: `(S, N, ...)`, S draws.
        truth: `(N, ...)`.
        low, high: clip both to this range first.
        chunk: rows at a time; few, so that they stay in the processor's cache.

    Raises:
        DataError: shapes that do not fit.

    Example:
        >>> error = to_truth([[0.0], [2.0]], [1.0])
        >>> error.per_sample.item(), error.of_mean.item(), error.energy.item()
        (1.0, 0.0, 0.0)
    """
    draws, true = torch.as_tensor(samples).detach().cpu(), torch.as_tensor(truth).detach().cpu()
    if draws.shape[1:] != true.shape or not draws.ndim > 1 or not draws.numel():
        raise DataError(f"samples of shape {tuple(draws.shape)} and a truth of {tuple(true.shape)} came; (S, N, ...) "
                        "and (N, ...) are expected.")
    parts = [_errors(draws[:, cut], true[cut], low, high) for cut in chunks(len(true), chunk)]
    return TruthError(*(torch.cat(columns) for columns in zip(*parts, strict=True)))


def _errors(draws: Tensor, true: Tensor, low: float | None, high: float | None) -> TruthError:
    x, y = real(draws, "samples"), real(true, "truth")
    if low is not None or high is not None:
        x, y = x.clamp(low, high), y.clamp(low, high)
    x, y = x.reshape(len(x), len(y), -1), y.reshape(len(y), -1)
    spread, count = torch.zeros(len(y), dtype=torch.float64), len(x)
    for shift in range(1, count // 2 + 1):  # all pairs, one rotation at a time; the other half are the same pairs
        twice = 1.0 if 2 * shift == count else 2.0
        spread += twice * _norm(x - x.roll(shift, 0)).mean(0)
    energy = _norm(x - y).mean(0) - spread / (2 * max(count - 1, 1))
    return TruthError((x - y).abs().mean((0, 2)), (x.mean(0) - y).abs().mean(1), energy)


def _norm(difference: Tensor) -> Tensor:
    return difference.square().mean(-1).sqrt()
