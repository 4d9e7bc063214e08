from . import boxes as boxes
from .average_precision import Scores as Scores, average_precision as average_precision
from .boxes import cxcywh as cxcywh, giou as giou, iou as iou, xyxy as xyxy
from .matching import Matched as Matched, match as match, set_costs as set_costs
from .nms import Kept as Kept, nms as nms
from .predictions import CellPredictions as CellPredictions, SetPredictions as SetPredictions, cells as cells
from .simota import Assigned as Assigned, central as central, simota as simota
