"""No two things that the package draws share random numbers."""

import ast
import itertools
from pathlib import Path

import pytest
import torch

from rmu_lab import UnlearnConfig
from rmu_lab.attacks.ablate import _random_directions
from rmu_lab.corpora import TokenBatch
from rmu_lab.randomness import python_random, torch_generator
from rmu_lab.unlearning.directions import random_directions
from rmu_lab.unlearning.distributed import BatchShare
from rmu_lab.unlearning.window import _retain_noise

PACKAGE = Path(__file__).parents[1] / "rmu_lab"
STREAMS = ("torch_generator", "python_random")
MAKERS = {"Generator", "Random", "SystemRandom", "RandomState", "default_rng", "manual_seed", "seed", "fork_rng"}
N = 4096


def calls() -> list[tuple[str, ast.Call, str]]:
    """Every call in the package: its module, the call, and the last part of what is called."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                found.append((path.relative_to(PACKAGE).as_posix(), node, name))
    return found


def purposes() -> list[str]:
    """What each stream of the package is for, as its code says; the course repeats some of them to show what they draw."""
    given = [
        call.args[1]
        for module, call, name in calls()
        if name in STREAMS and module != "randomness.py" and not module.startswith("course/")
    ]
    return [purpose.value for purpose in given if isinstance(purpose, ast.Constant)]


def test_only_one_module_makes_generators():
    makers = {(module, name) for module, _, name in calls() if name in MAKERS}
    directions = {("unlearning/directions.py", "Generator"), ("unlearning/directions.py", "manual_seed")}
    # Resample questions, directions and facts: nothing is trained by them.
    bootstraps = {
        ("estimates.py", "default_rng"),
        ("metrics/tofu.py", "default_rng"),
        ("metrics/separation.py", "default_rng"),
    }
    kept = {("attacks/fine_tune.py", "fork_rng")}  # puts the caller's stream back after another library has drawn from it
    package = {each for each in makers if each[0] != "randomness.py" and not each[0].startswith("course/")}
    assert package == directions | bootstraps | kept
    # The course draws RMU's published direction, resamples for intervals, and makes the numbers of a few checks.
    course = {module for module, _ in makers if module.startswith("course/")}
    assert course <= {
        f"course/{name}.py"
        for name in (
            "confidence",
            "jailbreaks",
            "never_knew",
            "noise",
            "recovery",
            "search_figures",
            "spread",
            "stored_runs",
        )
    }


def test_each_purpose_is_used_in_one_place():
    assert len(purposes()) >= 8 and len(set(purposes())) == len(purposes())


def test_all_purposes_are_independent():
    """Correlations of normal draws, of all pairs of purposes, seeds and steps, as small as chance makes them."""
    streams = {("direction", seed): torch.Generator().manual_seed(seed) for seed in range(3)}
    for purpose, seed, step in itertools.product(purposes(), range(3), (None, 0, 1)):
        streams[purpose, seed, step] = torch_generator(seed, purpose, step)
    drawn = torch.stack([torch.randn(N, generator=generator) for generator in streams.values()])
    correlation = torch.corrcoef(drawn).fill_diagonal_(0)
    assert correlation.abs().max() < 6 / N**0.5
    again = torch_generator(2, purposes()[-1], 1)
    assert torch.randn(N, generator=again).equal(drawn[-1])


def test_choices_of_texts_are_independent():
    orders = [python_random(seed, purpose).sample(range(N), N) for purpose in purposes() for seed in range(3)]
    correlation = torch.corrcoef(torch.tensor(orders, dtype=torch.float64)).fill_diagonal_(0)
    assert correlation.abs().max() < 6 / N**0.5
    assert python_random(1, "a").random() == python_random(1, "a").random()


@pytest.mark.parametrize("direction", ["positive", "isotropic"])
def test_the_random_control_of_ablate_has_nothing_of_the_direction(direction):
    """It was u itself where u is isotropic."""
    for seed in range(5):
        u = random_directions(["forget"], N, seed, direction)["forget"]
        controls = _random_directions(5, u, seed)
        torch.testing.assert_close(controls.norm(dim=-1), torch.ones(5))
        assert (controls @ u).abs().max() < 6 / N**0.5


def test_retain_noise_has_nothing_of_the_direction_and_is_drawn_anew_at_each_step():
    """That of the first step was u, and step 1 of seed 0 was the direction of seed 1."""
    text = TokenBatch(torch.ones(1, 2, dtype=torch.long), torch.ones(1, 2, dtype=torch.long))
    share, like = BatchShare(text, slice(0, 1), 1, 1.0, 1.0), torch.zeros(1, 2, N)
    noise = {
        (seed, step): _retain_noise(UnlearnConfig(retain_noise=1.0, seed=seed), step, share, like).flatten()
        for seed in range(3)
        for step in range(3)
    }
    u = [random_directions(["forget"], 2 * N, seed, "isotropic")["forget"] for seed in range(3)]
    drawn = torch.stack([*noise.values(), *u])
    assert torch.corrcoef(drawn).fill_diagonal_(0).abs().max() < 6 / (2 * N) ** 0.5
    assert noise[0, 0].std() == pytest.approx(1, rel=0.05)
