"""CAGE: what a latent-variable generator does to one attribute when another is moved in its latent space.

A generator `x = G(z)` is given (any: a flow, an autoencoder, a GAN, a diffusion model), and labels of two or more
binary attributes. A linear classifier of each attribute is fitted to latents; moving `z` by `alpha` along the unit
normal of one classifier, and looking at the other attribute before and after, gives generative effects (GITE, GATE);
the difference of the two directions' sizes, `delta tau`, is the method's score of causal direction.

**What may be claimed.** A GATE that both nulls reject says that the two attributes share latent directions: it is a
test of association within the generator. `delta tau` is less than it seems. For latent classifiers both directions
share one cosine, so for small alpha

    delta tau = alpha |cos| (|w_e| E[s'(w_e z + b_e)] - |w_c| E[s'(w_c z + b_c)])

under any prior, and under a normal prior two sharpnesses, two biases and the cosine determine it for every alpha
(`gaussian`). Its sign says which of the two classifiers is the sharper, or whose attribute is nearer to one half, and
nothing about the generator's mechanism: with equal norms, prevalences of .42 and .04 give a sign by themselves. So both
predictions stand beside every `delta tau`. Nulls do not help: random directions and permuted labels test whether there
is an association, not which way it points, and p is 0.01 or 1 as one classifier is replaced or both
(`benchmarks/cage_nulls`). Classifiers of decoded values (`judges`) are not bound to one cosine; but they have a
sharpness and a prevalence too.

Measured on generators whose causal model is known (`benchmarks/cage_truth`, 504 causes in four families): GATE follows
the true effect (correlation .86 to .98, the same sign for 92 to 98 %) and is near 0 for independent attributes, but is
as large from the effect to the cause, where the true effect is 0. The sign of `delta tau` is right for 37 to 51 %, less
than or as often as a coin, and is the one that sharpness and prevalence predict for 93 to 99 %; by classifiers of
decoded values it is right for 49 to 65 %. So a GATE may be read as how strongly a generator ties two attributes
together, and `delta tau` not as a causal direction; `check`, and the reasons beside each direction, say what speaks
against it.

**What stands in for the paper's models** in the benchmarks, which have no accelerator: for MintNet on MorphoMNIST a
RealNVP of nflows on digits of 14 x 14 pixels, and VAEs of this library on 28 x 28; for StyleGAN2 on CelebA-HQ at 1024 x
1024 VAEs and GANs of this library on CelebA at 64 x 64 or 32 x 32; for ResNet-50 at 224 x 224 a small convolutional
network at 32 x 32. The masked autoregressive flow of the toy is the paper's. Published figures beside ours show the
same protocol on other models.

Example:
    >>> import torch
    >>> from deepscm import probing
    >>> z = torch.randn(2000, 4, generator=torch.Generator().manual_seed(0))
    >>> generator = probing.Decoder(lambda z: z, latent=4, encoder=lambda x: x)
    >>> labels = {"round": z[:, 0] > 0, "red": z[:, 0] + z[:, 1] > 1}
    >>> report = probing.probe(generator, labels, data=z, samples=500, draws=19, resamples=10, check=False)
    >>> report.pair("round", "red").forward.gate.value > 0
    True
"""

from deepscm.probing.assumptions import Check as Check
from deepscm.probing.assumptions import check as check
from deepscm.probing.augmentation import Augmentation as Augmentation
from deepscm.probing.augmentation import augment as augment
from deepscm.probing.classifiers import Classifier as Classifier
from deepscm.probing.classifiers import Quality as Quality
from deepscm.probing.classifiers import fit as fit
from deepscm.probing.distances import distances as distances
from deepscm.probing.distances import floor as floor
from deepscm.probing.effects import delta as delta
from deepscm.probing.effects import factual as factual
from deepscm.probing.effects import gate as gate
from deepscm.probing.effects import gite as gite
from deepscm.probing.effects import judged as judged
from deepscm.probing.effects import moved as moved
from deepscm.probing.flows import Flow as Flow
from deepscm.probing.generators import Decoder as Decoder
from deepscm.probing.generators import LatentGenerator as LatentGenerator
from deepscm.probing.generators import decoded as decoded
from deepscm.probing.generators import encoded as encoded
from deepscm.probing.inversion import Search as Search
from deepscm.probing.labels import label as label
from deepscm.probing.linear import Linear as Linear
from deepscm.probing.matrix import Matrix as Matrix
from deepscm.probing.model import ModelLatents as ModelLatents
from deepscm.probing.model import of as of
from deepscm.probing.nulls import Null as Null
from deepscm.probing.nulls import permuted as permuted
from deepscm.probing.nulls import random_directions as random_directions
from deepscm.probing.pairs import Curve as Curve
from deepscm.probing.pairs import Effect as Effect
from deepscm.probing.pairs import Pair as Pair
from deepscm.probing.prediction import first_order as first_order
from deepscm.probing.prediction import gaussian as gaussian
from deepscm.probing.report import Report as Report
from deepscm.probing.suite import probe as probe
