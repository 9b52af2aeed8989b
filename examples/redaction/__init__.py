"""Redaction of documents that must be shared: the application that the demo runs.

The modules here are pure (text in, findings out) but for `inputs`, `reading` and `output`, which
touch files, and the agents, which touch the mesh. Names are found only where the input declares
them; there is no free-text name recognition.
"""
