# The public names. `lazy_loader` reads from here in which module each is found, at its first use.
from .activations import alignment as alignment
from .activations import token_states as token_states
from .attacks.attack_table import register_attack as register_attack
from .attacks.controls import Recovery as Recovery
from .attacks.gauntlet import RobustnessCard as RobustnessCard
from .attacks.gauntlet import gauntlet as gauntlet
from .attacks.greedy_coordinate import GCGConfig as GCGConfig
from .attacks.greedy_coordinate import GCGResult as GCGResult
from .attacks.greedy_coordinate import gcg as gcg
from .attacks.subject import Budget as Budget
from .attacks.subject import Subject as Subject
from .corpora import load_corpus as load_corpus
from .errors import RmuLabError as RmuLabError
from .evaluate import Accuracy as Accuracy
from .evaluate import accuracy as accuracy
from .evaluate import accuracy_change as accuracy_change
from .generation import answers as answers
from .generation import max_logits as max_logits
from .lmeval import harness as harness
from .models import decoder_blocks as decoder_blocks
from .models import load_model as load_model
from .questions import load_questions as load_questions
from .sweeps.rows import SweepRow as SweepRow
from .sweeps.rows import load_sweep as load_sweep
from .sweeps.sweep import grid as grid
from .sweeps.sweep import sweep as sweep
from .unlearning.advisor import Advice as Advice
from .unlearning.advisor import advise as advise
from .unlearning.config import UnlearnConfig as UnlearnConfig
from .unlearning.edit_method import EditMethod as EditMethod
from .unlearning.loss_method import LossMethod as LossMethod
from .unlearning.method_table import register_method as register_method
from .unlearning.result import UnlearnResult as UnlearnResult
from .unlearning.unlearn import checkpoints as checkpoints
from .unlearning.unlearn import unlearn as unlearn

__version__: str
