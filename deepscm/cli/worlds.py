"""The language of `--do` and `--world`.

`x=4` sets x to 4; `x=+1` and `x=-0.5` shift it from what it would have been; `x==-3` (or `x=do(-3)`) sets a negative
value. A category is named, or given by its number: `sex=female`, `digit=3`. A vector stands in brackets: `x=[1,2]`.
Several values make several worlds: `digit=0,1,2`; lists in two `--do` give every combination. A `--world` is one more
world, its actions separated by commas: `--world thickness=+1,digit=3`.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from deepscm.errors import InterventionError
from deepscm.interventions import Do, Intervention, OutOfSupport, Shift
from deepscm.variables import Binary, Categorical, Image, Variable

World = dict[str, Intervention]
_EXPLICIT = re.compile(r"do\((.*)\)", re.DOTALL)
_TRUTH = {"true": 1, "yes": 1, "false": 0, "no": 0}


def parse_worlds(
    do: Sequence[str], world: Sequence[str], variables: Mapping[str, Variable], out_of_support: OutOfSupport = "raise"
) -> list[World]:
    """The worlds that `--do` and `--world` options ask for; empty where there are none.

    Raises:
        InterventionError: text that cannot be understood, an unknown variable or category, the same variable twice.

    Example:
        >>> from deepscm.variables import Real
        >>> parse_worlds(["x=+1", "k=0,1"], [], {"x": Real(), "k": Categorical(3)})[1]["x"].delta
        1.0
    """
    lists = [_actions(text, variables, out_of_support) for text in do]
    worlds = [_joined(combination) for combination in itertools.product(*lists)] if lists else []
    for text in world:
        parts = [_actions(part, variables, out_of_support) for part in _split(text, re.compile(r",(?=[^,\[\]]*=)|;"))]
        if any(len(part) > 1 for part in parts):
            raise InterventionError(
                f"--world {text}: a list of values came; a world has one value for each variable. Give "
                "--world once for each, or the list to --do."
            )
        worlds.append(_joined([part[0] for part in parts]))
    return worlds


def title(world: Mapping[str, Intervention], variables: Mapping[str, Variable]) -> str:
    """A world in words, for headings.

    Example:
        >>> from deepscm.variables import Real
        >>> title({"x": Shift(-0.5), "sex": Do(1)}, {"x": Real(), "sex": Categorical(["female", "male"])})
        'do(x − 0.5, sex = male)'
    """
    parts = []
    for name, action in world.items():
        if isinstance(action, Shift):
            parts.append(f"{name} {'−' if action.delta < 0 else '+'} {abs(action.delta):g}")
        else:
            parts.append(f"{name} = {shown(getattr(action, 'value', action), variables[name])}")
    return f"do({', '.join(parts)})" if parts else "factual"


def shown(value: Any, variable: Variable | None, digits: int = 4) -> str:
    """A value as a reader expects it: a category's name, or a rounded number."""
    if isinstance(value, (list, tuple)) or bool(getattr(value, "ndim", 0)):
        return f"[{', '.join(shown(item, variable, digits) for item in value)}]"
    if isinstance(variable, Categorical):
        code = int(value)
        return variable.names[code] if variable.names is not None and 0 <= code < variable.size else str(code)
    return f"{float(value):.{digits}g}".replace("-", "−")


def _joined(actions: Iterable[tuple[str, Intervention]]) -> World:
    world: World = {}
    for name, action in actions:
        if name in world:
            raise InterventionError(
                f"{name} came twice in one world; give each variable one action, or several values as "
                f"a list: {name}=1,2."
            )
        world[name] = action
    return world


def _actions(text: str, variables: Mapping[str, Variable], policy: OutOfSupport) -> list[tuple[str, Intervention]]:
    name, equals, rest = text.partition("=")
    name, rest = name.strip(), rest.strip().replace("−", "-")
    if not equals or not name or not rest:
        raise InterventionError(f"--do {text!r} came; name=value, name=+shift or name==value is expected.")
    if name not in variables:
        raise InterventionError(f"--do {text}: unknown variable {name!r}; the model has {', '.join(variables)}.")
    variable = variables[name]
    if isinstance(variable, Image):
        raise InterventionError(f"--do {text}: {name} is an image, which cannot be written on the command line; use "
                                "scm.counterfactual in Python.")
    named = isinstance(variable, Categorical) and rest in (variable.names or ())
    values = [rest] if named else _split(rest, re.compile(","))
    return [(name, _action(value, variable, f"--do {text}", policy)) for value in values]


def _action(text: str, variable: Variable, where: str, policy: OutOfSupport) -> Intervention:
    explicit = _EXPLICIT.fullmatch(text)
    if explicit or text.startswith("="):
        return Do(read(explicit[1] if explicit else text[1:], variable, where), out_of_support=policy)
    names = variable.names or () if isinstance(variable, Categorical) else ()
    if text[:1] in "+-" and text not in names:
        if isinstance(variable, Categorical):
            raise InterventionError(f"{where}: categories have no order to shift along; name the category: "
                                    f"{_categories(variable)}.")
        return Shift(number(text, where), out_of_support=policy)
    return Do(read(text, variable, where), out_of_support=policy)


def read(text: str, variable: Variable, where: str) -> Any:
    """A value of a variable: a number, numbers in brackets, a category by name or number.

    Args:
        text: what came.
        variable: whose value it is.
        where: how errors begin, such as "--do x=abc".

    Raises:
        InterventionError: text that is no value of the variable.
    """
    text = text.strip()
    if isinstance(variable, Categorical):
        return _category(text, variable, where)
    if variable.shape:
        items = _split(text.strip("[]"), re.compile(","))
        if not text.startswith("[") or len(items) != variable.shape[0]:
            raise InterventionError(
                f"{where}: a vector of {variable.shape[0]} numbers in brackets is expected, such "
                f"as [{','.join('0' * variable.shape[0])}]."
            )
        return [number(item, where) for item in items]
    return number(text, where)


def _category(text: str, variable: Categorical, where: str) -> int:
    if variable.names is not None and text in variable.names:
        return variable.names.index(text)
    if isinstance(variable, Binary) and text.lower() in _TRUTH:
        return _TRUTH[text.lower()]
    if text.isdecimal() and int(text) < variable.size:
        return int(text)
    raise InterventionError(f"{where}: unknown category {text!r}; one of {_categories(variable)} is expected.")


def _categories(variable: Categorical) -> str:
    return ", ".join(variable.names) if variable.names is not None else f"0..{variable.size - 1}"


def number(text: str, where: str) -> float:
    """A finite number; errors as for `read`."""
    try:
        made = float(text)
    except ValueError:
        raise InterventionError(f"{where}: {text!r} came; a number is expected.") from None
    if not math.isfinite(made):
        raise InterventionError(f"{where}: {text} came; a finite number is expected.")
    return made


def _split(text: str, separator: re.Pattern[str]) -> list[str]:
    """Parts between separators outside brackets."""
    parts, start = [], 0
    for match in separator.finditer(text):
        before = text[: match.start()]
        if all(before.count(opening) <= before.count(closing) for opening, closing in ("[]", "()")):
            parts.append(text[start : match.start()].strip())
            start = match.end()
    return [*parts, text[start:].strip()]
