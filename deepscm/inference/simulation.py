"""Training a recognition model on draws from the SCM: maximum likelihood of the true noise given what is observed.

This minimises the forward divergence `E_p KL(p(noise | x) || q(noise | x))`, so the proposal covers the posterior
(Papamakarios and Murray, 2016), needs no density of any mechanism, and never looks at data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from deepscm.errors import DataError
from deepscm.inference.recognition import Recognition, from_score, normal_density
from deepscm.streams import uniform

if TYPE_CHECKING:
    from deepscm.scm import SCM

_FIRST = 4096  # draws that the features' scales are fitted to


def fit(
    model: Recognition,
    scm: SCM,
    *,
    steps: int = 2000,
    batch_size: int = 256,
    lr: float = 2e-3,
    seed: int = 0,
    progress: bool | None = None,
) -> list[float]:
    """Train a bound recognition model; the learning rate falls to zero along a cosine.

    Args:
        model: bound to the SCM.
        scm: where draws come from.
        steps: gradient steps, each on fresh draws.
        batch_size: draws for each step.
        lr: learning rate of Adam at the start.
        seed: of the draws and of the hidden entries.
        progress: show a progress bar; by default on a terminal.

    Returns:
        The loss of each step: nats for the hidden variables of a row.

    Raises:
        DataError: steps or batch size below 1.
    """
    if steps < 1 or batch_size < 1:
        raise DataError(f"steps={steps} and batch_size={batch_size} came; at least 1 is expected of each.")
    from tqdm.auto import tqdm

    source = torch.Generator(device=scm.device).manual_seed(seed)
    fresh = not bool(model.fitted)
    if fresh:
        values, _ = simulate(model, scm, _FIRST, source)
        for name, context in zip(model.variables, model.features, strict=True):
            context.fit({name: values[name]})  # type: ignore[operator]
    parameters = list(model.parameters())
    optimiser = torch.optim.Adam(parameters, lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    model.train()
    losses = []
    with torch.enable_grad():
        silent = None if progress is None else not progress
        for _ in tqdm(range(steps), desc="recognition", unit="step", disable=silent):
            values, scores = simulate(model, scm, batch_size, source)
            loss = negative_log_likelihood(model, values, scores, source)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 10.0)
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
    model.fitted.fill_(True)
    model.eval()
    return losses


@torch.no_grad()
def simulate(
    model: Recognition, scm: SCM, n: int, source: torch.Generator
) -> tuple[dict[str, Tensor], dict[str, dict[str, Tensor]]]:
    """`n` draws of all variables, and the normal scores of the noise that the model proposes."""
    scores: dict[str, dict[str, Tensor]] = {}
    world: dict[str, Tensor] = {}
    for name in scm.graph.order:
        assignment = scm.place(name).assignment
        mechanism = assignment.mechanism
        noise = {}
        parts = dict(model.plan[name].parts) if name in model.plan else {}
        for part, kind in mechanism.noise().items():
            score = torch.special.ndtri(uniform(n, kind.shape, source, scm.device))
            noise[part] = from_score(kind, score).to(kind.precision(mechanism.dtype))
            if part in parts:
                scores.setdefault(name, {})[part] = score
        world[name] = mechanism(noise, assignment.pick(world))
    return world, scores


def negative_log_likelihood(
    model: Recognition, values: dict[str, Tensor], scores: dict[str, dict[str, Tensor]], source: torch.Generator
) -> Tensor:
    """Mean over the rows of `-log q` of the variables that are hidden there."""
    rows = len(next(iter(values.values())))
    visible = {name: uniform(rows, (), source, values[name].device) >= model.dropout for name in model.observed}
    known = {name: uniform(rows, (), source, values[name].device) >= model.dropout
             for name in model.plan} if model.dropout else {}
    context = model.encode(values, rows, visible)
    total = torch.zeros(rows, dtype=torch.float64, device=context.device)
    for name in model.head_of:
        head = model.head(name, context, values, known)
        if head.logits is not None:
            score = head.logits.gather(1, values[name][:, None])[:, 0]
        else:
            score = torch.stack([normal_density(scores[name][part], mean.double(), log_deviation.double())
                                 for part, (mean, log_deviation) in head.normals.items()]).sum(0)
        total = total + (torch.where(visible[name], 0.0, score) if name in visible else score)
    return -total.mean()
