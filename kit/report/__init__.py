"""Reports of a submission: gathered once, shown as HTML, Markdown or JSON."""

from kit.report.collect import Report, collect, data_folder_of
from kit.report.html import render
from kit.report.markdown import render_markdown

__all__ = ["Report", "collect", "data_folder_of", "render", "render_markdown"]
