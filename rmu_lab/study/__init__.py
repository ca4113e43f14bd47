"""The study: every claim of Dang et al. 2024 on three real models, at settings that dev chose for each of them.

`run_parts` trains and measures, part by part, and goes on after a stop; `Study` reads what is stored under
`data/results/study`; `CLAIMS` says what each claim asks for, and `computed_claims` applies the rules, by which a verdict may
be undecided. Taught in notebook 10.

As in `rmu_lab`, each name is looked up in its module when it is first used; `__init__.pyi` says where.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
