"""The flags of ``lepton run create tune``, and of finding a model without code."""

from pathlib import Path
from typing import Annotated

import typer

TUNE, AUTO = "Tune", "Find a model"

Space = Annotated[
    list[str] | None,
    typer.Option(
        metavar="SETTING",
        help="What is varied: learning_rate=1e-4..0.1:log, depth=2..12, optimizer=adam|sgd; repeatable.",
        rich_help_panel=TUNE,
    ),
]

Goal = Annotated[
    list[str] | None,
    typer.Option(help="What is to be best: val_accuracy, min:latency_ms; repeatable.", rich_help_panel=TUNE),
]

Budget = Annotated[
    list[str] | None,
    typer.Option(help="Trials, or a time such as 10min; both may be given. A time for auto.", rich_help_panel=TUNE),
]

Sampler = Annotated[str | None, typer.Option(help="auto, tpe, gp, random, grid, cmaes or nsga2.", rich_help_panel=TUNE)]

Pruner = Annotated[
    str | None,
    typer.Option(help="Give hopeless trials up: asha, hyperband, median or none.", rich_help_panel=TUNE),
]

Parallel = Annotated[int | None, typer.Option(help="Trials at once; default: one for each core.", rich_help_panel=TUNE)]

Start = Annotated[
    list[str] | None,
    typer.Option(metavar="RUN", help="An earlier tune Run to begin with; repeatable.", rich_help_panel=TUNE),
]

Html = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write a page with plots of the study.", rich_help_panel=TUNE)
]

Test = Annotated[
    str | None,
    typer.Option(metavar="DATASET", help="Measure the chosen model on this, once.", rich_help_panel=AUTO),
]

Family = Annotated[
    list[str] | None, typer.Option(help="Try only these kinds of models; repeatable.", rich_help_panel=AUTO)
]

Kind = Annotated[str | None, typer.Option(help="Of the problem, where the columns do not say.", rich_help_panel=AUTO)]

Horizon = Annotated[
    int | None, typer.Option(min=1, help="Of a series: how many steps are told ahead.", rich_help_panel=AUTO)
]

Metric = Annotated[str | None, typer.Option(help="What is to be best.", rich_help_panel=AUTO)]

Publish = Annotated[
    str | None, typer.Option(metavar="NAME", help="Make a version of what was found.", rich_help_panel=AUTO)
]
