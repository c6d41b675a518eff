"""`portraitlab COMMAND`: what is done with runs once they are there; one module a command.

A command's module has a docstring whose first line is its help, `add_arguments(parser)` and
`run(given)`. It is imported only when its command is called, so it may import what it needs.
"""
