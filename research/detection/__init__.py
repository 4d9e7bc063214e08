"""Boxes apart from the model: formats and overlaps, non-maximum suppression, and assignment to true boxes.

from research.detection import boxes, nms

kept = nms(xyxy, scores, labels, number=100, threshold=0.65)
"""

from research.faces import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
