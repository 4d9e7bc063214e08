from .host_memory import keep_freed_memory_on_cpu as keep_freed_memory_on_cpu
from .programs import Programs as Programs
from .spec import Parallel as Parallel
