"""Single changes to behaviour, each of which a test must notice.

    changes/        the changes by area: file, exact text, what takes its place, the tests that must fail
    table.py        all of them
    __main__.py     tries them:  python -m tests.mutations [WORD …]

A change is made in a copy of the tree, one at a time, and its tests are run there. `make test-all` tries all of them.
"""
