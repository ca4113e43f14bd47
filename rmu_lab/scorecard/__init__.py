"""The scorecard: every claim of Dang et al. 2024, what decides about it, the numbers measured here, and the verdict.

Each of `CLAIMS` has its rule, fixed in the code: conditions on named numbers, each with its
95% interval, and a condition holds only where the whole interval does. Numbers come from results stored under
`data/results`; ``claim.fresh()`` measures them anew. Taught in notebook 10; ``rmu-lab claims`` lists the verdicts.

As in `rmu_lab`, each name is looked up in its module when it is first used; `__init__.pyi` says where.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
