"""Published weights (safetensors) into our parameters, and back."""

from research.pretrained.catalog import from_config, variants
from research.pretrained.export import export_pretrained
from research.pretrained.load import Pretrained, load_pretrained

__all__ = ["Pretrained", "export_pretrained", "from_config", "load_pretrained", "variants"]
