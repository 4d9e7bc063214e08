"""Colours of scores, from pale to deep blue; better scores are deeper, since dark colours stand out on white."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from research.metrics.directions import Direction

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def colormap(way: Direction | None, palest: int = 0):
    """The shades for scores, without the `palest` ones.  Without a direction, larger scores are deeper."""
    from matplotlib.colors import LinearSegmentedColormap

    shades = ["#e6ebf2", "#b3cbe1", "#6fa1cb", "#3572ad", "#174a85", "#0a2a57"]
    shades = shades[palest:]
    return LinearSegmentedColormap.from_list("score", shades[::-1] if way == "min" else shades)


def norm(scores: np.ndarray, way: Direction | None):
    """Returns (norm, True if clipped); a few very bad scores do not compress the colours of the others."""
    from matplotlib.colors import LogNorm, Normalize

    low, high = float(scores.min()), float(scores.max())
    if way is None:
        return Normalize(low, high), False
    down = way == "min"
    if down and low > 0 and high / low > 20:
        return LogNorm(low, high), False
    quarter, three_quarters = np.quantile(scores, [0.25, 0.75])
    reach = 3 * (three_quarters - quarter)
    cut_low = not down and reach > 0 and low < quarter - reach
    cut_high = down and reach > 0 and high > three_quarters + reach
    low = float(scores[scores >= quarter - reach].min()) if cut_low else low
    high = float(scores[scores <= three_quarters + reach].max()) if cut_high else high
    return Normalize(low, high), bool(cut_low or cut_high)


def colorbar(figure: Figure, image, axes, clipped: bool, way: Direction | None) -> None:
    if image.norm.vmin == image.norm.vmax:  # with a single score, a scale shows nothing
        axes.remove()
        return
    extend = "neither" if not clipped else "max" if way == "min" else "min"
    bar = figure.colorbar(image, cax=axes, extend=extend)
    bar.outline.set_visible(False)
    bar.ax.grid(visible=False)
    bar.ax.tick_params(length=2, width=0.5, labelsize=7)
    if "Log" not in type(image.norm).__name__:
        bar.ax.locator_params(nbins=5)
