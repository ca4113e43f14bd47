"""Settings of RMU and Adaptive RMU that `dev` questions chose for each packaged model; needs no torch."""

from __future__ import annotations

from typing import Any

MODEL_SETTINGS: dict[str, dict[str, Any]] = {
    "smollm2-135m": {},  # the defaults of `UnlearnConfig` were chosen for it
    "gemma-3-270m": {"layer": 13, "coefficient": 97000.0, "alpha": 300.0, "lr": 1.68e-3},
    "qwen2.5-coder-1.5b": {"layer": 6, "coefficient": 160.0, "alpha": 290.0, "lr": 2.34e-4},
}
"""By the name of the model: what differs from the defaults. Those of the larger two are the choice of `rmu_lab.study`."""
