"""Models, one file per family: `models.MLP(widths=(128,), classes=10)`, `models.resnet(50)`."""

from research.faces import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
