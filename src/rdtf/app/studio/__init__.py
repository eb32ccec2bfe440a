"""The web page.

`board`, `edits`, `editor`, `session`, `packing`, `exporting` and `shelf` know no web framework;
`markup` turns them into HTML, `handlers` answers the page's events, `page` lays it out with Gradio.
"""
