from .chips import CHIPS as CHIPS, Chip as Chip, chip_of as chip_of
from .clusters import Joining as Joining
from .host_memory import keep_freed_memory_on_cpu as keep_freed_memory_on_cpu
from .link import Apart as Apart, Elsewhere as Elsewhere, Link as Link, Lost as Lost
from .mapping import Functions as Functions
from .placement import Held as Held, Placement as Placement, Replicas as Replicas, make_placement as make_placement
from .programs import Compiled as Compiled, Programs as Programs, Shapes as Shapes
from .spec import Parallel as Parallel
from .watch import Member as Member, Watch as Watch
