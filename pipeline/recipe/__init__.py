"""The recipe: settings of every section, how a file is read, laid over, checked, and what its errors say.

Needs no torch.
"""
