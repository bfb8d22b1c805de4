"""The flags of ``lepton run create evaluate`` and ``cross_validate`` that ask for more than metrics."""

from typing import Annotated

import typer

EVALUATE = "Evaluate, predict"
Importance = Annotated[
    bool | None, typer.Option("--importance", help="Which columns does it need?", rich_help_panel=EVALUATE)
]

Explain = Annotated[
    bool | None,
    typer.Option("--explain", help="What do its answers come from, where does it look?", rich_help_panel=EVALUATE),
]

Outliers = Annotated[
    bool | None,
    typer.Option("--outliers", help="Which rows are far from what it learnt from?", rich_help_panel=EVALUATE),
]

Robustness = Annotated[
    bool | None,
    typer.Option("--robustness", help="What do noise, missing values and the like cost it?", rich_help_panel=EVALUATE),
]

Curve = Annotated[
    bool | None, typer.Option("--curve", help="Of cross_validate: with fewer rows?", rich_help_panel=EVALUATE)
]

Noise = Annotated[
    bool | None, typer.Option("--noise", help="Of cross_validate: with wrong labels?", rich_help_panel=EVALUATE)
]
