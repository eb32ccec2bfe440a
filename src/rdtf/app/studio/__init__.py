"""The web page.

`storyboard` and `session` hold its state, `html` shows it, `make_handlers` and `handlers` answer
its events; `page` and `make_tab` lay it out with Gradio.
"""
