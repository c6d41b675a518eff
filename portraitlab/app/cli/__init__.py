"""Commands of `portraitlab` on existing runs, photos and tables, one module each.

A command's module has a docstring, whose first line is its help, `add_arguments(parser)` and
`run(given)`. It is imported only when the command is called, so heavy imports are allowed.
"""
