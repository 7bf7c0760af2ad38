"""Access to source files: local files, archives, object stores and packages, and cutting large ones into parts.

Independent of the contents of files; kinds of data specify which file names they accept.
"""
