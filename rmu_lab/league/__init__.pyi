from .divergence import BaseStates as BaseStates
from .divergence import ScaledEdit as ScaledEdit
from .divergence import base_states as base_states
from .divergence import divergence as divergence
from .divergence import scaled_to_divergence as scaled_to_divergence
from .properties import EditProperties as EditProperties
from .properties import edit_properties as edit_properties
from .properties import sharpness as sharpness
