"""The language of `--given`: what must hold of the rows that are drawn.

`sex=female` asks for a category, `digit=3,4` for either of two; `age=20:30` for a number in a range, both ends
included, and `age=65:` for one without an upper end. Several `--given` must hold at once.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from deepscm.cli.worlds import number, read, shown
from deepscm.errors import InterventionError
from deepscm.variables import Categorical, Image, Variable

if TYPE_CHECKING:
    from torch import Tensor


@dataclasses.dataclass(frozen=True)
class Within:
    """Whether numbers `(N,)` lie in a closed range."""

    low: float = -math.inf
    high: float = math.inf

    def __call__(self, value: Tensor) -> Tensor:
        return (value >= self.low) & (value <= self.high)


Event = dict[str, Within | list[int]]


def parse_event(given: Sequence[str], variables: Mapping[str, Variable]) -> Event:
    """What `--given` options ask for, by variable, as `scm.sample(given=...)` takes it.

    Raises:
        InterventionError: text that cannot be understood, an unknown variable or category, the same variable twice.

    Example:
        >>> from deepscm.variables import Binary, Real
        >>> parse_event(["age=20:30", "bald=1"], {"age": Real(), "bald": Binary()})
        {'age': Within(low=20.0, high=30.0), 'bald': [1]}
    """
    event: Event = {}
    for text in given:
        where = f"--given {text}"
        name, equals, rest = (part.strip() for part in text.replace("−", "-").partition("="))
        if not equals or not name or not rest:
            raise InterventionError(f"{where} came; name=category or name=low:high is expected.")
        if name not in variables:
            raise InterventionError(f"{where}: unknown variable {name!r}; the model has {', '.join(variables)}.")
        if name in event:
            raise InterventionError(f"{where}: {name} came twice; all that is given must hold, so say all of it at "
                                    f"once: {name}=0,1 or {name}=20:30.")
        event[name] = _condition(rest, variables[name], where)
    return event


def title(event: Event, variables: Mapping[str, Variable]) -> str:
    """An event in words, for headings; nothing where there is none.

    Example:
        >>> from deepscm.variables import Categorical, Real
        >>> title({"age": Within(65), "k": [0, 2]}, {"age": Real(), "k": Categorical(3)})
        'given age ≥ 65, k = 0 or 2'
    """
    parts = []
    for name, asked in event.items():
        if isinstance(asked, Within):
            low = f"{shown(asked.low, None)} ≤ " if math.isfinite(asked.low) else ""
            high = f" ≤ {shown(asked.high, None)}" if math.isfinite(asked.high) else ""
            parts.append(f"{low}{name}{high}" if high or not low else f"{name} ≥ {shown(asked.low, None)}")
        else:
            parts.append(f"{name} = {' or '.join(shown(code, variables[name]) for code in asked)}")
    return f"given {', '.join(parts)}" if parts else ""


def _condition(text: str, variable: Variable, where: str) -> Within | list[int]:
    if isinstance(variable, Categorical):
        named = text in (variable.names or ())
        return [read(part, variable, where) for part in ([text] if named else text.split(","))]
    if isinstance(variable, Image) or variable.shape:
        raise InterventionError(f"{where}: conditions on images and vectors cannot be written on the command line; use "
                                "scm.sample(n, given={name: function}) in Python.")
    low, colon, high = (part.strip() for part in text.partition(":"))
    if not colon or not (low or high):
        raise InterventionError(f"{where}: a range is expected, such as 20:30 or 65:, since a single number has "
                                "probability zero.")
    found = Within(number(low, where) if low else -math.inf, number(high, where) if high else math.inf)
    if found.low > found.high:
        raise InterventionError(f"{where}: no number lies there; give the lower end first.")
    return found
