"""Flow layers behind one protocol: own affine and support maps, and adapters to flow libraries."""

from deepscm.nn.flows.elementwise import Affine, Elementwise
from deepscm.nn.flows.protocol import Bijector, Composition
from deepscm.nn.flows.pyro_splines import PyroSpline
from deepscm.nn.flows.support import Exp, Sigmoid, Standardise, support_of
from deepscm.nn.flows.zuko_splines import ZukoSpline

__all__ = [
    "Affine",
    "Bijector",
    "Composition",
    "Elementwise",
    "Exp",
    "PyroSpline",
    "Sigmoid",
    "Standardise",
    "ZukoSpline",
    "support_of",
]
