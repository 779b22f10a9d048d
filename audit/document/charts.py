"""Charts: Altair describes them, vl-convert draws inline SVG, the style sheet of the page sets the colours."""

from __future__ import annotations

import re
from html import escape
from typing import Any, Protocol

import altair as alt
import vl_convert

from audit.document.locale import Locale

INK, FAINT, GRID = "var(--ink)", "var(--ink-soft)", "var(--line)"
_WIDTH, _HEIGHT = 460, 240
_SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")


class HasInterval(Protocol):
    """An estimate between two bounds, such as `Interval` or `Proportion`."""

    @property
    def estimate(self) -> float:
        """The value."""
        ...

    @property
    def low(self) -> float:
        """Its lower bound."""
        ...

    @property
    def high(self) -> float:
        """Its upper bound."""
        ...


def interval_band(share: HasInterval) -> dict[str, float]:
    """An estimate and its bounds as the columns y, low and high of a chart.

    Args:
        share: The estimate with its bounds.
    """
    return {"y": share.estimate, "low": share.low, "high": share.high}


def share_axis(locale: Locale, field: str = "low:Q", title: str = "charts.share_right") -> alt.Y:
    """A vertical axis from 0 to 100%.

    Args:
        locale: The reader's language.
        field: The column on the axis.
        title: Key of its title.
    """
    axis = alt.Axis(format=".0%", values=[0, 0.25, 0.5, 0.75, 1])
    return alt.Y(field, title=locale(title), scale=alt.Scale(domain=[0, 1]), axis=axis)


def share_x_axis(title: str) -> alt.X:
    """A horizontal axis from 0 to 100%.

    Args:
        title: Its title.
    """
    axis = alt.Axis(format=".0%", values=[0, 0.25, 0.5, 0.75, 1], grid=False)
    return alt.X("x:Q", title=title, scale=alt.Scale(domain=[0, 1]), axis=axis)


def few_ticks() -> alt.Axis:
    """An axis of at most about five ticks, whose labels fit beside each other."""
    return alt.Axis(grid=False, labelFlush=False, tickCount=5)


def series_colour(names: list[str]) -> alt.Color:
    """A colour for each series, from the style sheet of the page.

    Args:
        names: Name of the series of each point; repeats count once.
    """
    colours = [f"var(--series-{i % 6 + 1})" for i in range(len(dict.fromkeys(names)))]
    scale = alt.Scale(domain=list(dict.fromkeys(names)), range=colours)
    return alt.Color("series:N", title=None, scale=scale, legend=alt.Legend(orient="top", symbolType="circle"))


def series_shape(colour: alt.Color) -> alt.Shape:
    """A point shape for each series in the order of the colours, so that a chart can be read without colour.

    Args:
        colour: The colours, as `series_colour` gives them.
    """
    domain = colour.to_dict()["scale"]["domain"]
    return alt.Shape("series:N", title=None, scale=alt.Scale(domain=domain, range=list(_SHAPES[: len(domain)])))


def _padding(left: int) -> dict[str, int]:
    """Padding for page fonts that are wider than the one the chart was laid out with."""
    return {"left": left, "right": 16, "top": 4, "bottom": 4}


def svg_chart(
    chart: Any, title: str, description: str, *, width: int = _WIDTH, height: int = _HEIGHT, left: int = 6
) -> str:
    """Draw a chart as one <svg> element with a text alternative.

    The labels that Vega gives the parts are removed: they are always English, and the parts of an image are not read
    out.

    Args:
        chart: An Altair chart.
        title: The title, for screen readers.
        description: The data in words, for screen readers.
        width: Width of the plot in pixels; the page may scale it.
        height: Height of the plot in pixels.
        left: Padding on the left in pixels.

    Returns:
        The element, safe to stand in HTML.
    """
    styled = (
        chart.properties(width=width, height=height, background="transparent", padding=_padding(left))
        .configure_view(strokeWidth=0)
        .configure_axis(
            labelColor=FAINT,
            titleColor=FAINT,
            gridColor=GRID,
            domainColor=GRID,
            tickColor=GRID,
            labelFontSize=12,
            titleFontSize=12,
            titleFontWeight="normal",
            titlePadding=8,
        )
        .configure_legend(labelColor=INK, labelFontSize=12, symbolStrokeWidth=0, symbolOpacity=1, columnPadding=22)
    )
    svg: str = vl_convert.vegalite_to_svg(styled.to_dict(validate=False))
    svg = re.sub(r' (?:aria-label|aria-roledescription|role)="[^"]*"', "", svg)
    body = re.sub(r"<svg[^>]*?(viewBox=\"[^\"]*\")[^>]*>", r'<svg {} \1 role="img">', svg, count=1)
    box = re.search(r'viewBox="0 0 ([\d.]+) ', svg)
    label = f'class="chart" data-width="{float(box[1]):.0f}"' if box else 'class="chart"'
    alternative = f"<title>{escape(title)}</title><desc>{escape(description)}</desc>"
    return body.replace("<svg {}", f"<svg {label}", 1).replace('role="img">', f'role="img">{alternative}', 1)
