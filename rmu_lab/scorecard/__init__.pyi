# What the scorecard offers. `lazy_loader` reads from here in which module each is found, at its first use: to list the
# verdicts takes `stored_table` alone, to measure a claim takes torch.
from .claim_table import as_json as as_json
from .claim_table import markdown as markdown
from .claim_table import rewrite as rewrite
from .claim_table import table_rows as table_rows
from .claims import CLAIMS as CLAIMS
from .claims import Claim as Claim
from .claims import claim_of as claim_of
from .full_size import FullRun as FullRun
from .full_size import found_runs as found_runs
from .rules import ARGUMENT_FAILS as ARGUMENT_FAILS
from .rules import NOT_MEASURED as NOT_MEASURED
from .rules import NOT_REPRODUCED as NOT_REPRODUCED
from .rules import REPRODUCED as REPRODUCED
from .rules import SCALE_DEPENDENT as SCALE_DEPENDENT
from .rules import VERDICTS as VERDICTS
from .rules import Condition as Condition
from .rules import Number as Number
from .rules import Rule as Rule
from .rules import above as above
from .rules import below as below
from .sources import NotMeasuredError as NotMeasuredError
from .stored_numbers import mean_of as mean_of
