"""The league: methods of unlearning compared at equal tuning and equal disruption, each under a searched attack.

Every entry has as many trials on dev questions, and every edit is scaled until it disturbs the model alike; then an attacker
relearns, at a rate that is searched for each. Taught in notebook 12.

As in `rmu_lab`, each name is looked up in its module when it is first used; `__init__.pyi` says where.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
