"""Metrics of counterfactual images: pure, seeded, vectorised functions on tensors and arrays; none knows an SCM.

Each docstring states the scale. `deepscm.evaluation` applies them to a model.

Example:
    >>> from deepscm import metrics
    >>> str(metrics.mean(metrics.absolute_error([1.0, 2.0, 4.0], [1.0, 1.0, 1.0])))
    '1.333 ± 1.7'
"""

from deepscm.metrics.composition import embedding_l1 as embedding_l1
from deepscm.metrics.composition import pixel_l1 as pixel_l1
from deepscm.metrics.disentanglement import DCI as DCI
from deepscm.metrics.disentanglement import dci as dci
from deepscm.metrics.effectiveness import absolute_error as absolute_error
from deepscm.metrics.effectiveness import agreement as agreement
from deepscm.metrics.effectiveness import constant as constant
from deepscm.metrics.effectiveness import f1 as f1
from deepscm.metrics.features import RandomFeatures as RandomFeatures
from deepscm.metrics.features import embedded as embedded
from deepscm.metrics.features import inception as inception
from deepscm.metrics.identity import cosine as cosine
from deepscm.metrics.identity import rank1 as rank1
from deepscm.metrics.identity import unrelated as unrelated
from deepscm.metrics.interval import Estimate as Estimate
from deepscm.metrics.interval import bootstrap as bootstrap
from deepscm.metrics.interval import difference as difference
from deepscm.metrics.interval import jackknife as jackknife
from deepscm.metrics.interval import mean as mean
from deepscm.metrics.interval import proportion as proportion
from deepscm.metrics.minimality import CLD as CLD
from deepscm.metrics.minimality import Bins as Bins
from deepscm.metrics.minimality import cld as cld
from deepscm.metrics.minimality import kl as kl
from deepscm.metrics.minimality import kl_matrix as kl_matrix
from deepscm.metrics.mmd import median_distance as median_distance
from deepscm.metrics.mmd import rbf_mmd as rbf_mmd
from deepscm.metrics.perceptual import Perceptual as Perceptual
from deepscm.metrics.perceptual import lpips as lpips
from deepscm.metrics.realism import Moments as Moments
from deepscm.metrics.realism import frechet as frechet
from deepscm.metrics.realism import frechet_distance as frechet_distance
from deepscm.metrics.realism import kernel_distance as kernel_distance
from deepscm.metrics.realism import moments as moments
from deepscm.metrics.reversibility import WayBack as WayBack
from deepscm.metrics.reversibility import way_back as way_back
from deepscm.metrics.truth import TruthError as TruthError
from deepscm.metrics.truth import to_truth as to_truth
from deepscm.metrics.tvd import Frequencies as Frequencies
from deepscm.metrics.tvd import Variation as Variation
from deepscm.metrics.tvd import frequencies as frequencies
from deepscm.metrics.tvd import total_variation as total_variation
from deepscm.metrics.tvd import variation as variation
