"""Tables and pictures from the folders of a run.

    from research.report import report
    report(["runs/digits_mlp/activation"]).html

Reads only what the trials left behind, but for pictures of the inside of models, which need their data and JAX too;
writes only into the report's own folder.  Matplotlib is imported when a figure is drawn, not before.
"""

from research.faces import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
