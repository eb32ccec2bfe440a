"""The web page.

`storyboard`, `editor`, `session` and `exports` hold its state, `html` shows it, `make_handlers` and
`handlers` answer its events. `page` and `make_tab` lay it out with Gradio; `mount` serves it.
"""
