"""The entry point: the commands, and what happens when they fail."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from deepscm.cli.counterfactual import counterfactual
from deepscm.cli.evaluate import evaluate
from deepscm.cli.info import info
from deepscm.cli.probe import probe
from deepscm.cli.sample import sample
from deepscm.cli.train import train
from deepscm.errors import DeepSCMError

app = typer.Typer(
    name="deepscm", no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command in (train, sample, counterfactual, evaluate, probe, info):
    app.command(no_args_is_help=True)(_command)


def _version(asked: bool) -> None:
    if asked:
        import deepscm

        typer.echo(f"deepscm {deepscm.__version__}")
        raise typer.Exit


@app.callback()
def overview(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and leave.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Deep structural causal models: train them, sample, ask counterfactual questions.

    A MODEL is a module that defines an SCM (package.module or a file; see docs/models.md), a RUN the folder that
    'deepscm train' wrote.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; leaves with status 2 and one message where deepscm itself raised the error."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    try:
        app([word for word in given if word != "--debug"], prog_name="deepscm")
    except DeepSCMError as error:
        if debug:
            raise
        from deepscm.cli.console import complain

        complain(str(error))
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
