"""Serving a model: one queue of jobs for REST and the studio.

`core`, `jobs`, `runner` and `store` know no web framework; `api`, with `requests` and `guard`, is a
thin FastAPI layer over them, `rdtf.app.studio` a thin Gradio one. What a client asks in vain is a
`ServiceError`, what a user of the program does a `UserError`.
"""
