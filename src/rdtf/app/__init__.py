"""Serving a model: one queue of jobs for REST and the studio.

`core`, `jobs`, `runner`, `store` and `spec` know no web framework; `api`, with `schema`, `requests`
and `guard`, is a thin FastAPI layer over them, `rdtf.app.studio` a thin Gradio one.
"""
