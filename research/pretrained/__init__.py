"""Published weights (safetensors) into our parameters, and back."""

from research.pretrained.load import Pretrained, export_pretrained, from_config, load_pretrained, variants

__all__ = ["Pretrained", "export_pretrained", "from_config", "load_pretrained", "variants"]
