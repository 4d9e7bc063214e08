"""Tables and figures from the folders of runs.

    from research.report import report

    report(["runs/digits_mlp/activation"]).html

Reads only files that trials wrote, except for figures of the inside of models, which also need their data and JAX.
Writes only to the report's own folder.  Matplotlib is imported when a figure is drawn.
"""

from research.faces import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
