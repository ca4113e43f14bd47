"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

Device = Annotated[str | None, typer.Option(help="cuda, mps or cpu; by default the best there is.")]
Plugins = Annotated[
    list[str] | None,
    typer.Option("--plugin", help="Python file or module that registers a method or attack of yours; may be repeated."),
]
Others = Annotated[
    list[str] | None, typer.Option("--set", help="Any other setting of the method, as NAME=VALUE; may be repeated.")
]
Limit = Annotated[int | None, typer.Option(min=1, help="Questions of each set, drawn with a fixed seed; by default all.")]
Dtype = Annotated[
    str | None,
    typer.Option(help="float32, bfloat16, or auto: bfloat16 where it is faster; by default bfloat16 on CUDA only."),
]
DeviceMap = Annotated[str | None, typer.Option(help="auto: spread a model that is larger than one GPU.")]
