"""The annotation page: click on a few pictures, see masks on all of them.

`annotations`, `methods` and `workspace` know nothing of the page and need no Gradio.
"""
