"""Flow layers behind one protocol: own affine and support maps, and adapters to flow libraries."""

from deepscm.nn.flows.elementwise import Affine, Elementwise
from deepscm.nn.flows.nflows_flows import NflowsSpline
from deepscm.nn.flows.normflows_flows import NormflowsSpline
from deepscm.nn.flows.protocol import Bijector, Composition
from deepscm.nn.flows.pyro_flows import PyroSpline
from deepscm.nn.flows.rational_quadratic import RationalQuadratic
from deepscm.nn.flows.support import Exp, Sigmoid, Standardise, support_of
from deepscm.nn.flows.zuko_flows import ZukoSpline

__all__ = [
    "Affine",
    "Bijector",
    "Composition",
    "Elementwise",
    "Exp",
    "NflowsSpline",
    "NormflowsSpline",
    "PyroSpline",
    "RationalQuadratic",
    "Sigmoid",
    "Standardise",
    "ZukoSpline",
    "support_of",
]
