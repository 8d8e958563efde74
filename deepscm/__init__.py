"""Deep structural causal models: define, fit and query them.

Names are imported when first used, so that a command line that only prints its help loads no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "deepscm.errors": ("DeepSCMError",),
    "deepscm.graph": ("CausalGraph",),
    "deepscm.interventions": ("Do", "Draw", "Intervention", "Map", "Replace", "Shift"),
    "deepscm.record": ("Record", "Result"),
    "deepscm.scm": ("SCM", "CausalVariable", "Node"),
    "deepscm.variables": ("Binary", "Categorical", "Image", "Real", "Variable"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

if TYPE_CHECKING:
    from deepscm.errors import DeepSCMError as DeepSCMError
    from deepscm.graph import CausalGraph as CausalGraph
    from deepscm.interventions import Do as Do
    from deepscm.interventions import Draw as Draw
    from deepscm.interventions import Intervention as Intervention
    from deepscm.interventions import Map as Map
    from deepscm.interventions import Replace as Replace
    from deepscm.interventions import Shift as Shift
    from deepscm.record import Record as Record
    from deepscm.record import Result as Result
    from deepscm.scm import SCM as SCM
    from deepscm.scm import CausalVariable as CausalVariable
    from deepscm.scm import Node as Node
    from deepscm.variables import Binary as Binary
    from deepscm.variables import Categorical as Categorical
    from deepscm.variables import Image as Image
    from deepscm.variables import Real as Real
    from deepscm.variables import Variable as Variable

__all__ = ["__version__", *sorted(_HOME)]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'deepscm' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
