"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_MODEL = "Model: package.module or path/to/file.py."
_DATA = "Your own data"
_WORLDS = "Interventions"

ModelName = Annotated[str, typer.Argument(metavar="MODEL", help=_MODEL)]
TargetName = Annotated[
    str, typer.Argument(metavar="RUN|MODEL", help="Folder of a run, or a model that ships weights.", show_default=False)
]
Variant = Annotated[str | None, typer.Option("--variant", help="One of the model's named configurations.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="Change a field of the model's Config; dots for nested fields."),
]
Module = Annotated[
    str | None,
    typer.Option("--model", metavar="MODEL", help="Where a run's model file is now, if it has moved."),
]
Table = Annotated[
    str | None,
    typer.Option("--data", metavar="CSV|FOLDER", rich_help_panel=_DATA,
                 help="A CSV file with a column for each variable; or the folder of the model's own data."),
]
ImageColumn = Annotated[
    str | None,
    typer.Option("--image-column", metavar="COLUMN", rich_help_panel=_DATA,
                 help="Column with image files, relative to the CSV; by default the image variable's name."),
]
Column = Annotated[
    list[str] | None,
    typer.Option("--column", metavar="VARIABLE=COLUMN", rich_help_panel=_DATA,
                 help="Column of a variable, where the names differ."),
]
Fit = Annotated[
    str,
    typer.Option("--fit", metavar="stretch|crop|exact", rich_help_panel=_DATA,
                 help="What to do with images of another size."),
]
Part = Annotated[str, typer.Option("--part", metavar="train|validation|test", help="Which part of the data.")]
Rows = Annotated[str | None, typer.Option("--rows", metavar="0,1,5:8", help="Which rows of it.")]
Actions = Annotated[
    list[str] | None,
    typer.Option("--do", metavar="X=VALUE", rich_help_panel=_WORLDS,
                 help="x=4 sets x; x=+1 and x=-0.5 shift it; x==-3 sets a negative value; sex=male names a category; "
                      "digit=0,1,2 makes three worlds. Repeat for more variables."),
]
Worlds = Annotated[
    list[str] | None,
    typer.Option("--world", metavar="X=..,Y=..", rich_help_panel=_WORLDS,
                 help="One more world with several actions, such as thickness=+1,digit=3. Repeat for more worlds."),
]
Given = Annotated[
    list[str] | None,
    typer.Option("--given", metavar="X=VALUE", rich_help_panel=_WORLDS,
                 help="Only rows in which this holds, by rejection: bald=1, digit=3,4 (either), age=20:30. Repeat for "
                      "more variables."),
]
OutOfSupport = Annotated[
    str,
    typer.Option("--out-of-support", metavar="raise|clip|nan", rich_help_panel=_WORLDS,
                 help="What to do where an action leaves a variable's support."),
]
Seed = Annotated[int, typer.Option("--seed", help="Same seed, same result.")]
Device = Annotated[str, typer.Option("--device", help="Where to compute: cpu, cuda, cuda:1, mps.")]
Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="FILE", help="Picture (.png, .pdf, .svg), table (.csv) or arrays (.npz)."),
]
