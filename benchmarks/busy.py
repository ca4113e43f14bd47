"""How a step of RMU fares on a machine that others use too, with one thread, with all, and with threads that sleep.

    python -m benchmarks.busy --json data/results/busy.json

Threads of one matrix product wait for each other. As OpenMP comes with torch they spin while they wait, which wins a
little on an idle machine; where another process needs the core, the others spin through its whole turn. With
``GOMP_SPINCOUNT=1000``, which the command line sets, they soon go to sleep; with ``OMP_WAIT_POLICY=passive`` at once. Each
number is of a process of its own: a step of 4 + 4 texts of 128 tokens at layer 7, alone; beside a process that multiplies
with one thread; and three users at once, of whom the slowest counts.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Mapping

from benchmarks.arguments import result_file
from rmu_lab.files import write_json
from rmu_lab.provenance import provenance

WAYS: dict[str, dict[str, str]] = {
    "all threads": {},
    "all threads, short spin": {"GOMP_SPINCOUNT": "1000"},
    "all threads, no spin": {"OMP_WAIT_POLICY": "passive"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
STEP = """
import time
from rmu_lab import UnlearnConfig, load_corpus, load_model, unlearn
model, tokenizer = load_model(device="cpu")
texts = load_corpus("forget_bio"), load_corpus("retain_general")
for steps in (2, {steps}):
    start = time.perf_counter()
    unlearn(model, tokenizer, *texts, UnlearnConfig(steps=steps, max_length=128), progress=False)
print((time.perf_counter() - start) / {steps})
"""
OTHER = """
import torch
torch.set_num_threads(1)
matrix = torch.randn(512, 512)
while True:
    matrix @ matrix
"""


def started(program: str, environment: Mapping[str, str]) -> subprocess.Popen[str]:
    """A Python process, without what this one has of threads."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "MKL_"))}
    return subprocess.Popen([sys.executable, "-c", program], env=clean | environment, stdout=subprocess.PIPE, text=True)


def seconds_a_step(users: int, others: int, environment: Mapping[str, str], steps: int) -> float:
    """Of the slowest of so many users, beside so many processes of others."""
    busy = [started(OTHER, {}) for _ in range(others)]
    try:
        time.sleep(2 if others else 0)
        running = [started(STEP.format(steps=steps), environment) for _ in range(users)]
        outputs = [process.communicate()[0] for process in running]
        if any(process.returncode for process in running):
            raise SystemExit("A step failed; its error stands above.")
        return max(map(float, outputs))
    finally:
        for process in busy:
            process.kill()


def main() -> None:
    """Measure every way on the idle machine and on the busy ones."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--json", type=result_file)
    arguments = parser.parse_args()
    seconds: dict[str, dict[str, float]] = {}
    for place, users, others in (("idle", 1, 0), ("one other process", 1, 1), ("three users", 3, 0)):
        seconds[place] = {way: seconds_a_step(users, others, set_to, arguments.steps) for way, set_to in WAYS.items()}
        print(place, {way: round(value, 2) for way, value in seconds[place].items()}, flush=True)
    if arguments.json is not None:
        write_json(arguments.json, {"seconds a step": seconds, "provenance": provenance(0)})


if __name__ == "__main__":
    main()
