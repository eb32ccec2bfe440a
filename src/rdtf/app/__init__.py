"""Serving a model: one queue of jobs for the studio and the REST interface.

The core (`limits`, `jobs`, `runner`, `store`, `uploads`, `spec`) knows no web framework; `api` is a
thin FastAPI layer over it, `rdtf.app.studio` a thin Gradio one.
"""
