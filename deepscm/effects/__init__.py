"""Causal effects: both arms of every contrast are computed from the same noise.

Treatments are interventions of any kind (a number, `Do`, `Shift`, `Map`, ...); outcomes are variables, or functions of
the world for what is no single number, such as the brightness of an image.
"""

from deepscm.effects.averages import ate as ate
from deepscm.effects.averages import att as att
from deepscm.effects.averages import cate as cate
from deepscm.effects.averages import ite as ite
from deepscm.effects.contrast import Effect as Effect
from deepscm.effects.paths import Mediation as Mediation
from deepscm.effects.paths import mediation as mediation
from deepscm.effects.paths import nde as nde
from deepscm.effects.paths import nie as nie
from deepscm.effects.paths import total as total
