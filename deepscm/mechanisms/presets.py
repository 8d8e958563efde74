"""The covariate mechanisms of the DeepSCM paper, one constructor for each equation of its appendix.

In the equations exp, sigmoid and AffineNormalisation are the support map that every `Flow` fits by itself; what is
passed on are the layers between it and the noise. Parents enter in their unconstrained, normalised form (the hat).
"""

from __future__ import annotations

from deepscm.mechanisms.flow import Flow
from deepscm.nn.flows import Affine, PyroSpline

_WIDTHS = (8, 16)


def eq_a1(bins: int = 8, bound: float = 3.0) -> Flow:
    """`x = (exp o AffineNormalisation o Spline)(u)`, Eq. A.1: a positive root variable, such as a thickness.

    Example:
        >>> from deepscm import Real
        >>> eq_a1().bind(Real(low=0.0), {})
    """
    return Flow([PyroSpline(bins, bound)])


def eq_a2(support: str = "data", context_scale: str = "unconstrained") -> Flow:
    """`x = (AffineNormalisation o sigmoid o ConditionalAffine(hat pa))(u)`, Eq. A.2: a doubly bounded child.

    The context network is linear. The paper takes the bounds from the data; `support="declared"` takes the variable's.
    `context_scale="standard"` gives the parents in their own scale, which the true intensity mechanism of Eq. 7 needs.
    """
    return Flow([Affine()], support=support, context_scale=context_scale)


def eq_a3(support: str = "data", bins: int = 8, bound: float = 3.0) -> Flow:
    """`x = (AffineNormalisation o sigmoid o Spline o Affine)(u)`, Eq. A.3: a doubly bounded root variable."""
    return Flow([PyroSpline(bins, bound), Affine()], support=support)


def eq_b1(bins: int = 8, bound: float = 3.0) -> Flow:
    """`x = (exp o AffineNormalisation o Spline)(u)`, Eq. B.1: the form of Eq. A.1."""
    return eq_a1(bins, bound)


def eq_b2() -> Flow:
    """`x = (exp o AffineNormalisation o ConditionalAffine(pa))(u)`, Eq. B.2: a positive child, such as a brain volume.

    The context network has 8 and 16 hidden units with LeakyReLU(0.1). Categorical parents enter as they are.
    """
    return Flow([Affine(_WIDTHS, "leaky_relu", skip=False)], context_scale="unconstrained")


def eq_b3() -> Flow:
    """`x = (exp o AffineNormalisation o ConditionalAffine(hat pa))(u)`, Eq. B.3: the form of Eq. B.2."""
    return eq_b2()
