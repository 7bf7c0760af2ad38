"""Where bytes lie: files, archives, object stores, packages, and how large ones are cut into parts.

Knows nothing of what the bytes mean; kinds of data say which names they accept.
"""
