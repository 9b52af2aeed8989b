"""`sealbus policy`: what operators do with the policy file before it is published.

Pure modules decide; `commands`, `signing_commands`, `files` and `recorded` read, write and print.
"""
