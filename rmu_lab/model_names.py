"""What a model's name stands for, asked before anything is loaded: a mistyped one is an error at once, offline too."""

from __future__ import annotations

import os
from difflib import get_close_matches
from pathlib import Path

from .errors import RmuLabError
from .files import refuse_unreadable
from .packaged_table import PACKAGED_MODELS
from .stored import sentence_of

HUB_SECONDS = 10
"""To wait for the hub's word on a name; to load what it knows may take longer."""


def check_model_name(name: str) -> None:
    """Raise `RmuLabError` if a name is that of no model: no short name, no folder, and the hub does not know it.

    The hub is asked once, without the retries that its downloads have; what it has given before is not asked for again. Of a
    folder, files that may not be read are named.
    """
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.constants import is_offline_mode
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    if os.path.exists(name):
        refuse_unreadable(Path(name))
        return
    try:
        if is_offline_mode() or isinstance(try_to_load_from_cache(name, "config.json"), str):
            return
        HfApi().model_info(name, timeout=HUB_SECONDS)
    except HFValidationError:
        raise _unknown(name, "its form is not that of a name on the Hugging Face hub") from None
    except RepositoryNotFoundError:
        reason = "the Hugging Face hub does not know it, or keeps it private (log in with: hf auth login)"
        raise _unknown(name, reason) from None
    except Exception as error:  # of httpx and huggingface_hub: of many kinds
        reason = f"the Hugging Face hub cannot be asked for it ({sentence_of(error)}); connect and try again"
        raise _unknown(name, reason) from None


def _unknown(name: str, reason: str) -> RmuLabError:
    near = get_close_matches(name.lower(), PACKAGED_MODELS, n=1)
    advice = f"; did you mean {near[0]}?" if near else "; check its spelling."
    return RmuLabError(
        f"No model could be loaded from {name!r}: it is none of the short names ({', '.join(PACKAGED_MODELS)}), there is no "
        f"folder of that name, and {reason}{advice}"
    )
