"""Models whose variables are not seen but learned: an image, latent causes on a graph, and labels for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from deepscm.errors import ConfigurationError, GraphError
from deepscm.inference.labels import Labels
from deepscm.inference.recognition import Recognition
from deepscm.mechanisms.additive import AdditiveNoise, LocationScale
from deepscm.mechanisms.base import Mechanism
from deepscm.nn.stack import Layer
from deepscm.nn.trunks import COMPACT
from deepscm.scm import SCM, Node
from deepscm.variables import Image, Real, Variable

Graph = Mapping[str, Sequence[str]]

_START = 0.1  # standard deviation of q(u | x) before training


def causal_autoencoder(
    image: Image,
    decoder: Mechanism,
    *,
    labels: Mapping[str, Variable] | None = None,
    graph: Graph | None = None,
    latent: int = 32,
    mechanism: Mechanism | None = None,
    hidden: Sequence[int] = (64,),
    trunk: Sequence[Layer] | None = COMPACT,
    width: int = 128,
    layers: int = 1,
    supervised: bool = True,
    label_hidden: Sequence[int] = (),
    deviation: float | None = None,
    name: str = "image",
) -> SCM:
    """A model of an image by latent variables `z_i := f_i(z_pa, u_i)`, one for each label, with `q(u_i | x)`.

    It is an ordinary SCM with the nodes `z_<label>`, which are never observed, and the image as their child. Attached
    are a recognition model of independent heads (`scm.recognition`) and the labels (`scm.labels`), so that after
    `scm.fit(rows, objectives=[CausalRepresentation.of(scm)])` images alone are evidence enough:
    `scm.counterfactual({"image": x}, do={"thickness": 4.0}, method="recognition")`.

    - CausalDiffAE: a graph, and `Diffusion` as the decoder. CausalVAE: the same with `Decoder`.
    - DisDiffAE: `graph=None`, so that latent variables are independent.
    - DiffAE: `supervised=False`, which attaches no labels and takes their names for the latent variables alone; or
      `labels=None`, which makes one latent variable, `z`.

    Args:
        image: the variable.
        decoder: its mechanism, which reads the latent variables.
        labels: variables of the labels by name.
        graph: causes of each label among the others; labels that it does not name have none.
        latent: size of all latent variables together; each gets an equal share.
        mechanism: `f_i` of variables with causes, any with an exact density for a `Real`, copied for each; by default
            `LocationScale(hidden)`. Variables without causes are standard normal: `z_i := u_i`.
        hidden: widths of the hidden layers of the default `f_i`.
        trunk: rows of the table (`deepscm.nn.stack`) that turns the image into features; None for the pixels.
        width, layers: of the hidden layers behind it (`Recognition`).
        supervised: whether labels are attached.
        label_hidden, deviation: of `Labels`: hidden layers of mu and sigma, and a known sigma.
        name: of the image's node.

    Raises:
        GraphError: a graph with other variables than the labels, or a cycle.
        ConfigurationError: a latent size that does not divide among the variables, a graph without labels.

    Example:
        >>> from deepscm.mechanisms import Decoder
        >>> scm = causal_autoencoder(
        ...     Image(1, 28, 28), Decoder(), labels={"thickness": Real(low=0), "intensity": Real(low=0, high=255)},
        ...     graph={"intensity": ["thickness"]}, latent=16)
        >>> scm.graph
        CausalGraph({'z_thickness': [], 'z_intensity': ['z_thickness'], 'image': ['z_thickness', 'z_intensity']})
    """
    causes = _causes(labels, graph)
    size, left = divmod(latent, len(causes))
    if left or latent < 1:
        raise ConfigurationError(f"latent={latent} came for {len(causes)} variables; a positive multiple of "
                                 f"{len(causes)} is expected, such as {max(size, 1) * len(causes)}.")
    nodes: dict[str, Node] = {}
    for node, parents in causes.items():
        child = LocationScale(hidden) if mechanism is None else mechanism.clone()
        made = child if parents else AdditiveNoise(bias=0.0, scale=1.0)
        nodes[node] = Node(Real(size), made, parents, observed=False)
    if name in nodes:
        raise ConfigurationError(f"name={name!r} came for the image, which a latent variable has; give another.")
    scm = SCM({**nodes, name: Node(image, decoder, list(nodes))})
    encoder = Recognition([name], list(nodes), trunk=trunk, independent=True, width=width, layers=layers, start=_START)
    scm.recognition = encoder.bind(scm)
    if labels is not None and supervised:
        scm.labels = Labels(labels, hidden=label_hidden, deviation=deviation).bind(scm)
    return scm


def _causes(labels: Mapping[str, Variable] | None, graph: Graph | None) -> dict[str, list[str]]:
    """Latent nodes with their causes."""
    if labels is None:
        if graph:
            raise ConfigurationError(f"a graph of {', '.join(graph)} came without labels; name the variables in "
                                     "labels={...}, with supervised=False to train without their values.")
        return {"z": []}
    if not labels:
        raise ConfigurationError("labels came empty; name at least one, or give None for one latent variable.")
    given = {child: [parents] if isinstance(parents, str) else list(parents)
             for child, parents in (graph or {}).items()}
    strange = sorted({*given, *(parent for parents in given.values() for parent in parents)} - set(labels))
    if strange:
        raise GraphError(f"the graph has {', '.join(strange)}, which no label names; the labels are "
                         f"{', '.join(labels)}. Add a label, or leave those variables out of the graph.")
    return {f"z_{child}": [f"z_{parent}" for parent in given.get(child, [])] for child in labels}
