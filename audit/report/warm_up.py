"""What a process does once before its first page, done while it waits for something else."""

from __future__ import annotations

import logging

log = logging.getLogger("audit")


def warm_up() -> None:
    """Import the charts, compile the templates and start Vega: about a second, on which no answer depends."""
    try:
        import vl_convert

        from audit.report.html import page_environment

        environment = page_environment()
        for name in environment.list_templates(filter_func=lambda name: name.endswith((".html.j2", ".svg.j2"))):
            environment.get_template(name)
        vl_convert.vegalite_to_svg({"mark": "point", "data": {"values": []}})
    except Exception:  # whatever is wrong, the page says it
        log.debug("The report could not be prepared", exc_info=True)
