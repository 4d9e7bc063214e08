from .brief import brief as brief
from .checks import (
    check_counts as check_counts,
    check_factors as check_factors,
    check_images as check_images,
    check_part as check_part,
    check_rates as check_rates,
    check_shares as check_shares,
    check_size as check_size,
    check_stages as check_stages,
    check_types as check_types,
)
from .extras import from_extra as from_extra
from .hparams import bind as bind, hparam as hparam, hparams as hparams
from .modules import load_module as load_module
from .once import Once as Once
from .override import conformed as conformed, leaf_paths as leaf_paths, override as override
from .serialization import from_json as from_json, stable_hash as stable_hash, to_json as to_json
from .types import Mismatch as Mismatch
