"""A static page that runs SmolLM2 in its reader's browser, with a slider from the base to the unlearned model.

To serve a page that is written takes neither torch nor transformers: each name is looked up when it is first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
