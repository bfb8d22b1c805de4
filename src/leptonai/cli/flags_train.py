"""Flags of a training that say what it predicts, and from what, where there are several."""

from typing import Annotated

import typer

TRAIN = "Train"  # the part of the help that they stand in

Targets = Annotated[
    list[str] | None,
    typer.Option(
        "--target",
        metavar="COLUMN",
        help="Column to predict, instead of the dataset's; repeatable.",
        rich_help_panel=TRAIN,
    ),
]
LossWeights = Annotated[
    list[str] | None,
    typer.Option(
        "--loss-weight",
        metavar="TARGET=NUMBER",
        help="What the loss of one of several targets weighs; repeatable.",
        rich_help_panel=TRAIN,
    ),
]
Inputs = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        metavar="INPUT=COLUMN,…",
        help="The columns in one of a model's several inputs; repeatable.",
        rich_help_panel=TRAIN,
    ),
]
